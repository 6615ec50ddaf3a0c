//! Stripe's own client from npm, with its network retries, before `semel proxy --profile stripe-v1`.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use semel_testkit::cable::{Cable, Fault};
use semel_testkit::client::post;
use semel_testkit::upstream::{Act, Received, Upstream};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::npm;
use super::support::Place;

/// How often each customer was made, by the request's body.
type Made = Arc<Mutex<HashMap<String, usize>>>;

/// An API that makes a customer of each request, and breaks off after it made the one named `lost`.
async fn api() -> (Upstream, Made) {
    let made = Made::default();
    let counted = Arc::clone(&made);
    let script = move |seen: &Received| {
        let body = seen.message.text();
        let mut made = counted.lock().unwrap();
        *made.entry(body.clone()).or_default() += 1;
        let id = made.values().sum::<usize>();
        if body == "name=lost" {
            return Act::HangUp;
        }
        let customer = format!(r#"{{"id":"cus_{id}","object":"customer"}}"#);
        let length = customer.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}");
        Act::Answer(format!("{head}\r\n\r\n{customer}").into_bytes())
    };
    (Upstream::start(script).await.unwrap(), made)
}

/// What Stripe's client says, line by line; `each` sees each line as it comes.
async fn told(folder: &PathBuf, to: SocketAddr, args: &[&str], mut each: impl FnMut(usize)) -> Vec<Value> {
    let mut client = Command::new("node")
        .arg("client.js")
        .arg(to.port().to_string())
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let mut told = Vec::new();
    let reading = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            told.push(serde_json::from_str(&line).unwrap());
            each(told.len());
        }
        assert!(client.wait().await.unwrap().success());
    };
    tokio::time::timeout(Duration::from_mins(1), reading).await.expect("it ends in time");
    told
}

/// The wire cuts, delays, swallows and duplicates; each customer is made once, and its maker is told its id.
#[tokio::test]
async fn stripes_own_client_makes_each_customer_once_through_a_broken_wire() {
    const TEST: &str = "stripes_own_client_makes_each_customer_once_through_a_broken_wire";
    const CUSTOMERS: usize = 400;
    const FAULTS: [Fault; 6] = [
        Fault::CutAfter,
        Fault::CutBefore,
        Fault::LateAnswer(Duration::from_millis(200)),
        Fault::Swallow,
        Fault::LateRequest(Duration::from_millis(1800)),
        Fault::CutAfter,
    ];
    let Some(folder) = npm::installed(TEST, "stripe", "client.js").await else { return };
    let (api, made) = api().await;
    let place = Place::new(&api.url(), &["--profile", "stripe-v1"]);
    let proxy = place.proxy().await;
    let cable = Cable::to(proxy.address()).unwrap();
    let mut next = FAULTS.iter().cycle();
    let break_one = |answered: usize| {
        if answered.is_multiple_of(6) {
            cable.next(*next.next().unwrap());
        }
    };
    let told = told(&folder, cable.address(), &[&CUSTOMERS.to_string(), "all"], break_one).await;

    let failed: Vec<_> = told.iter().filter(|told| told["id"].is_null()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let ids: HashSet<_> = told.iter().map(|told| told["id"].as_str().unwrap()).collect();
    assert_eq!((told.len(), ids.len()), (CUSTOMERS, CUSTOMERS));
    let made = made.lock().unwrap();
    assert_eq!(made.len(), CUSTOMERS);
    assert!(made.values().all(|times| *times == 1));
    // Else nothing was shown: answers were lost, and came again as Stripe marks them.
    let replayed = told.iter().filter(|told| told["replayed"] == "true").count();
    assert!(replayed >= 10, "{replayed}");
}

/// Errors of the gateway's own are those that Stripe's client knows by their types.
#[tokio::test]
async fn stripes_own_client_understands_what_the_gateway_refuses() {
    const TEST: &str = "stripes_own_client_understands_what_the_gateway_refuses";
    let Some(folder) = npm::installed(TEST, "stripe", "client.js").await else { return };
    let (api, made) = api().await;
    let place = Place::new(&api.url(), &["--profile", "stripe-v1"]);
    let proxy = place.proxy().await;

    let told_of_reuse = told(&folder, proxy.address(), &["0", "reuse"], |_| {}).await;
    let [first, refused, again] = &told_of_reuse[..] else { panic!("{told_of_reuse:?}") };
    assert_eq!((&refused["error"], &refused["status"]), (&"StripeIdempotencyError".into(), &400.into()));
    assert_eq!((&again["id"], &again["replayed"]), (&first["id"], &"true".into()));
    assert_eq!(made.lock().unwrap().len(), 1);

    // A 5xx that its client would try again, were it not told to leave it.
    let told_of_loss = told(&folder, proxy.address(), &["0", "unknown"], |_| {}).await;
    assert_eq!(told_of_loss[0]["code"], "outcome_unknown", "{told_of_loss:?}");
    assert_eq!(told_of_loss[0]["error"], "StripeAPIError");
    assert_eq!(made.lock().unwrap()["name=lost"], 1);
    assert_eq!(place.listed("unknown").await.len(), 1);

    // Also where it is the gateway that cannot get through.
    drop(api);
    let gone = post("/v1/customers", "customer-4712-c0ffee", "{}").send(proxy.address()).await.unwrap();
    let error: Value = serde_json::from_slice(&gone.body).unwrap();
    assert_eq!((gone.status(), gone.one("stripe-should-retry")), (502, Some("true")));
    assert_eq!(error["error"]["code"], "upstream_unreachable", "{error}");
}
