//! What actix-web cannot give: each test observes the lack, so that a version that ends it is noticed.

use actix_web::{HttpResponse, web};
use semel_actix::IdempotencyMiddleware;
use semel_testkit::client::Client;

use crate::support::{Server, memory};

/// Other hosts refuse a bad key without asking for the body.
#[tokio::test]
async fn a_refused_request_that_expects_100_is_told_to_go_on_before_its_refusal() {
    let idempotency = memory();
    let server = Server::start(move |app| {
        let guard = IdempotencyMiddleware::new(idempotency.clone());
        app.service(web::resource("/orders").wrap(guard).route(web::post().to(HttpResponse::Ok)));
    });
    let mut client = Client::connect(server.base).await.unwrap();
    let head = "POST /orders HTTP/1.1\r\nHost: shop.test\r\nIdempotency-Key: \"unterminated\r\n\
                Expect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    client.send(head).await.unwrap();
    assert_eq!(client.head().await.unwrap().status(), 100);
    assert_eq!(client.answer().await.unwrap().status(), 400);
}
