//! The same request sent again has the same print, and every other request another one.

mod model;
#[cfg(feature = "jsonpath")]
mod paths;

use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;
use semel_core::fingerprint::{
    BadSettings, BodyDigest, BodyHasher, BodyMode, Exclusion, FingerprintSettings, HostMode, Pointer,
    RequestHead,
};
use semel_core::identity::Secret;
use semel_core::record::Fingerprint;

use model::{Style, any_json, changes, spell};

fn json_fields() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

fn head<'a>(method: &'a Method, headers: &'a HeaderMap) -> RequestHead<'a> {
    RequestHead { method, authority: Some("api.example"), path: "/orders", query: Some("a=1"), headers }
}

fn print_with(settings: &FingerprintSettings, headers: &HeaderMap, body: &[u8]) -> Fingerprint {
    settings.of_whole(&Secret::from_bytes([1; 32]), &head(&Method::POST, headers), body)
}

fn print(body: impl AsRef<[u8]>) -> Fingerprint {
    print_with(&FingerprintSettings::default(), &json_fields(), body.as_ref())
}

fn digest(body: &[u8]) -> BodyDigest {
    BodyHasher::new(&FingerprintSettings::default(), &json_fields()).finish(body)
}

fn is_json(body: &[u8]) -> bool {
    format!("{:?}", digest(body)) == "BodyDigest(json/sha256)"
}

fn excluding(pointers: &[&str]) -> FingerprintSettings {
    let exclude = pointers.iter().map(|pointer| pointer.parse().unwrap()).collect();
    FingerprintSettings { exclude, ..FingerprintSettings::default() }
}

#[test]
fn spellings_of_one_value_are_one_request() {
    for equal in [
        &[r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#, " {\n\t\"b\" : 2 ,\r\n \"a\" : 1 }\n"][..],
        &[r#""é/😀""#, r#""\u00e9\/\ud83d\ude00""#, r#""\u00E9/\uD83D\uDE00""#],
        &[r#"{"a":1}"#, r#"{"\u0061":1.0}"#, r#"{"a":10e-1}"#],
        &["0", "-0", "0e9", "-0.0"],
        &["[1e400]", "[10E+399]"],
        &[r#"{"a":1,"b":0,"a":2}"#, r#"{"b":0,"a":1,"a":2}"#],
        &[r#"{"a":{"y":[],"x":{}},"":null}"#, r#"{"":null,"a":{"x":{},"y":[]}}"#],
    ] {
        for other in equal {
            assert!(is_json(other.as_bytes()), "{other}");
            assert_eq!(print(equal[0]), print(other), "{} and {other}", equal[0]);
        }
    }
}

#[test]
fn other_values_are_other_requests() {
    let distinct = [
        "9007199254740992",
        "9007199254740993",
        "1e400",
        "1e401",
        "1",
        r#""1""#,
        "null",
        r#""null""#,
        "true",
        "false",
        "0",
        r#""""#,
        "[]",
        "{}",
        "[[]]",
        "[{}]",
        "[1,2]",
        "[2,1]",
        "[12]",
        r#"["1,2"]"#,
        r#"["1","2"]"#,
        "[[1],2]",
        "[[1,2]]",
        "[1,[2]]",
        r#"{"a":null}"#,
        r#"{"a":1}"#,
        r#"{"A":1}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"a":2,"a":1}"#,
        r#"{"a":2}"#,
        r#"{"a":{"b":1}}"#,
        r#"{"a":{},"b":1}"#,
        r#"{"a":"b"}"#,
        r#"{"a":["b"]}"#,
        // Equal to the eye, composed and decomposed: no normal form is guessed.
        r#""\u00e9""#,
        r#""e\u0301""#,
    ];
    for (at, one) in distinct.iter().enumerate() {
        assert!(is_json(one.as_bytes()), "{one}");
        for other in &distinct[..at] {
            assert_ne!(print(one), print(other), "{one} and {other}");
        }
    }
}

// A gateway that judged them by meaning would have to guess what the application's parser makes of them.
#[test]
fn what_is_not_json_is_compared_byte_by_byte() {
    let deep = format!("{}{}", "[".repeat(129), "]".repeat(129));
    for text in [
        &b""[..],
        b" ",
        b"{\"a\":1,}",
        b"{'a':1}",
        b"{a:1}",
        b"[1,]",
        b"[1 2]",
        b"1 2",
        b"{}x",
        b"nul",
        b"nullx",
        b"NaN",
        b"01",
        b"\"a",
        b"\"\t\"",
        b"\"\\x\"",
        b"\"\\ud800\"",
        b"\"\\udc00\\ud800\"",
        b"\"\\ud800\\u0041\"",
        b"\"\\ud800\\ue000\"",
        b"\"\\u12\"",
        b"\"\\u+123\"",
        b"\"\xff\"",
        b"\xef\xbb\xbf{}",
        b"{\"a\"}",
        b"{\"a\":1",
        b"[}",
        b"\x0c1",
        b"1e1000000000000000000",
        deep.as_bytes(),
    ] {
        assert!(!is_json(text), "{}", text.escape_ascii());
        let spaced = [text, b" "].concat();
        assert_ne!(print(text), print(&spaced), "{}", text.escape_ascii());
    }
}

#[test]
fn the_content_type_decides_what_is_json() {
    let same = |lines: &[&str]| {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CONTENT_TYPE, HeaderValue::from_str(line).unwrap());
        }
        let print = |body| print_with(&FingerprintSettings::default(), &headers, body);
        print(b"{\"a\":1}") == print(b"{ \"a\": 1 }")
    };
    for json in [
        "application/json",
        "Application/JSON ; charset=utf-8",
        "text/json",
        "application/problem+json",
        "application/vnd.api+json;v=1",
        "model/gltf+json",
    ] {
        assert!(same(&[json]), "{json}");
    }
    for other in [
        "text/plain",
        "application/jsonp",
        "image/json",
        "json",
        "+json",
        "/a+json",
        "application/json, text/a+json",
    ] {
        assert!(!same(&[other]), "{other}");
    }
    assert!(!same(&[]));
    assert!(!same(&["application/json", "application/json"]));
}

#[test]
fn every_part_of_the_request_counts() {
    let secret = Secret::from_bytes([1; 32]);
    let fields = json_fields();
    let text = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/json"))]);
    let none = HeaderMap::new();
    let base = head(&Method::POST, &fields);
    let settings = FingerprintSettings::default();
    let of = |head: RequestHead<'_>| settings.of_whole(&secret, &head, b"{}");
    let distinct = [
        of(base),
        of(RequestHead { method: &Method::PATCH, ..base }),
        of(RequestHead { authority: Some("api.example:443"), ..base }),
        of(RequestHead { authority: None, ..base }),
        of(RequestHead { path: "/orders/", ..base }),
        of(RequestHead { path: "/orders?a=1", query: None, ..base }),
        of(RequestHead { query: None, ..base }),
        of(RequestHead { query: Some(""), ..base }),
        of(RequestHead { query: Some("a=1&"), ..base }),
        of(RequestHead { headers: &text, ..base }),
        of(RequestHead { headers: &none, ..base }),
        settings.of_whole(&Secret::from_bytes([2; 32]), &base, b"{}"),
    ];
    for (at, one) in distinct.iter().enumerate() {
        assert!(!distinct[..at].contains(one), "{at}");
    }
    assert_eq!(of(base), of(RequestHead { authority: Some("API.Example"), ..base }));

    let any = FingerprintSettings { host: HostMode::Any, ..FingerprintSettings::default() };
    let other = RequestHead { authority: Some("other.example"), ..base };
    assert_eq!(any.of_whole(&secret, &base, b"{}"), any.of_whole(&secret, &other, b"{}"));
    assert_ne!(any.of_whole(&secret, &base, b"{}"), any.of_whole(&secret, &base, b"[]"));
}

// Prints outlive the version that made them. The value was worked out apart from this code.
#[test]
fn a_print_does_not_change_between_versions() {
    let expected = "9a8a81954783fad4a87c9b1545caf570e52a6b85a97ad01b55228254d6727778";
    assert_eq!(print("{ \"a\": 1.0 }").to_string(), expected);
}

// A client library builds `Content-Type` anew at each try; a boundary or charset is no other request.
#[test]
fn parameters_of_the_content_type_do_not_count() {
    let fields = |value| HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
    let print = |value| print_with(&FingerprintSettings::default(), &fields(value), b"x");
    assert_eq!(print("text/plain"), print("Text/Plain; charset=utf-8"));
    assert_ne!(print("text/plain"), print("text/html"));
}

#[test]
fn fields_count_where_they_are_named() {
    let region = HeaderName::from_static("x-region");
    let settings = FingerprintSettings { headers: vec![region.clone()], ..FingerprintSettings::default() };
    let with = |values: &[&'static str]| {
        let mut headers = json_fields();
        for value in values {
            headers.append(&region, HeaderValue::from_static(value));
        }
        headers
    };
    let prints = [&[][..], &[""], &["eu"], &["us"], &["eu", "us"], &["us", "eu"], &["eu, us"]]
        .map(|values| print_with(&settings, &with(values), b"{}"));
    for (at, one) in prints.iter().enumerate() {
        assert!(!prints[..at].contains(one), "{at}");
    }
    assert_eq!(print("{}"), print_with(&FingerprintSettings::default(), &with(&["eu"]), b"{}"));
}

// Without counts, a value that is the next field's name would move from one field to the other.
#[test]
fn values_do_not_move_between_fields() {
    let [a, b] = ["x-a", "x-b"].map(HeaderName::from_static);
    let settings = FingerprintSettings { headers: vec![a.clone(), b.clone()], ..Default::default() };
    let print = |fields: &[(&HeaderName, &'static str)]| {
        let mut headers = json_fields();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        print_with(&settings, &headers, b"{}")
    };
    assert_ne!(print(&[(&a, "1"), (&a, "x-b"), (&b, "2")]), print(&[(&a, "1"), (&b, "x-b"), (&b, "2")]));
}

#[test]
fn modes_compare_less_or_more() {
    let print = |body, text: &[u8]| {
        print_with(&FingerprintSettings { body, ..FingerprintSettings::default() }, &json_fields(), text)
    };
    assert_ne!(print(BodyMode::Raw, b"{}"), print(BodyMode::Raw, b"{ }"));
    assert_eq!(print(BodyMode::Off, b"{}"), print(BodyMode::Off, b"other"));
    assert_ne!(print(BodyMode::Off, b""), print(BodyMode::Raw, b""));
    assert_ne!(print(BodyMode::Json, b"{}"), print(BodyMode::Raw, b"{}"));
}

#[cfg(feature = "blake3")]
#[test]
fn blake3_compares_the_same_and_prints_otherwise() {
    use semel_core::fingerprint::Hash;
    let settings = FingerprintSettings { hash: Hash::Blake3, ..FingerprintSettings::default() };
    let print3 = |body: &[u8]| print_with(&settings, &json_fields(), body);
    assert_eq!(print3(b"{\"a\":1}"), print3(b"{ \"a\":1.0 }"));
    assert_ne!(print3(b"{}"), print3(b"[]"));
    assert_ne!(print3(b"{}"), print("{}"));
    assert_eq!(FingerprintSettings::from_settings(&settings.to_settings()), Ok(settings));
}

#[test]
fn members_are_left_out_wherever_the_pointer_leads() {
    let equal = |pointers: &[&str], one: &str, other: &str| {
        let print = |body: &str| print_with(&excluding(pointers), &json_fields(), body.as_bytes());
        print(one) == print(other)
    };
    let meta = &["/meta/ts"][..];
    assert!(equal(meta, r#"{"meta":{"ts":1,"x":2}}"#, r#"{"meta":{"x":2,"ts":{"deep":[1,{"ts":2}]}}}"#));
    assert!(equal(meta, r#"{"meta":{"ts":1}}"#, r#"{"meta":{}}"#));
    assert!(equal(meta, r#"{"meta":{"ts":1,"x":0,"ts":2}}"#, r#"{"meta":{"x":0}}"#));
    assert!(equal(meta, r#"{"m\u0065ta":{"t\u0073":1}}"#, r#"{"meta":{}}"#));
    assert!(equal(meta, r#"{"meta":{"ts":1},"meta":{"ts":2}}"#, r#"{"meta":{},"meta":{}}"#));
    assert!(!equal(meta, r#"{"meta":{"x":1}}"#, r#"{"meta":{"x":2}}"#));
    assert!(!equal(meta, r#"{"ts":1}"#, r#"{"ts":2}"#));
    assert!(!equal(meta, r#"{"meta":{"meta":{"ts":1}}}"#, r#"{"meta":{"meta":{"ts":2}}}"#));
    assert!(!equal(meta, r#"{"meta":[{"ts":1}]}"#, r#"{"meta":[{"ts":2}]}"#));
    assert!(!equal(meta, r#"{"meta":{"ts":1}}"#, "{}"));
    assert!(!equal(meta, r#"{"a":[1],"meta":{"a":{"ts":1}}}"#, r#"{"a":[1],"meta":{"a":{"ts":2}}}"#));

    // A pointer that led into a scalar must not lead into the next value.
    assert!(!equal(meta, r#"{"meta":1,"next":{"ts":1}}"#, r#"{"meta":1,"next":{"ts":2}}"#));

    let item = &["/items/1/id", "/0"][..];
    assert!(equal(item, r#"{"items":[{"id":1},{"id":2}]}"#, r#"{"items":[{"id":1},{"id":3}]}"#));
    assert!(!equal(item, r#"{"items":[{"id":1},{"id":2}]}"#, r#"{"items":[{"id":0},{"id":2}]}"#));
    assert!(equal(item, r#"{"items":{"1":{"id":2}}}"#, r#"{"items":{"1":{}}}"#));
    assert!(equal(item, "[1,2]", "[[7],2]"));
    assert!(!equal(item, "[1,2]", "[1,3]"));

    // A long sibling becomes a digest; leaving out has to come before that.
    let long = "x".repeat(400);
    let with = |ts: u8| format!(r#"{{"meta":{{"long":"{long}","ts":{ts}}}}}"#);
    assert!(equal(meta, &with(1), &with(2)));
    assert!(!equal(&[], &with(1), &with(2)));

    let overlapping = &["/a", "/a/b", "/a"][..];
    assert!(equal(overlapping, r#"{"a":{"b":1},"c":0}"#, r#"{"c":0}"#));
    assert!(equal(&[""], "[1]", "{}"));
    assert!(!equal(&[""], "[1]", "[1"));
    assert!(equal(&["/a~1b"], r#"{"a/b":1}"#, "{}"));
}

#[test]
fn what_is_left_out_must_still_be_json() {
    let print = |body: &str| print_with(&excluding(&["/a"]), &json_fields(), body.as_bytes());
    assert_ne!(print(r#"{"a":01}"#), print(r#"{"a":02}"#));
}

// What begins like neither is a slip for one of the two: it must not be taken for some pointer.
#[test]
fn what_is_neither_pointer_nor_path_says_how_both_are_written() {
    for text in ["meta", "@.meta", " /meta", "#/meta"] {
        let error = text.parse::<Exclusion>().unwrap_err().to_string();
        assert!(error.contains("/meta/ts") && error.contains("$..ts"), "{text}: {error}");
    }
    assert!("/~2".parse::<Exclusion>().unwrap_err().to_string().contains("~1"));
    let path = "$..ts".parse::<Exclusion>();
    assert_eq!(path.is_ok(), cfg!(feature = "jsonpath"), "{path:?}");
    if let Err(error) = path {
        assert!(error.to_string().contains("feature `jsonpath`"), "{error}");
    }
}

#[test]
fn settings_of_another_version_or_build_are_refused() {
    assert_eq!(FingerprintSettings::from_settings("2;json"), Err(BadSettings::Version));
    assert_eq!(FingerprintSettings::from_settings(""), Err(BadSettings::Version));
    for (text, number) in [
        ("1", 2),
        ("1;xml", 2),
        ("1;json;", 3),
        ("1;json;host=any;x=a", 4),
        ("1;json;x=/%zz", 3),
        ("1;json;x=/%e", 3),
        ("1;json;x=/%é", 3),
        ("1;json;h=a b", 3),
        ("1;json;hash=md5", 3),
        ("1;json;host=some", 3),
    ] {
        assert_eq!(FingerprintSettings::from_settings(text), Err(BadSettings::Part { number }), "{text}");
    }
}

// These texts are in tables already written: they must keep their meaning.
#[test]
fn the_text_of_settings_does_not_change() {
    assert_eq!(&*FingerprintSettings::default().to_settings(), "1;json");
    let settings = FingerprintSettings {
        body: BodyMode::Raw,
        exclude: vec!["/a;b%".parse().unwrap(), Pointer::default().into()],
        headers: vec![HeaderName::from_static("x-a")],
        host: HostMode::Any,
        ..FingerprintSettings::default()
    };
    assert_eq!(&*settings.to_settings(), "1;raw;x=/a%3bb%25;x=;h=x-a;host=any");
}

// Each of these made some parser quadratic, or overflowed its stack. Nothing is timed: a quadratic one
// would hold the suite up for minutes.
#[test]
fn a_mebibyte_of_the_worst_is_read_to_its_end() {
    let size = 1 << 20;
    let fill = |unit: &str| unit.repeat(size / unit.len());
    let numbered = |member: &dyn Fn(usize) -> String| {
        let members: Vec<_> = (0..size / 12).rev().map(member).collect();
        format!("{{{}}}", members.join(","))
    };
    let nest = |leaf: String| (0..127).fold(leaf, |inner, _| format!(r#"{{"z":{inner},"a":0}}"#));
    let json = [
        numbered(&|at| format!(r#""{at:06}":1"#)),
        numbered(&|at| format!(r#""same":{}"#, at % 10)),
        format!("[{}0]", fill("0,")),
        format!("[{}{{}}]", fill("{},")),
        format!("[{}[]]", fill(r#"{"b":{"b":{},"a":{}},"a":{}},"#)),
        fill("1"),
        format!("0.{}1", fill("0")),
        format!("1e{}1", fill("0")),
        format!("\"{}\"", fill("\\u00e9")),
        nest(format!("\"{}\"", fill("x"))),
        nest(format!("[{}0]", fill("1,"))),
        format!("[{}0]", fill(&format!("{},", nest("0".to_owned())))),
    ];
    for text in &json {
        assert!(is_json(text.as_bytes()), "{}…", &text[..40]);
    }
    for text in [fill("["), fill("{\"a\":"), fill("\""), fill("\\"), format!("\"{}", fill("\\u00e9"))] {
        assert!(!is_json(text.as_bytes()), "{}…", &text[..40]);
    }
}

fn any_settings() -> impl Strategy<Value = FingerprintSettings> {
    let body = prop::sample::select(vec![BodyMode::Json, BodyMode::Raw, BodyMode::Off]);
    let pointer = prop::collection::vec(any::<String>(), 0..3).prop_map(|tokens| {
        let escaped = tokens.iter().map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1")));
        escaped.collect::<String>().parse::<Exclusion>().unwrap()
    });
    #[cfg(feature = "jsonpath")]
    let pointer = prop_oneof![pointer, paths::any_exclusion()];
    let header = "[a-z][a-z0-9-]{0,8}".prop_map(|name| HeaderName::try_from(name).unwrap());
    let host = prop::sample::select(vec![HostMode::Exact, HostMode::Any]);
    (body, prop::collection::vec(pointer, 0..3), prop::collection::vec(header, 0..3), host).prop_map(
        |(body, exclude, headers, host)| FingerprintSettings {
            body,
            exclude,
            headers,
            host,
            ..FingerprintSettings::default()
        },
    )
}

proptest! {
    #[test]
    fn one_value_has_one_print_however_it_is_spelled(value in any_json(), seeds in any::<(u64, u64)>()) {
        let one = spell(&value, &mut Style::new(seeds.0));
        let other = spell(&value, &mut Style::new(seeds.1));
        prop_assert!(is_json(one.as_bytes()), "{}", one);
        prop_assert_eq!(print(&one), print(&other), "{} and {}", one, other);
    }

    #[test]
    fn any_single_change_has_another_print(value in any_json(), seed in any::<u64>()) {
        let mut style = Style::new(seed);
        let one = spell(&value, &mut style);
        for change in changes(&value) {
            let other = spell(&change, &mut style);
            prop_assert_ne!(print(&one), print(&other), "{} and {}", one, other);
        }
    }

    // serde_json's `Value` refuses more than RFC 8259 does (numbers beyond f64, 128 levels), and its
    // `IgnoredAny` takes more (lone surrogates, any depth, exponents of any length): we stand between.
    #[test]
    fn what_is_json_is_so_for_serde_json_too(
        value in any_json(), seed in any::<u64>(), at in any::<prop::sample::Index>(), edit in "[{}\\[\\]\",:0-9eE.+\\\\u \tdt-]{0,2}",
        cut in 0..3_usize,
    ) {
        let mut text: Vec<char> = spell(&value, &mut Style::new(seed)).chars().collect();
        let at = at.index(text.len());
        let end = (at + cut).min(text.len());
        text.splice(at..end, edit.chars());
        let text: String = text.into_iter().collect();
        let ours = is_json(text.as_bytes());
        prop_assert!(ours || serde_json::from_str::<serde_json::Value>(&text).is_err(), "refused {}", text);
        prop_assert!(!ours || serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(), "accepted {}", text);
    }

    #[test]
    fn no_octets_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = print_with(&excluding(&["/a", "/0/a"]), &json_fields(), &body);
    }

    #[test]
    fn no_jumble_of_tokens_panics(tokens in prop::collection::vec(prop::sample::select(vec![
        "{", "}", "[", "]", ":", ",", "\"a\"", "\"", "\\", "\\u", "d83d", "1", "-", "e", ".", "null", " ",
    ]), 0..40)) {
        let _ = print_with(&excluding(&["/a", "/a/a", "/0/a"]), &json_fields(), tokens.concat().as_bytes());
    }

    #[test]
    fn settings_survive_their_text(settings in any_settings()) {
        let text = settings.to_settings();
        prop_assert!(!text.chars().any(|character| character.is_ascii_control()));
        prop_assert_eq!(FingerprintSettings::from_settings(&text), Ok(settings));
    }

    #[test]
    fn no_settings_text_panics(text in "1?;?(json|raw)?[;=x/%a-f0-9é~]{0,12}") {
        let _ = FingerprintSettings::from_settings(&text);
    }

    #[test]
    fn chunks_do_not_matter(body in prop::collection::vec(any::<u8>(), 0..300), size in 1..40_usize) {
        let fields = HeaderMap::new();
        let settings = FingerprintSettings::default();
        let mut hasher = BodyHasher::new(&settings, &fields);
        body.chunks(size).for_each(|chunk| hasher.update(chunk));
        let chunked = hasher.finish(&body);
        let mut whole = BodyHasher::new(&settings, &fields);
        whole.update(&body);
        prop_assert_eq!(chunked, whole.finish(&body));
    }
}
