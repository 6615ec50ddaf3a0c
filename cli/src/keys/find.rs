//! Finds the record that an operator means.

use http::Method;
use semel_core::key::{Key, KeyRules};
use semel_core::record::{RecordId, RecordView};
use semel_core::store::{AnyStore, Query};
use semel_driver::Address;

use crate::args::Which;
use crate::exit::{Exit, Fault};

/// The shortest beginning of an id that is looked for.
const SHORTEST: usize = 6;

/// The record by its id or its key.
///
/// # Errors
///
/// There is none, the beginning fits several, or what was given is neither.
pub(super) async fn find(store: &AnyStore, which: &Which) -> Result<RecordView, Fault> {
    let id = match (&which.id, &which.key) {
        (Some(id), _) => by_beginning(store, id).await?,
        (None, Some(key)) => by_key(store, key, which)?,
        (None, None) => return Err(Fault::usage("name a record by its ID or with --key")),
    };
    store.inspect(&id).await?.ok_or_else(|| {
        let hint = match which.key {
            Some(_) => ": its namespace, principal or endpoint may be another than those given",
            None => "",
        };
        none(format!("there is no record {id}{hint}"))
    })
}

fn none(text: String) -> Fault {
    Fault::new(Exit::Negative, text)
}

async fn by_beginning(store: &AnyStore, text: &str) -> Result<RecordId, Fault> {
    let text = text.to_ascii_lowercase();
    let lowest = (text.len() >= SHORTEST && text.len() <= 64)
        .then(|| RecordId::from_hex(&format!("{text:0<64}")))
        .flatten()
        .ok_or_else(|| {
            Fault::usage(format!(
                "{text:?} is no record id: write its 64 hexadecimal digits, or at least the first {SHORTEST}"
            ))
        })?;
    if text.len() == 64 {
        return Ok(lowest);
    }
    let query = Query { state: None, after: before(&lowest), limit: 2 };
    let found = store.list(&query).await?.records;
    let mut fitting = found.iter().map(|view| view.id).filter(|id| id.to_string().starts_with(&text));
    match (fitting.next(), fitting.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => {
            Err(Fault::usage(format!("more than one record's id begins with {text}: write more of it")))
        }
        (None, _) => Err(none(format!("no record's id begins with {text}"))),
    }
}

/// The id just below, so that a list that goes on behind it begins with `id`; `None` for the lowest one.
fn before(id: &RecordId) -> Option<RecordId> {
    let mut bytes = *id.as_bytes();
    for byte in bytes.iter_mut().rev() {
        let (lower, borrowed) = byte.overflowing_sub(1);
        *byte = lower;
        if !borrowed {
            return Some(RecordId::from_bytes(bytes));
        }
    }
    None
}

fn by_key(store: &AnyStore, key: &str, which: &Which) -> Result<RecordId, Fault> {
    let key = read_key(key)?;
    let namespace = match (&which.namespace, &which.upstream) {
        (Some(namespace), _) => namespace.clone(),
        (None, Some(upstream)) => crate::upstream::namespace(&crate::upstream::parse(upstream)?),
        (None, None) => {
            return Err(Fault::usage(
                "--key needs to know the namespace: give --upstream as the proxy has it, or --namespace",
            ));
        }
    };
    let mut address = Address::key(key.as_str());
    if let Some(principal) = &which.principal {
        address = address.principal(principal.as_bytes());
    }
    if let Some(endpoint) = &which.endpoint {
        let (method, path) = read_endpoint(endpoint)?;
        address = address.endpoint(method, path);
    }
    Ok(address.record_id(store.secret(), &namespace))
}

/// As in the field: quoted or bare. What is neither is taken as it stands, for a quoted key may hold blanks.
fn read_key(text: &str) -> Result<Key, Fault> {
    let key = if text.starts_with('"') {
        KeyRules::default().parse_value(text.as_bytes())
    } else {
        Key::from_text(text)
    };
    key.map_err(|error| Fault::usage(format!("--key: {error}")))
}

fn read_endpoint(text: &str) -> Result<(Method, String), Fault> {
    let parts = text.split_once(' ').filter(|(_, path)| path.starts_with('/'));
    let parsed = parts.and_then(|(method, path)| Some((method.parse().ok()?, path.to_owned())));
    parsed.ok_or_else(|| Fault::usage("--endpoint: write method and path, such as 'POST /orders'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_below_borrows_across_bytes() {
        let id = RecordId::from_hex(&format!("{:0<64}", "ab0100")).unwrap();
        let below = before(&id).unwrap().to_string();
        assert_eq!(below, format!("ab00{}", "f".repeat(60)));
        assert_eq!(before(&RecordId::from_bytes([0; 32])), None);
    }

    #[test]
    fn keys_as_the_field_has_them() {
        assert_eq!(read_key("order-1").unwrap().as_str(), "order-1");
        assert_eq!(read_key("\"order-1\"").unwrap().as_str(), "order-1");
        assert_eq!(read_key("two words").unwrap().as_str(), "two words");
        assert_eq!(read_key("\"open").unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn an_endpoint_is_a_method_and_a_path() {
        assert_eq!(read_endpoint("POST /orders").unwrap(), (Method::POST, "/orders".to_owned()));
        for text in ["POST", "/orders", "POST orders", ""] {
            assert!(read_endpoint(text).is_err(), "{text}");
        }
    }
}
