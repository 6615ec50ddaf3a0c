//! Addresses to listen on.

use std::net::{Ipv4Addr, SocketAddr};

/// Reads `127.0.0.1:8080`, `[::1]:8080`, and `localhost:8080` or `:8080`, which are 127.0.0.1.
///
/// Names are not looked up: one that has several addresses would listen on one of them.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix("localhost").unwrap_or(text).strip_prefix(':');
    match port.and_then(|port| port.parse().ok()) {
        Some(port) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        None => text.parse().map_err(|_| {
            "write an IP address and a port, such as 127.0.0.1:8080, [::1]:8080, or 0.0.0.0:8080 for all of IPv4"
                .to_owned()
        }),
    }
}

/// An address, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdminAddress {
    Off,
    At(SocketAddr),
}

impl std::str::FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            text => address(text).map(Self::At).map_err(|advice| advice + ", or off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // `:8080` is every interface to some programs: here a slip opens nothing to the network.
    #[test]
    fn short_forms_are_this_machine_alone() {
        for text in ["127.0.0.1:8080", "localhost:8080", ":8080"] {
            assert_eq!(address(text), Ok(([127, 0, 0, 1], 8080).into()), "{text}");
        }
        assert_eq!(address("[::1]:0"), Ok(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0))));
        assert_eq!("off".parse(), Ok(AdminAddress::Off));
        assert_eq!(":81".parse(), Ok(AdminAddress::At(([127, 0, 0, 1], 81).into())));
    }

    #[test]
    fn what_is_no_address_says_what_to_write() {
        for text in [
            "",
            "8080",
            ":",
            "localhost",
            "localhost:",
            "localhost8080",
            "shop.example:80",
            ":70000",
            "::1:80:",
        ] {
            assert!(address(text).unwrap_err().contains("127.0.0.1:8080"), "{text}");
        }
        assert!("of".parse::<AdminAddress>().unwrap_err().ends_with("or off"));
    }
}
