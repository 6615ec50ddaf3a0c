//! Who a request's key belongs to: never twice, never to the wrong person.

use http::request::Parts;
use http::{HeaderName, Request};
use proptest::prelude::*;
use semel_core::identity::Secret;
use semel_core::key::Key;
use semel_core::record::PrincipalTag;
use semel_core::scope::{Lack, Principal, Scope, ScopeError};

const WEAK: &str = "order-1";
const STRONG: &str = "8e03978e-40d5-43e8-bc93-6894a57f9324";

type Fields<'a> = &'a [(&'a str, &'a str)];

fn parts(fields: &[(&str, &str)]) -> Parts {
    let request = fields.iter().fold(Request::post("/orders"), |to, (name, value)| to.header(*name, *value));
    request.body(()).unwrap().into_parts().0
}

fn ask(scope: &Scope, key: &str, fields: &[(&str, &str)]) -> Result<Principal, ScopeError> {
    scope.principal(&parts(fields), &Key::from_text(key).unwrap())
}

fn tag(fields: &[(&str, &str)]) -> Option<PrincipalTag> {
    ask(&Scope::credentials(), STRONG, fields).unwrap().tag(&Secret::from_bytes([1; 32]))
}

#[derive(Debug, PartialEq)]
enum Is {
    Public,
    Bound,
    Weak,
    Ambiguous,
}

fn kind(answer: &Result<Principal, ScopeError>) -> Is {
    match answer {
        Ok(Principal::Public) => Is::Public,
        Ok(Principal::Bound(_)) => Is::Bound,
        Err(ScopeError::WeakKey) => Is::Weak,
        Err(ScopeError::Missing { lack: Lack::Repeated, .. }) => Is::Ambiguous,
        other => panic!("{other:?}"),
    }
}

#[test]
fn credentials_decide_whom_a_key_is_bound_to_and_how_strong_it_must_be() {
    let auth = "authorization";
    let api = "x-api-key";
    // Fields, then what a weak and what a strong key comes to.
    let table: &[(Fields<'_>, Is, Is)] = &[
        (&[], Is::Public, Is::Public),
        (&[(auth, "Bearer t")], Is::Bound, Is::Bound),
        (&[(auth, "bEARER t")], Is::Bound, Is::Bound),
        (&[(auth, "Basic dTpw")], Is::Bound, Is::Bound),
        (&[(auth, "ApiKey k")], Is::Bound, Is::Bound),
        (&[(auth, "Token token=\"t\"")], Is::Bound, Is::Bound),
        (&[(api, "k")], Is::Bound, Is::Bound),
        (&[(auth, "Bearer t"), (api, "k")], Is::Bound, Is::Bound),
        (&[(auth, "Bearer t"), ("cookie", "s=1")], Is::Bound, Is::Bound),
        (&[("cookie", "s=1")], Is::Weak, Is::Public),
        (&[("cookie", "  ")], Is::Public, Is::Public),
        (&[(auth, "Digest username=\"u\"")], Is::Weak, Is::Public),
        (&[(auth, "AWS4-HMAC-SHA256 Credential=x")], Is::Weak, Is::Public),
        (&[(auth, "DPoP t")], Is::Weak, Is::Public),
        (&[(auth, "Negotiate YII=")], Is::Weak, Is::Public),
        (&[(auth, "rawtoken")], Is::Weak, Is::Public),
        (&[(auth, "Digest username=\"u\""), ("cookie", "s=1")], Is::Weak, Is::Public),
        // An application's key is shared by all its users: whoever they are is in the fleeting part.
        (&[(api, "k"), (auth, "Digest username=\"u\"")], Is::Weak, Is::Bound),
        (&[(api, "k"), ("cookie", "s=1")], Is::Weak, Is::Bound),
        // `Bearer ${undefined}` names nobody; what else there is decides.
        (&[(auth, "")], Is::Public, Is::Public),
        (&[(auth, "Bearer")], Is::Public, Is::Public),
        (&[(auth, "Bearer  "), ("cookie", "s=1")], Is::Weak, Is::Public),
        (&[(api, "")], Is::Public, Is::Public),
        // Two users of a service that knows them by a field of its own once shared `order-1`.
        (&[("x-auth-token", "a")], Is::Weak, Is::Public),
        (&[("api-key", "a")], Is::Weak, Is::Public),
        (&[("x-access-token", "a")], Is::Weak, Is::Public),
        (&[("x-session-token", "a")], Is::Weak, Is::Public),
        (&[("x-session-id", "a")], Is::Weak, Is::Public),
        (&[("x-auth-token", " ")], Is::Public, Is::Public),
        (&[(auth, "Bearer t"), ("x-session-id", "a")], Is::Bound, Is::Bound),
        // Which of two the application believes is unknown.
        (&[(auth, "Bearer t"), (auth, "Bearer t")], Is::Ambiguous, Is::Ambiguous),
        (&[(auth, "Bearer t"), (auth, "Digest u")], Is::Ambiguous, Is::Ambiguous),
        (&[(api, "k"), (api, "l")], Is::Ambiguous, Is::Ambiguous),
    ];
    for (fields, weak, strong) in table {
        assert_eq!(kind(&ask(&Scope::credentials(), WEAK, fields)), *weak, "weak key, {fields:?}");
        assert_eq!(kind(&ask(&Scope::credentials(), STRONG, fields)), *strong, "strong key, {fields:?}");
    }
}

#[test]
fn other_credentials_have_another_tag_and_equal_ones_the_same() {
    let auth = "authorization";
    assert_eq!(tag(&[(auth, "Bearer t")]), tag(&[(auth, "bearer   t ")]));
    assert_eq!(tag(&[]), None);
    let distinct = [
        tag(&[(auth, "Bearer t")]),
        tag(&[(auth, "Bearer T")]),
        tag(&[(auth, "Token t")]),
        tag(&[("x-api-key", "t")]),
        tag(&[(auth, "Bearer t"), ("x-api-key", "k")]),
        tag(&[(auth, "Bearer tk")]),
        tag(&[("x-api-key", "bearert")]),
    ];
    for (at, one) in distinct.iter().enumerate() {
        assert!(one.is_some() && !distinct[..at].contains(one), "{at}");
    }
}

// Tags outlive the version that made them: otherwise an upgrade answers every retry with 422.
#[test]
fn a_tag_does_not_change_between_versions() {
    let expected = "9d86d7f766858da46983aaef05935b5ebb7f9493aa3b701507bac645cf576632";
    assert_eq!(tag(&[("authorization", "Bearer t")]).unwrap().to_string(), expected);
}

// Tokens rotate between two tries: with the token in the identity the retry would run again.
#[test]
fn credentials_bind_and_do_not_name() {
    let bound = ask(&Scope::credentials(), WEAK, &[("authorization", "Bearer t")]).unwrap();
    assert_eq!(bound.stable(), None);
    let stable =
        ask(&Scope::header(HeaderName::from_static("x-tenant")), WEAK, &[("x-tenant", "a")]).unwrap();
    assert_eq!(stable.stable(), Some(b"a".as_slice()));
    assert!(stable.tag(&Secret::from_bytes([1; 32])).is_some());
}

#[test]
fn a_stable_scope_takes_one_value_or_refuses() {
    let scope = Scope::header(HeaderName::from_static("x-tenant"));
    let stable = |fields: &[(&str, &str)]| ask(&scope, WEAK, fields);
    let name = |fields: &[(&str, &str)]| stable(fields).unwrap().stable().map(<[u8]>::to_vec);
    assert_eq!(name(&[("x-tenant", " acme ")]), Some(b"acme".to_vec()));
    // Credentials and cookies do not matter beside a scope, nor need the key be strong.
    assert_eq!(name(&[("x-tenant", "acme"), ("cookie", "s=1")]), Some(b"acme".to_vec()));
    for (fields, lack) in [
        (&[][..], Lack::Absent),
        (&[("x-tenant", "")], Lack::Absent),
        (&[("x-tenant", " \t")], Lack::Absent),
        (&[("x-tenant", "a"), ("x-tenant", "a")], Lack::Repeated),
    ] {
        let error = stable(fields).unwrap_err();
        assert_eq!(error, ScopeError::Missing { needed: "the field x-tenant".into(), lack }, "{fields:?}");
    }
}

#[test]
fn a_cookie_is_found_among_others_and_must_be_unambiguous() {
    let read = |fields: &[(&str, &str)]| {
        ask(&Scope::cookie("sid"), WEAK, fields).map(|who| who.stable().unwrap_or_default().to_vec())
    };
    let lacks = |lack| Err(ScopeError::Missing { needed: "the cookie sid".into(), lack });
    assert_eq!(read(&[("cookie", "a=1; sid=x=y; b=2")]), Ok(b"x=y".to_vec()));
    assert_eq!(read(&[("cookie", "sid=x;a=1")]), Ok(b"x".to_vec()));
    assert_eq!(read(&[("cookie", "a=1"), ("cookie", "sid=x")]), Ok(b"x".to_vec()));
    assert_eq!(read(&[("cookie", "sid=x; sid=x")]), Ok(b"x".to_vec()));
    assert_eq!(read(&[]), lacks(Lack::Absent));
    assert_eq!(read(&[("cookie", "SID=x; xsid=y; sid")]), lacks(Lack::Absent));
    assert_eq!(read(&[("cookie", "sid=")]), lacks(Lack::Absent));
    // A subdomain can plant a second cookie of the same name.
    assert_eq!(read(&[("cookie", "sid=x; sid=y")]), lacks(Lack::Repeated));
    assert_eq!(read(&[("cookie", "sid=x"), ("cookie", "sid=y")]), lacks(Lack::Repeated));
    assert_eq!(read(&[("cookie", "sid=; sid=y")]), lacks(Lack::Repeated));
}

#[test]
fn a_closure_sees_extensions_and_may_refuse() {
    #[derive(Clone)]
    struct Account(&'static str);
    let scope = Scope::from_fn(|parts| parts.extensions.get::<Account>().map(|account| account.0.to_owned()));
    let key = Key::from_text(WEAK).unwrap();
    let mut request = parts(&[]);
    assert!(matches!(scope.principal(&request, &key), Err(ScopeError::Missing { lack: Lack::Absent, .. })));
    request.extensions.insert(Account(""));
    assert!(scope.principal(&request, &key).is_err());
    request.extensions.insert(Account("acme"));
    assert_eq!(scope.principal(&request, &key).unwrap().stable(), Some(b"acme".as_slice()));
}

// A layer in the wrong place looks to its clients like a missing login; whoever runs the service has to be told apart.
#[test]
fn an_extension_that_is_missing_is_told_from_one_that_names_nobody() {
    #[derive(Clone)]
    struct User(&'static str);
    let scope = Scope::extension(|user: &User| (!user.0.is_empty()).then(|| user.0.to_owned()));
    let key = Key::from_text(WEAK).unwrap();
    let with = |user: Option<User>| {
        let mut parts = parts(&[]);
        user.map(|user| parts.extensions.insert(user));
        (scope.principal(&parts, &key), scope.lacks_extension(&parts))
    };
    let (alice, lacks) = with(Some(User("alice")));
    assert_eq!((alice.unwrap().stable(), lacks), (Some(&b"alice"[..]), None));
    let (nobody, lacks) = with(Some(User("")));
    let refused = nobody.unwrap_err();
    assert_eq!(lacks, None);
    let (missing, lacks) = with(None);
    assert_eq!(missing.unwrap_err(), refused, "clients are told the same");
    assert!(lacks.is_some_and(|name| name.ends_with("User")), "{lacks:?}");
    assert!(!refused.to_string().contains("User"), "{refused}");
    assert!(
        scope.describe().starts_with("extension ") && Scope::shared().lacks_extension(&parts(&[])).is_none()
    );
    // Without an option around it, too.
    assert!(Scope::extension(|user: &User| user.0.to_owned()).principal(&parts(&[]), &key).is_err());
}

#[test]
fn shared_has_to_be_written_out_and_names_nobody() {
    let shared = ask(&Scope::shared(), WEAK, &[("cookie", "s=1")]).unwrap();
    assert_eq!(shared, Principal::Shared);
    assert_eq!(shared.tag(&Secret::from_bytes([1; 32])), None);
    assert_eq!(Scope::default().describe(), "credentials");
}

#[test]
fn no_debug_and_no_error_shows_a_secret() {
    let fields = [("authorization", "Bearer s3cret"), ("x-tenant", "s3cret"), ("cookie", "s3cret=s3cret")];
    for scope in [
        Scope::credentials(),
        Scope::header(HeaderName::from_static("x-tenant")),
        Scope::cookie("s3cret-name"),
        Scope::from_fn(|_| Some("s3cret".to_owned())),
    ] {
        let shown = match ask(&scope, WEAK, &fields) {
            Ok(principal) => format!("{principal:?}"),
            Err(error) => error.to_string().replace("s3cret-name", ""),
        };
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

proptest! {
    #[test]
    fn no_field_values_panic(
        authorization in prop::collection::vec(any::<u8>(), 0..40),
        cookie in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut request = parts(&[]);
        for (name, value) in [("authorization", authorization), ("cookie", cookie)] {
            if let Ok(value) = http::HeaderValue::from_bytes(&value) {
                request.headers.insert(name, value);
            }
        }
        let key = Key::from_text(WEAK).unwrap();
        let _ = Scope::credentials().principal(&request, &key);
        let _ = Scope::cookie("a").principal(&request, &key);
    }
}
