//! What a URL asks of TLS, and what is wrong when it does not come about.

use std::io;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// The options as PostgreSQL's own programs read them, or why they cannot be had.
///
/// `built`: whether this program speaks TLS.
pub(crate) fn asked(options: PgConnectOptions, built: bool) -> Result<PgConnectOptions, String> {
    let mode = options.get_ssl_mode();
    let name = match mode {
        PgSslMode::Require => "require",
        PgSslMode::VerifyCa => "verify-ca",
        PgSslMode::VerifyFull => "verify-full",
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer => return Ok(options),
    };
    if !built {
        return Err(format!(
            "sslmode={name} asks for TLS, and this program was built without it: build it with the feature `tls`"
        ));
    }
    let url = options.to_url_lossy();
    let root = url.query_pairs().find(|(name, _)| name == "sslrootcert").map(|(_, value)| value);
    if let Some(path) = root.as_ref().and_then(|root| root.strip_prefix("file: "))
        && let Err(error) = std::fs::metadata(path)
    {
        return Err(format!("the file of sslrootcert cannot be read: {error}"));
    }
    match (mode, root) {
        // As libpq does: whoever names an authority means it.
        (PgSslMode::Require, Some(_)) => Ok(options.ssl_mode(PgSslMode::VerifyCa)),
        // Without, every certificate of every public authority would do.
        (PgSslMode::VerifyCa, None) => {
            Err("sslmode=verify-ca needs sslrootcert, the authority's certificate: or write verify-full"
                .into())
        }
        _ => Ok(options),
    }
}

/// What an error of the connection says about the server's certificate, if it does.
#[cfg(feature = "tls")]
pub(crate) fn handshake(error: &io::Error) -> Option<String> {
    use rustls::{CertificateError as Certificate, Error};
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        // A bad signature: of an authority of the same name.
        Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            "the server's certificate is not of an authority that is known: name its authority by sslrootcert"
                .into()
        }
        Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => "the server's certificate is for another host name: connect by the name that it was made for"
            .into(),
        Error::InvalidCertificate(why) => format!("the server's certificate is not valid: {why}"),
        other => format!("TLS with the server failed: {other}"),
    })
}

#[cfg(not(feature = "tls"))]
pub(crate) fn handshake(_error: &io::Error) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(query: &str) -> PgConnectOptions {
        format!("postgres://db/app?{query}").parse().unwrap_or_else(|error| panic!("{error}"))
    }

    // Whoever asks for TLS must not find out by a packet trace that there was none.
    #[test]
    fn what_cannot_be_had_is_refused_by_its_name() {
        for mode in ["require", "verify-ca", "verify-full"] {
            let refused = asked(options(&format!("sslmode={mode}")), false);
            let text = refused.err().unwrap_or_default();
            assert!(text.contains(mode) && text.contains("feature `tls`"), "{text}");
        }
        for mode in ["disable", "allow", "prefer"] {
            assert!(asked(options(&format!("sslmode={mode}")), false).is_ok(), "{mode}");
        }
        assert!(asked(options("sslmode=verify-ca"), true).is_err_and(|text| text.contains("sslrootcert")));
        let missing = asked(options("sslmode=verify-full&sslrootcert=/no/such/file"), true);
        assert!(missing.is_err_and(|text| text.contains("sslrootcert")));
    }

    // An authority that was named and not looked at would be worse than none.
    #[test]
    fn an_authority_that_is_named_is_meant() {
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let options = asked(options(&format!("sslmode=require&sslrootcert={here}")), true);
        assert!(options.is_ok_and(|options| matches!(options.get_ssl_mode(), PgSslMode::VerifyCa)));
    }
}
