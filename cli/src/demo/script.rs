//! `semel demo --script`: plays everything that goes wrong with retries, and counts orders at the service.

use std::net::SocketAddr;

use http::{Method, StatusCode};
use tokio::task::JoinHandle;

use super::client::{self, Answer, Ask};
use super::gateway::Plan;
use super::shop::Shop;
use super::stage::{Stage, note};
use crate::exit::{Exit, Fault};
use crate::out;

/// Each is ordered once, however often it is asked for.
const CARTS: [(&str, &str); 4] = [
    ("cart-1", r#"{"item":"book"}"#),
    ("cart-2", r#"{"item":"lamp","seconds":30}"#),
    ("cart-3", r#"{"item":"desk","seconds":30}"#),
    ("cart-4", r#"{"item":"sofa","seconds":30}"#),
];

/// Plays all scenes. [`Exit::Negative`] if anything was not as it must be.
pub(super) async fn play(shop: &Shop, plan: &Plan, listen: SocketAddr) -> Result<Exit, Fault> {
    let gateway = plan.start(listen).await?;
    let mut stage = Stage::new(gateway.address);
    out::print(format!(
        "An order service on http://{}, Semel in front of it on http://{}, and a client that retries.\n",
        shop.address, gateway.address
    ))?;
    first_run_and_replay(&mut stage).await?;
    changed_body(&mut stage).await?;
    two_at_once(&mut stage, shop).await?;
    hang_up(&mut stage, shop).await?;

    let (key, body) = CARTS[3];
    stage.scene("The proxy is killed while the service works, and started again")?;
    let request = tokio::spawn(client::send(stage.front, stage.order(key, body, None)?));
    shop.made(4).await?;
    note("the service has made the order; now: kill -9")?;
    gateway.kill().await?;
    let lost = joined(request).await?;
    stage.check(lost.is_err(), "the client gets no answer")?;
    let _running = plan.start(stage.front).await?;
    let retry = stage.ask(key, body, Some(20)).await?;
    stage.check(
        is_problem(&retry, StatusCode::CONFLICT, "outcome-unknown"),
        "nobody knows, so nothing runs",
    )?;

    settle_by_hand(&mut stage, shop, plan).await?;
    count(&mut stage, shop)
}

async fn first_run_and_replay(stage: &mut Stage) -> Result<(), Fault> {
    let (key, body) = CARTS[0];
    stage.scene("A first run, and its retry")?;
    let first = stage.ask(key, body, None).await?;
    stage.check(is_order(&first, 1) && !replayed(&first), "the order is made")?;
    let retry = stage.ask(key, body, None).await?;
    stage.check(is_order(&retry, 1) && replayed(&retry), "the retry gets the same order, replayed")?;
    stage.check(retry.body == first.body, "byte for byte")?;
    stage.check(retry.field("location") == first.field("location"), "with its Location")
}

async fn changed_body(stage: &mut Stage) -> Result<(), Fault> {
    let (key, _) = CARTS[0];
    stage.scene("The same key for another order")?;
    let other = stage.ask(key, r#"{"item":"car"}"#, None).await?;
    stage.check(is_problem(&other, StatusCode::UNPROCESSABLE_ENTITY, "key-reused"), "it is refused")?;
    let same = stage.ask(key, "{ \"item\" : \"book\" }", None).await?;
    stage.check(is_order(&same, 1) && replayed(&same), "white space in JSON makes no other order")
}

async fn two_at_once(stage: &mut Stage, shop: &Shop) -> Result<(), Fault> {
    let (key, body) = CARTS[1];
    stage.scene("Two at once")?;
    let first = tokio::spawn(client::send(stage.front, stage.order(key, body, None)?));
    shop.made(2).await?;
    let second = stage.ask(key, body, None).await?;
    stage.check(is_problem(&second, StatusCode::CONFLICT, "in-flight"), "the second is told to come back")?;
    stage.check(second.field("retry-after").is_some(), "and when")?;
    let third = tokio::spawn(client::send(stage.front, stage.order(key, body, Some(20))?));
    note("the service finishes")?;
    shop.finish(2);
    let third = stage.heard(joined(third).await?)?;
    stage.check(is_order(&third, 2) && replayed(&third), "the third asks to wait, and gets the answer")?;
    let first = stage.heard(joined(first).await?)?;
    stage.check(is_order(&first, 2) && !replayed(&first), "the first gets its own")
}

async fn hang_up(stage: &mut Stage, shop: &Shop) -> Result<(), Fault> {
    let (key, body) = CARTS[2];
    stage.scene("A client that hangs up before the answer, and retries")?;
    let request = tokio::spawn(client::send(stage.front, stage.order(key, body, None)?));
    shop.made(3).await?;
    request.abort();
    let hung_up = request.await.is_err();
    stage.check(hung_up, "it is gone while the service works")?;
    let retry = tokio::spawn(client::send(stage.front, stage.order(key, body, Some(20))?));
    note("the service finishes")?;
    shop.finish(3);
    let retry = stage.heard(joined(retry).await?)?;
    stage.check(is_order(&retry, 3) && replayed(&retry), "the run went on, and the retry gets its answer")
}

async fn settle_by_hand(stage: &mut Stage, shop: &Shop, plan: &Plan) -> Result<(), Fault> {
    let (key, body) = CARTS[3];
    stage.scene("Somebody looks what became of it, and settles the record")?;
    note("$ semel keys list --state unknown")?;
    let listed = plan.keys(&["list", "--state", "unknown"]).await?;
    note(&listed)?;
    stage.check(listed.lines().count() == 2 && listed.contains("resolve it"), "one record is unknown")?;

    let look =
        Ask { method: Method::GET, path: "/orders/4".to_owned(), fields: Vec::new(), body: String::new() };
    note("$ curl the service itself: /orders/4")?;
    let order = client::send(shop.address, look).await;
    let order = stage.heard(order)?;
    stage.check(order.status == StatusCode::OK, "the order was made")?;

    let file = plan.write("answer.json", &order.body)?;
    note(&format!(
        "$ semel keys resolve --key {key} --applied --status 201 --header 'Location: /orders/4' --body-file answer.json"
    ))?;
    let verdict = ["resolve", "--applied", "--status", "201", "--header", "Location: /orders/4"];
    let rest = ["--body-file", &file, "--key", key, "--upstream", &plan.upstream];
    let said = plan.keys(&[&verdict[..], &rest[..]].concat()).await?;
    note(&said)?;
    let retry = stage.ask(key, body, None).await?;
    stage.check(is_order(&retry, 4) && replayed(&retry), "the retry gets what was settled")
}

fn count(stage: &mut Stage, shop: &Shop) -> Result<Exit, Fault> {
    stage.scene("What the service made, by its own count")?;
    let orders = shop.orders();
    for order in &orders {
        note(&format!("order {}: {}", order.order, order.item))?;
    }
    let items: Vec<&str> = orders.iter().map(|order| order.item.as_str()).collect();
    stage.check(items == ["book", "lamp", "desk", "sofa"], "one order a cart, and no other")?;
    let (carts, sent, made) = (CARTS.len(), stage.sent(), orders.len());
    let verdict = match stage.wrong() {
        0 => "as it must be".to_owned(),
        1 => "WRONG: one thing is not as it must be".to_owned(),
        many => format!("WRONG: {many} things are not as they must be"),
    };
    out::print(format!("\n{carts} carts, {sent} requests, orders made: {made} ({verdict})\n"))?;
    Ok(if stage.wrong() == 0 { Exit::Ok } else { Exit::Negative })
}

/// What a request that was sent meanwhile came to.
async fn joined<T>(task: JoinHandle<T>) -> Result<T, Fault> {
    task.await.map_err(|error| Fault::system("the client failed", &error))
}

fn replayed(answer: &Answer) -> bool {
    answer.field("idempotency-replayed") == Some("true")
}

fn is_order(answer: &Answer, number: usize) -> bool {
    answer.status == StatusCode::CREATED && answer.member("order") == Some(number.to_string())
}

fn is_problem(answer: &Answer, status: StatusCode, code: &str) -> bool {
    answer.status == status && answer.member("code").as_deref() == Some(code)
}
