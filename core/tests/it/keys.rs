//! Every field value of `sf-vectors.json`, strict and lenient, as a request and as raw octets.

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use semel_core::key::{Key, KeyError, KeyRules, KeySyntax};
use serde_json::Value;

const VECTORS: &str = include_str!("../data/sf-vectors.json");

struct Vector {
    id: String,
    lines: Vec<Vec<u8>>,
    strict: Option<String>,
    lenient: Option<String>,
}

fn vectors() -> Vec<Vector> {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    let key = |value: &Value| value.as_str().map(str::to_owned);
    let vectors = file["vectors"].as_array().unwrap();
    vectors
        .iter()
        .map(|vector| Vector {
            id: vector["id"].as_str().unwrap().to_owned(),
            lines: vector["lines"]
                .as_array()
                .unwrap()
                .iter()
                .map(|line| latin1(line.as_str().unwrap()))
                .collect(),
            strict: key(&vector["strict"]),
            lenient: key(&vector["lenient"]),
        })
        .collect()
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).unwrap()).collect()
}

fn rules(syntax: KeySyntax) -> KeyRules {
    KeyRules { syntax, ..KeyRules::default() }
}

fn text(key: Result<Key, KeyError>) -> Option<String> {
    key.ok().map(|key| key.as_str().to_owned())
}

/// Octets that no `HeaderValue` holds never reach the parser: the server refuses such a request itself.
fn as_request(rules: &KeyRules, lines: &[Vec<u8>]) -> Option<String> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(&rules.field, HeaderValue::from_bytes(line).ok()?);
    }
    text(rules.parse(&headers).map(|key| key.expect("a line was sent")))
}

#[test]
fn requests_are_read_as_the_vectors_say() {
    let vectors = vectors();
    assert!(vectors.len() > 30);
    for Vector { id, lines, strict, lenient } in vectors {
        assert_eq!(as_request(&rules(KeySyntax::Strict), &lines), strict, "{id}, strict");
        assert_eq!(as_request(&rules(KeySyntax::Lenient), &lines), lenient, "{id}, lenient");
    }
}

// Through a `HeaderValue` alone, DEL and its like would never meet our own parser.
#[test]
fn raw_octets_are_read_as_the_vectors_say() {
    for Vector { id, lines, strict, lenient } in vectors() {
        if let [line] = lines.as_slice() {
            assert_eq!(text(rules(KeySyntax::Strict).parse_value(line)), strict, "{id}, strict");
            assert_eq!(text(rules(KeySyntax::Lenient).parse_value(line)), lenient, "{id}, lenient");
        }
    }
}

#[test]
fn two_equal_lines_are_still_two() {
    let mut headers = HeaderMap::new();
    let field = HeaderName::from_static("idempotency-key");
    headers.append(&field, HeaderValue::from_static("\"k\""));
    headers.append(&field, HeaderValue::from_static("\"k\""));
    assert_eq!(KeyRules::default().parse(&headers), Err(KeyError::SeveralLines { lines: 2 }));
    assert_eq!(KeyRules::default().parse(&HeaderMap::new()), Ok(None));
}

proptest! {
    #[test]
    fn every_key_that_exists_can_be_sent_quoted(text in "[ -~]{1,255}") {
        let wire = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        for syntax in [KeySyntax::Strict, KeySyntax::Lenient] {
            let key = rules(syntax).parse_value(wire.as_bytes()).unwrap();
            prop_assert_eq!(key.as_str(), text.as_str());
        }
    }

    // A proxy that adds the quotes must not turn a retry into a second run.
    #[test]
    fn a_bare_key_is_its_quoted_form(text in "[A-Za-z0-9._~+/=-][A-Za-z0-9._~+/=:@-]{0,254}") {
        let bare = rules(KeySyntax::Lenient).parse_value(text.as_bytes()).unwrap();
        let quoted = rules(KeySyntax::Lenient).parse_value(format!("\"{text}\"").as_bytes()).unwrap();
        prop_assert_eq!(bare, quoted);
        prop_assert_eq!(rules(KeySyntax::Strict).parse_value(text.as_bytes()), Err(KeyError::NotAString));
    }

    #[test]
    fn no_octets_panic_and_all_keys_are_printable(value in prop::collection::vec(any::<u8>(), 0..300)) {
        for syntax in [KeySyntax::Strict, KeySyntax::Lenient] {
            if let Ok(key) = rules(syntax).parse_value(&value) {
                prop_assert!((1..=255).contains(&key.as_str().len()));
                prop_assert!(key.as_str().bytes().all(|octet| (b' '..=b'~').contains(&octet)));
            }
        }
    }

    #[test]
    fn strict_is_a_part_of_lenient(value in "[ \"\\\\a-c;=1,]{0,12}") {
        if let Ok(key) = rules(KeySyntax::Strict).parse_value(value.as_bytes()) {
            prop_assert_eq!(rules(KeySyntax::Lenient).parse_value(value.as_bytes()), Ok(key));
        }
    }
}
