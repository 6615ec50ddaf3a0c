//! What JSONPaths leave out, against another implementation of RFC 9535.

use proptest::prelude::*;
use semel_core::fingerprint::{Exclusion, FingerprintSettings};
use serde_json::{Map, Value, json};
use serde_json_path::{JsonPath, PathElement};

use super::{excluding, is_json, json_fields, print, print_with};

/// Whether two bodies are one request, without what the paths lead to.
fn equal(paths: &[&str], one: &str, other: &str) -> bool {
    let print = |body: &str| print_with(&excluding(paths), &json_fields(), body.as_bytes());
    print(one) == print(other)
}

/// The examples of RFC 9535, sections 2.3.1.3, 2.3.2.3, 2.3.3.3, 2.5.1.3 and 2.5.2.3: path, body, and what is left of it.
#[test]
fn paths_lead_where_the_rfc_says() {
    let wild = r#"{"o":{"j":1,"k":2},"a":[5,3]}"#;
    let deep = r#"{"o":{"j":1,"k":2},"a":[5,3,[{"j":4},{"k":6}]]}"#;
    for (path, body, left) in [
        ("$.o['j j']", r#"{"o":{"j j":{"k.k":3}},"'":{"@":2}}"#, r#"{"o":{},"'":{"@":2}}"#),
        ("$.o['j j']['k.k']", r#"{"o":{"j j":{"k.k":3}},"'":{"@":2}}"#, r#"{"o":{"j j":{}},"'":{"@":2}}"#),
        (r#"$["'"]["@"]"#, r#"{"o":{"j j":{"k.k":3}},"'":{"@":2}}"#, r#"{"o":{"j j":{"k.k":3}},"'":{}}"#),
        ("$[*]", wild, "{}"),
        ("$.o[*]", wild, r#"{"o":{},"a":[5,3]}"#),
        ("$.o[*, *]", wild, r#"{"o":{},"a":[5,3]}"#),
        ("$.a[*]", wild, r#"{"o":{"j":1,"k":2},"a":[]}"#),
        ("$[1]", r#"["a","b"]"#, r#"["a"]"#),
        ("$[0, 3]", r#"["a","b","c","d","e","f","g"]"#, r#"["b","c","e","f","g"]"#),
        ("$..j", deep, r#"{"o":{"k":2},"a":[5,3,[{},{"k":6}]]}"#),
        ("$..[0]", deep, r#"{"o":{"j":1,"k":2},"a":[3,[{"k":6}]]}"#),
        ("$..[*]", deep, "{}"),
        ("$..o", deep, r#"{"a":[5,3,[{"j":4},{"k":6}]]}"#),
        ("$.o..[*, *]", deep, r#"{"o":{},"a":[5,3,[{"j":4},{"k":6}]]}"#),
        ("$.a..[0, 1]", deep, r#"{"o":{"j":1,"k":2},"a":[[]]}"#),
    ] {
        let of = print_with(&excluding(&[path]), &json_fields(), body.as_bytes());
        assert_eq!(of, print(left), "{path}");
    }
}

#[test]
fn paths_find_what_pointers_cannot_and_nothing_else() {
    let traces = &["$..trace_id"][..];
    assert!(equal(traces, r#"{"trace_id":1,"a":[{"trace_id":2,"b":3}]}"#, r#"{"a":[{"b":3}]}"#));
    assert!(!equal(traces, r#"{"trace_id":1,"a":[{"trace":2}]}"#, r#"{"a":[{"trace":3}]}"#));
    assert!(!equal(traces, r#"{"a":"trace_id"}"#, r#"{"a":"trace"}"#));
    // Once for each way there is to a value, and everything in what is left out goes with it.
    assert!(equal(&["$..a..a"], r#"{"a":{"a":{"a":1,"b":2},"b":3}}"#, r#"{"a":{"b":3}}"#));
    assert!(!equal(&["$..a..a"], r#"{"a":{"b":1}}"#, r#"{"a":{"b":2}}"#));
    let items = &["$.items[*].id", "/sent_at"][..];
    assert!(equal(items, r#"{"items":[{"id":1,"n":1},{"id":2}],"sent_at":0}"#, r#"{"items":[{"n":1},{}]}"#));
    assert!(!equal(items, r#"{"items":[{"id":1,"n":1}]}"#, r#"{"items":[{"id":1,"n":2}]}"#));
    assert!(!equal(items, r#"{"items":{"0":{"no":1}}}"#, r#"{"items":{"0":{"no":2}}}"#));
    // An index names no member, and a name no element, unlike a pointer's token.
    assert!(!equal(&["$[0]"], r#"{"0":1}"#, r#"{"0":2}"#));
    assert!(!equal(&["$['0']"], "[1]", "[2]"));
    assert!(equal(&["$"], "[1]", "{}"));
    // Escapes of the path and of the body are both undone.
    assert!(equal(&[r"$..['\u00e9']"], r#"{"é":1,"b":2}"#, r#"{"b":2}"#));
    assert!(equal(&["$..é"], r#"{"\u00e9":1,"b":2}"#, r#"{"b":2}"#));
    assert!(!equal(&["$..é"], r#"{"e\u0301":1}"#, r#"{"e\u0301":2}"#));
}

// The reason why no body goes through a value of a library: it keeps one of the two members, and 53 bits of a number.
#[test]
fn beside_a_path_numbers_and_duplicate_members_stay_exact() {
    let ts = &["$..ts"][..];
    assert!(!equal(ts, r#"{"n":9007199254740993,"ts":1}"#, r#"{"n":9007199254740992,"ts":1}"#));
    assert!(equal(ts, r#"{"n":1e400,"ts":1e999}"#, r#"{"n":10E+399,"ts":2}"#));
    assert!(!equal(ts, r#"{"n":1,"n":2}"#, r#"{"n":2}"#));
    assert!(!equal(ts, r#"{"n":1,"n":2}"#, r#"{"n":2,"n":1}"#));
    assert!(equal(ts, r#"{"ts":1,"n":0,"ts":2}"#, r#"{"n":0}"#));
    assert!(equal(ts, r#"{"a":{"ts":1},"a":{"ts":2,"x":3}}"#, r#"{"a":{},"a":{"x":3}}"#));
}

#[test]
fn what_a_path_leaves_out_must_still_be_json() {
    assert!(!equal(&["$..a"], r#"{"a":01}"#, r#"{"a":02}"#));
    assert!(!equal(&["$"], "[1]", "[1"));
}

// These texts are in tables already written: they must keep their meaning.
#[test]
fn the_text_of_settings_with_paths_does_not_change() {
    let settings = excluding(&["$..trace_id", "/$..trace_id", "$['a;b%']"]);
    assert_eq!(&*settings.to_settings(), "1;json;x=$..['trace_id'];x=/$..trace_id;x=$['a%3bb%25']");
    assert_eq!(FingerprintSettings::from_settings(&settings.to_settings()), Ok(settings));
}

// A descendant segment is tried at every value: were each way to it remembered apart, `$..a..a..a` would have a number of
// them that grows with the power of the depth. Nothing is timed: that would not end.
#[test]
fn no_path_is_slow_over_the_worst_of_bodies() {
    let deep = (0..127).fold("0".to_owned(), |inner, _| format!(r#"{{"a":{inner}}}"#));
    let many = format!("[{}0]", format!("{deep},").repeat((1 << 17) / deep.len()));
    let wide = format!("[{}0]", r#"{"a":[0],"b":{"a":0}},"#.repeat(5_000));
    let far = format!("${}", "..a".repeat(32));
    let any = format!("${}..nowhere", "..*".repeat(31));
    for (path, found) in [
        ("$..a", [true, true, true]),
        ("$..a..b", [false, false, false]),
        ("$..['a', 'b', 0]..nowhere", [false, false, false]),
        (&far, [true, true, false]),
        (&any, [false, false, false]),
    ] {
        for (body, found) in [&deep, &many, &wide].into_iter().zip(found) {
            assert!(is_json(body.as_bytes()));
            let left_out = print_with(&excluding(&[path]), &json_fields(), body.as_bytes()) != print(body);
            assert_eq!(left_out, found, "{path}");
        }
    }
}

fn any_name() -> impl Strategy<Value = String> {
    let rare = prop::sample::select(vec!["0", "1", "", "é", "a.b", "'", "\\", "\u{1}", "~1", ";%,"]);
    // So that names meet at every depth.
    prop_oneof![6 => Just("a"), 3 => Just("b"), 1 => rare].prop_map(str::to_owned)
}

/// As a library holds it: every name once, and numbers that are exact in it.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf =
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), (0..5_u8).prop_map(Value::from)];
    leaf.prop_recursive(7, 64, 3, |inner| {
        let members = prop::collection::vec((any_name(), inner.clone()), 1..4);
        prop_oneof![
            1 => prop::collection::vec(inner, 0..4).prop_map(Value::from),
            2 => members.prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn any_path() -> impl Strategy<Value = String> {
    let selector = prop_oneof![
        4 => any_name().prop_map(|name| format!("'{}'", escaped(&name))),
        2 => (0..3_u8).prop_map(|index| index.to_string()),
        1 => Just("*".to_owned()),
    ];
    let segment = (prop::bool::weighted(0.4), prop::collection::vec(selector, 1..3)).prop_map(
        |(descends, selectors)| format!("{}[{}]", if descends { ".." } else { "" }, selectors.join(", ")),
    );
    prop::collection::vec(segment, 1..4).prop_map(|segments| format!("${}", segments.concat()))
}

fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('\'', "\\'").replace('\u{1}', "\\u0001")
}

/// For settings that have to survive their text.
pub(super) fn any_exclusion() -> impl Strategy<Value = Exclusion> {
    any_path().prop_map(|path| path.parse().unwrap())
}

/// The body without what another implementation finds.
fn without(body: Value, path: &str) -> Value {
    let found = locations(&body, path);
    left(body, found)
}

fn locations(body: &Value, path: &str) -> Vec<Vec<Step>> {
    let step = |element: &PathElement<'_>| match element {
        PathElement::Name(name) => Step::Name((*name).to_owned()),
        PathElement::Index(index) => Step::Index(*index),
    };
    let query = JsonPath::parse(path).unwrap();
    let found = query.query_located(body);
    found.locations().map(|location| location.iter().map(step).collect()).collect()
}

/// The last one first, and what is inside of another before that: so indexes stay what they are.
fn left(mut body: Value, mut found: Vec<Vec<Step>>) -> Value {
    found.sort_by(|one, other| other.cmp(one));
    found.dedup();
    for steps in found {
        let (last, way) = steps.split_last().unwrap();
        let parent = way.iter().try_fold(&mut body, |value, step| match step {
            Step::Name(name) => value.get_mut(name),
            Step::Index(index) => value.get_mut(index),
        });
        match (parent, last) {
            (Some(Value::Object(members)), Step::Name(name)) => drop(members.remove(name)),
            (Some(Value::Array(elements)), Step::Index(index)) => drop(elements.remove(*index)),
            (parent, _) => panic!("{steps:?} leads nowhere: {parent:?}"),
        }
    }
    body
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Name(String),
    Index(usize),
}

#[test]
fn the_other_implementation_takes_away_what_it_finds() {
    let body = json!({"a": [{"a": 1}, 2, {"b": 3}], "b": 4});
    assert_eq!(without(body.clone(), "$..['a']"), json!({"b": 4}));
    assert_eq!(without(body.clone(), "$['a'][0, 2]"), json!({"a": [2], "b": 4}));
    assert_eq!(without(body, "$..[*]"), json!({}));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_is_left_out_is_what_another_implementation_finds(body in any_value(), path in any_path()) {
        let left = without(body.clone(), &path);
        let print = print_with(&excluding(&[&path]), &json_fields(), body.to_string().as_bytes());
        prop_assert_eq!(print, super::print(left.to_string()), "{} of {} leaves {}", path, body, left);
    }

    // Paths share one list of leads: what one of them finds must not depend on where another one stands.
    #[test]
    fn paths_do_not_disturb_each_other(body in any_value(), paths in prop::collection::vec(any_path(), 1..4)) {
        let mut query: Vec<_> = paths.iter().map(String::as_str).collect();
        let print = |paths: &[&str]| print_with(&excluding(paths), &json_fields(), body.to_string().as_bytes());
        let together = print(&query);
        query.reverse();
        query.push(&paths[0]);
        query.push("$..['nowhere']..*");
        prop_assert_eq!(together, print(&query));
        // All of them found in the whole body, by the other implementation.
        let found: Vec<_> = paths.iter().flat_map(|path| locations(&body, path)).collect();
        prop_assert_eq!(together, super::print(left(body, found).to_string()), "{:?}", paths);
    }

    #[test]
    fn no_text_panics(text in "[$@.\\[\\]'\"*?:0-9a,()&|=<>!\\\\u -]{0,24}") {
        if let Ok(exclusion) = format!("${text}").parse::<Exclusion>() {
            prop_assert_eq!(exclusion.to_string().parse(), Ok(exclusion));
        }
    }
}
