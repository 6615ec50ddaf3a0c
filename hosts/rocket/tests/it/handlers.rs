//! What reaches the handler, and what Semel reads from Rocket's request.

use std::convert::Infallible;

use rocket::fairing::AdHoc;
use rocket::http::uri::{Host, Origin};
use rocket::http::{Header, Status};
use rocket::request::{FromRequest, Outcome};
use rocket::{Request, State, post, routes};
use semel_core::engine::Bypass;
use semel_core::scope::Scope;
use semel_driver::StepError;
use semel_rocket::{IdempotencyFairing, Run, Steps, StepsFailed};

use crate::support::{Effects, Seen, client, counted, made, memory, order, quiet};

struct Attempts(Vec<String>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for &'r Attempts {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Infallible> {
        let attempts = request.headers().get("idempotency-attempt").map(str::to_owned);
        Outcome::Success(request.local_cache(|| Attempts(attempts.collect())))
    }
}

#[post("/orders")]
fn guarded(run: &Run, attempts: &Attempts) -> String {
    format!("{} attempt {} {:?}", run.key.as_str(), run.attempt, attempts.0)
}

#[post("/open")]
fn open(run: Option<&Run>, attempts: &Attempts) -> String {
    format!("{} {:?}", run.is_some(), attempts.0)
}

#[tokio::test]
async fn a_handler_is_told_its_run_and_forged_fields_are_removed() {
    let fairing = IdempotencyFairing::new(memory()).around(quiet()).mount("/", routes![guarded, open]);
    let client = client(fairing).await;
    let forged = || Header::new("idempotency-attempt", "7");
    assert_eq!(Seen::of(order(&client, "k").header(forged())).await.text, "k attempt 1 [\"1\"]");
    assert_eq!(Seen::of(client.post("/open").header(forged())).await.text, "false []");
}

/// A route without a guard that asks for its run is set up wrong, and says so.
#[tokio::test]
async fn a_run_without_a_guard_is_the_servers_fault() {
    let client = rocket::local::asynchronous::Client::untracked(quiet().mount("/", routes![guarded])).await;
    assert_eq!(Seen::of(order(&client.unwrap(), "k")).await.status, 500);
}

#[derive(Clone)]
struct Account(String);

/// Two tenants may both use `order-1`, also where a fairing outside says who they are.
#[tokio::test]
async fn a_scope_reads_what_is_carried_from_rockets_request() {
    let effects = Effects::default();
    let scope = Scope::from_fn(|parts| parts.extensions.get::<Account>().map(|account| account.0.clone()));
    let idempotency = memory().route(|policy| policy.scope(scope)).unwrap();
    let fairing = counted(&idempotency, &effects).mount("/orders", routes![made]).carry(|request, into| {
        if let Some(account) = request.local_cache(|| None::<Account>) {
            into.insert(account.clone());
        }
    });
    let authenticates = AdHoc::on_request("authentication", |request, _| {
        Box::pin(async move {
            let account = request.headers().get_one("x-account").map(|account| Account(account.to_owned()));
            request.local_cache(|| account);
        })
    });
    let client =
        rocket::local::asynchronous::Client::untracked(quiet().attach(authenticates).attach(fairing));
    let client = client.await.unwrap();
    for (account, replayed, text) in [("1", false, "1"), ("2", false, "2"), ("1", true, "1")] {
        let seen = Seen::of(order(&client, "order-1").header(Header::new("x-account", account))).await;
        assert_eq!((seen.text.as_str(), seen.replayed()), (text, replayed));
    }
    let nobody = Seen::of(order(&client, "order-1")).await;
    assert_eq!((nobody.status, nobody.code(), effects.count()), (400, "principal-missing", 2));
}

#[tokio::test]
async fn an_opt_out_that_is_carried_counts() {
    let effects = Effects::default();
    let fairing = counted(&memory(), &effects).mount("/orders", routes![made]).carry(|_, into| {
        into.insert(Bypass);
    });
    let client = client(fairing).await;
    for n in ["1", "2"] {
        assert_eq!(Seen::of(order(&client, "k")).await.text, n);
    }
}

#[post("/<_>?<q>")]
fn whence(q: &str, host: &Host<'_>, remote: std::net::SocketAddr, uri: &Origin<'_>) -> String {
    format!("{q} of {uri} from {remote} at {host}")
}

/// The request inside is another one than that of the server. What guards ask it has to be the same.
#[tokio::test]
async fn guards_find_the_clients_address_the_host_and_the_whole_target() {
    let fairing = IdempotencyFairing::new(memory()).around(quiet()).mount("/orders", routes![whence]);
    let client = client(fairing).await;
    let ask = |key| {
        let mut request = order(&client, key).remote(([192, 0, 2, 7], 7).into());
        request.set_uri(Origin::parse("/orders/a%2Fb?q=%C3%A9").unwrap());
        request.set_host(Host::parse("shop.test:8080").unwrap());
        request
    };
    for request in [ask("k"), ask("k")] {
        let text = Seen::of(request).await.text;
        assert_eq!(text, "é of /orders/a%2Fb?q=%C3%A9 from 192.0.2.7:7 at shop.test:8080");
    }
}

#[post("/")]
async fn buy(mut steps: Steps, effects: &State<(Effects, Effects)>) -> Result<String, StepsFailed> {
    let (charges, mails) = effects.inner();
    let charge: usize = steps.run("charge", async |_| Ok(charges.take())).await?;
    let mail = steps.run("mail", async |_| match mails.take() {
        1 => Err(StepError::retry("the mail server is away")),
        n => Ok(n),
    });
    let mail: usize = mail.await?;
    Ok(format!("charge {charge}, mail {mail}"))
}

/// The step that was recorded is not called again, and the failed one is.
#[tokio::test]
async fn a_retry_goes_on_after_the_last_recorded_step() {
    let effects = (Effects::default(), Effects::default());
    let idempotency = memory().route(|policy| policy.require_key().steps()).unwrap();
    let inside = quiet().manage(effects.clone());
    let fairing = IdempotencyFairing::new(idempotency).around(inside).mount("/orders", routes![buy]);
    let client = client(fairing).await;
    let first = Seen::of(order(&client, "k")).await;
    assert!(first.status >= Status::InternalServerError.code, "{first:?}");
    let again = Seen::of(order(&client, "k")).await;
    assert_eq!((again.status, again.text.as_str()), (200, "charge 1, mail 2"));
    assert_eq!((effects.0.count(), effects.1.count()), (1, 2));
}
