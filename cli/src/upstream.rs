//! The application's address, and the namespace that is made from it.

use semel_gateway::UpstreamUrl;

use crate::exit::Fault;

/// Reads `--upstream`.
pub(crate) fn parse(text: &str) -> Result<UpstreamUrl, Fault> {
    text.parse().map_err(|error: semel_gateway::ConfigError| Fault::config(format!("--{error}")))
}

/// The proxy's namespace where none is set: another than the library's, so that a proxy before an application
/// that uses Semel on the same store does not meet its own records.
pub(crate) fn namespace(upstream: &UpstreamUrl) -> String {
    format!("proxy:{}", upstream.authority().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    // Records are found by it: a change makes every live key new.
    #[test]
    fn the_namespace_is_the_upstreams_authority() {
        for (url, expected) in [
            ("http://127.0.0.1:3000", "proxy:127.0.0.1:3000"),
            ("http://Shop.Example:80/base/", "proxy:shop.example:80"),
            ("h2c://[::1]:9", "proxy:[::1]:9"),
        ] {
            assert_eq!(namespace(&parse(url).unwrap()), expected);
        }
    }

    #[test]
    fn a_bad_url_names_the_flag() {
        let fault = parse("localhost:3000").unwrap_err();
        assert_eq!(fault.exit(), Exit::Config);
        assert!(fault.to_string().starts_with("--upstream: "), "{fault}");
    }
}
