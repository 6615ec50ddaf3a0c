//! What is recorded, and what a retry gets.

use actix_web::error::{ErrorConflict, ErrorGone};
use actix_web::http::StatusCode;
use actix_web::test::{call_service, init_service, try_call_service};
use actix_web::{App, Error, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use semel_actix::IdempotencyMiddleware;
use semel_core::engine::Override;
use semel_core::policy::keep::Outcome;

use crate::support::{Effects, Seen, memory, order};

/// The handler sees the bytes that were compared, whole, and the retry gets what it said of them.
#[actix_web::test]
async fn the_handler_reads_the_body_and_the_retry_gets_its_answer() {
    let effects = Effects::default();
    let ran = effects.clone();
    let make = move |body: Bytes| {
        let n = ran.take();
        async move { HttpResponse::Created().body(format!("{n}: {} bytes", body.len())) }
    };
    let app = init_service(
        App::new()
            .wrap(IdempotencyMiddleware::new(memory()))
            .service(web::resource("/orders").route(web::post().to(make))),
    )
    .await;
    for (key, replayed, text) in
        [("k1", false, "1: 2 bytes"), ("k1", true, "1: 2 bytes"), ("k2", false, "2: 2 bytes")]
    {
        let seen = Seen::of(call_service(&app, order(key).to_request()).await).await;
        assert_eq!((seen.status, seen.text.as_str(), seen.replayed()), (201, text, replayed));
    }
    let reused = Seen::of(call_service(&app, order("k1").set_payload("[]").to_request()).await).await;
    assert_eq!((reused.status, reused.code(), effects.count()), (422, "key-reused", 2));
}

#[actix_web::test]
async fn repeated_fields_keep_their_order_and_their_bytes() {
    let make = || async {
        HttpResponse::Ok()
            .append_header(("x-tag", "b"))
            .append_header(("x-tag", "a"))
            .append_header(("x-bytes", actix_web::http::header::HeaderValue::from_bytes(b"\xe9").unwrap()))
            .finish()
    };
    let app = init_service(
        App::new().wrap(IdempotencyMiddleware::new(memory())).route("/orders", web::post().to(make)),
    )
    .await;
    for replayed in [false, true] {
        let seen = Seen::of(call_service(&app, order("k").to_request()).await).await;
        let tags: Vec<_> = seen.headers.get_all("x-tag").map(|value| value.to_str().unwrap()).collect();
        assert_eq!((tags, seen.replayed()), (vec!["b", "a"], replayed));
        assert_eq!(seen.headers.get("x-bytes").unwrap().as_bytes(), b"\xe9");
    }
}

/// An error that was not rendered could not be replayed, and the retry would run again or be told nothing.
#[actix_web::test]
async fn a_handlers_error_is_rendered_and_kept() {
    let effects = Effects::default();
    let ran = effects.clone();
    let refuse = move || {
        let n = ran.take();
        async move { Err::<HttpResponse, Error>(ErrorConflict(format!("sold out {n}"))) }
    };
    let app = init_service(
        App::new().wrap(IdempotencyMiddleware::new(memory())).route("/orders", web::post().to(refuse)),
    )
    .await;
    for replayed in [false, true] {
        let seen = Seen::of(call_service(&app, order("k").to_request()).await).await;
        assert_eq!((seen.status, seen.text.as_str(), seen.replayed()), (409, "sold out 1", replayed));
    }
    assert_eq!(effects.count(), 1);
}

/// A middleware's error has no request any more: it still goes out as what was recorded.
#[actix_web::test]
async fn an_error_of_a_middleware_inside_is_rendered_and_kept() {
    let effects = Effects::default();
    let ran = effects.clone();
    let refuses = move |_: actix_web::dev::ServiceRequest, _: &_| {
        let n = ran.take();
        async move { Err::<actix_web::dev::ServiceResponse, Error>(ErrorGone(format!("closed {n}"))) }
    };
    let app = init_service(
        App::new().service(
            web::resource("/orders")
                .wrap_fn(refuses)
                .wrap(IdempotencyMiddleware::new(memory()))
                .route(web::post().to(HttpResponse::Ok)),
        ),
    )
    .await;
    let Err(first) = try_call_service(&app, order("k").to_request()).await else {
        panic!("an error stays one")
    };
    assert_eq!(first.to_string(), "closed 1");
    let first = first.error_response();
    assert_eq!(first.status(), StatusCode::GONE);
    let first = actix_web::body::to_bytes(first.into_body()).await.unwrap();
    let again = Seen::of(call_service(&app, order("k").to_request()).await).await;
    assert_eq!((again.status, again.replayed(), again.text.as_bytes()), (410, true, &*first));
    assert_eq!((&*first, effects.count()), (&b"closed 1"[..], 1));
}

/// What does not fit is sent whole, and never made again.
#[actix_web::test]
async fn an_answer_over_the_limit_flows_whole_and_its_retry_does_not_run() {
    let effects = Effects::default();
    let ran = effects.clone();
    let make = move || {
        ran.take();
        async {
            let chunks = stream::iter((0..4).map(|_| Ok::<_, Error>(Bytes::from(vec![b'x'; 500 * 1024]))));
            HttpResponse::Created().insert_header(("location", "/orders/1")).streaming(chunks)
        }
    };
    let app = init_service(
        App::new().wrap(IdempotencyMiddleware::new(memory())).route("/orders", web::post().to(make)),
    )
    .await;
    let first = Seen::of(call_service(&app, order("k").to_request()).await).await;
    assert_eq!((first.status, first.text.len()), (201, 4 * 500 * 1024));
    let again = Seen::of(call_service(&app, order("k").to_request()).await).await;
    assert_eq!((again.status, again.code(), effects.count()), (409, "replay-unavailable", 1));
    assert_eq!(again.headers.get("location").unwrap(), "/orders/1");
}

/// Half an answer is none.
#[actix_web::test]
async fn a_body_that_breaks_off_leaves_the_outcome_unknown_and_none_of_it_is_sent() {
    let make = || async {
        let half = [Ok(Bytes::from("half")), Err(std::io::Error::other("broke"))];
        HttpResponse::Ok().streaming(stream::iter(half))
    };
    let app = init_service(
        App::new().wrap(IdempotencyMiddleware::new(memory())).route("/orders", web::post().to(make)),
    )
    .await;
    for status in [500, 409] {
        let seen = Seen::of(call_service(&app, order("k").to_request()).await).await;
        assert_eq!((seen.status, seen.code()), (status, "outcome-unknown"));
    }
}

/// The application's last word travels in actix-web's own extensions.
#[actix_web::test]
async fn what_a_handler_says_of_its_outcome_counts() {
    let effects = Effects::default();
    let ran = effects.clone();
    let make = move || {
        let n = ran.take();
        async move {
            let mut answer = HttpResponse::InternalServerError().body(n.to_string());
            answer.extensions_mut().insert(Override::new().outcome(Outcome::Applied));
            answer
        }
    };
    let app = init_service(
        App::new().wrap(IdempotencyMiddleware::new(memory())).route("/orders", web::post().to(make)),
    )
    .await;
    for replayed in [false, true] {
        let seen = Seen::of(call_service(&app, order("k").to_request()).await).await;
        assert_eq!((seen.status, seen.text.as_str(), seen.replayed()), (500, "1", replayed));
    }
}
