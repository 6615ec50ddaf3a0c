//! Forms that name their method, which Rocket takes for it before anybody is asked.

use http::Method;
use rocket::http::{ContentType, Header, Method as Verb};
use rocket::local::asynchronous::Client;
use rocket::{State, delete, put, routes};
use semel_driver::Idempotency;
use semel_rocket::IdempotencyFairing;
use semel_store_memory::MemoryStore;

use crate::support::{Effects, Seen, client, counted, made, memory};

#[put("/", data = "<body>")]
fn changed(body: &str, effects: &State<Effects>) -> String {
    format!("changed {} by {body}", effects.take())
}

#[delete("/")]
fn removed(effects: &State<Effects>) -> String {
    format!("removed {}", effects.take())
}

/// `/orders`, which can be changed and removed and takes no POST.
fn guarded(idempotency: &Idempotency, effects: &Effects) -> IdempotencyFairing {
    counted(idempotency, effects).mount("/orders", routes![changed, removed])
}

fn requiring() -> Idempotency {
    Idempotency::builder(MemoryStore::new()).require_key().build().unwrap()
}

async fn send(client: &Client, method: Verb, key: Option<&str>, form: &str) -> Seen {
    let mut request = client.req(method, "/orders").header(ContentType::Form).body(form);
    request.add_header(Header::new("host", "shop.test"));
    if let Some(key) = key {
        request.add_header(Header::new("idempotency-key", format!("\"{key}\"")));
    }
    Seen::of(request).await
}

/// PUT is not guarded, and this is none: a browser's form is sent as a POST.
#[tokio::test]
async fn a_post_that_a_form_calls_a_put_is_guarded_as_the_post_that_it_is() {
    let effects = Effects::default();
    let client = client(guarded(&requiring(), &effects)).await;
    // The last three are what Rocket takes for the same name.
    for form in
        ["_method=put&n=1", "_method=PUT", "_method=delete", "&_method=put", "[_method]=put", "._method=put"]
    {
        let seen = send(&client, Verb::Post, None, form).await;
        assert_eq!((seen.status, seen.code(), effects.count()), (400, "key-missing", 0), "{form}");
    }
    for replayed in [false, true] {
        let seen = send(&client, Verb::Post, Some("k"), "_method=put&n=1").await;
        assert_eq!((seen.status, seen.replayed()), (200, replayed));
        assert_eq!(seen.text, "changed 1 by _method=put&n=1");
    }
    let reused = send(&client, Verb::Post, Some("k"), "_method=put&n=2").await;
    assert_eq!((reused.status, reused.code(), effects.count()), (422, "key-reused", 1));
    let removed = send(&client, Verb::Post, Some("other"), "_method=delete").await;
    assert_eq!((removed.text.as_str(), removed.replayed()), ("removed 2", false));
}

/// Rocket leaves such a request what it is.
#[tokio::test]
async fn a_post_whose_form_names_no_method_that_is_one_is_guarded_as_a_post() {
    let effects = Effects::default();
    let client = client(counted(&requiring(), &effects).mount("/orders", routes![made, changed])).await;
    for form in ["_method=buy", "_method=", "_method=putting", "n=1&_method=put"] {
        assert_eq!(send(&client, Verb::Post, None, form).await.status, 400, "{form}");
    }
    for replayed in [false, true] {
        let seen = send(&client, Verb::Post, Some("k"), "_method=buy").await;
        assert_eq!((seen.text.as_str(), seen.replayed()), ("1", replayed));
    }
}

/// A PUT from the start looks the same here, so it is guarded too. One that carries anything else is not.
#[tokio::test]
async fn a_put_that_carries_such_a_form_is_guarded_and_still_reaches_its_own_handler() {
    let effects = Effects::default();
    let client = client(guarded(&requiring(), &effects)).await;
    assert_eq!(send(&client, Verb::Put, None, "_method=delete").await.status, 400);
    for replayed in [false, true] {
        let seen = send(&client, Verb::Put, Some("k"), "_method=delete").await;
        assert_eq!((seen.text.as_str(), seen.replayed()), ("changed 1 by _method=delete", replayed));
    }
    let unguarded = send(&client, Verb::Put, None, "n=1").await;
    assert_eq!(unguarded.text, "changed 2 by n=1");
    let json = client.put("/orders").header(ContentType::JSON).body("_method=put");
    assert_eq!(Seen::of(json).await.text, "changed 3 by _method=put");
}

/// Rules that name the method that Rocket comes to mean it, however it came about.
#[tokio::test]
async fn a_form_does_not_get_past_rules_that_name_its_method_and_not_post() {
    let effects = Effects::default();
    let puts = memory().route(|rules| rules.methods([Method::PUT]).require_key()).unwrap();
    let client = client(guarded(&puts, &effects)).await;
    assert_eq!(send(&client, Verb::Post, None, "_method=put").await.status, 400);
    assert_eq!(effects.count(), 0);
}
