//! What reaches the handler, and what Semel reads from actix-web's request.

use actix_web::body::MessageBody;
use actix_web::dev::{Service as _, ServiceRequest, ServiceResponse};
use actix_web::error::ErrorUnauthorized;
use actix_web::http::StatusCode;
use actix_web::middleware::{Next, from_fn};
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{App, Error, HttpMessage as _, HttpRequest, HttpResponse, web};
use semel_actix::{IdempotencyMiddleware, Run, Steps, StepsFailed};
use semel_core::engine::Bypass;
use semel_core::scope::Scope;
use semel_driver::StepError;

use crate::support::{Effects, Seen, memory, order};

#[actix_web::test]
async fn a_handler_is_told_its_run_and_forged_fields_are_removed() {
    let guarded = |run: Run, request: HttpRequest| async move {
        assert_eq!(request.headers().get_all("idempotency-attempt").count(), 1);
        assert_eq!(request.headers().get("idempotency-fence").unwrap(), &*run.fence.to_string());
        format!("{} attempt {}", run.key.as_str(), run.attempt)
    };
    let open = |run: Option<Run>, request: HttpRequest| async move {
        format!("{} {}", run.is_some(), request.headers().contains_key("idempotency-attempt"))
    };
    let app = init_service(
        App::new()
            .wrap(IdempotencyMiddleware::new(memory()))
            .route("/orders", web::post().to(guarded))
            .route("/open", web::to(open)),
    )
    .await;
    let forged = order("k").insert_header(("idempotency-attempt", "7")).to_request();
    assert_eq!(Seen::of(call_service(&app, forged).await).await.text, "k attempt 1");
    for open in [TestRequest::get(), TestRequest::post()] {
        let forged = open.uri("/open").insert_header(("idempotency-attempt", "7")).to_request();
        assert_eq!(Seen::of(call_service(&app, forged).await).await.text, "false false");
    }
}

/// A route without a guard that asks for its run is set up wrong, and says so.
#[actix_web::test]
async fn a_run_without_a_guard_is_the_servers_fault() {
    let app = init_service(App::new().route("/orders", web::post().to(|_: Run| HttpResponse::Ok()))).await;
    let seen = Seen::of(call_service(&app, order("k").to_request()).await).await;
    assert_eq!(seen.status, 500);
    assert!(seen.text.contains("not guarded"), "{}", seen.text);
}

#[derive(Clone)]
struct Account(u64);

/// Two tenants may both use `order-1`, also where the framework's own authentication says who they are.
#[actix_web::test]
async fn a_scope_reads_what_is_carried_from_actix_webs_extensions() {
    let effects = Effects::default();
    let ran = effects.clone();
    let scope =
        Scope::from_fn(|parts| parts.extensions.get::<Account>().map(|account| account.0.to_string()));
    let idempotency = memory().route(|policy| policy.scope(scope)).unwrap();
    let guard = IdempotencyMiddleware::new(idempotency).carry(|request, extensions| {
        if let Some(account) = request.extensions().get::<Account>() {
            extensions.insert(account.clone());
        }
    });
    let make = move || {
        let n = ran.take();
        async move { n.to_string() }
    };
    let app = init_service(App::new().wrap(guard).route("/orders", web::post().to(make))).await;
    for (account, replayed, text) in [(1, false, "1"), (2, false, "2"), (1, true, "1")] {
        let request = order("order-1").to_request();
        request.extensions_mut().insert(Account(account));
        let seen = Seen::of(call_service(&app, request).await).await;
        assert_eq!((seen.text.as_str(), seen.replayed()), (text, replayed));
    }
    let nobody = Seen::of(call_service(&app, order("order-1").to_request()).await).await;
    assert_eq!((nobody.status, nobody.code(), effects.count()), (400, "principal-missing", 2));
}

/// Finds out who it is, and lets nobody else in.
async fn authenticate(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let account = request.headers().get("x-account").and_then(|account| account.to_str().ok()?.parse().ok());
    let account = Account(account.ok_or_else(|| ErrorUnauthorized("who are you?"))?);
    request.extensions_mut().insert(account);
    next.call(request).await
}

/// The order of `wrap` decides: outside it names whose key it is, inside nobody is known yet and nothing runs.
#[actix_web::test]
async fn a_scope_reads_what_a_middleware_outside_has_set_and_says_so_where_it_is_inside() {
    let effects = Effects::default();
    let guard = || {
        let scope = Scope::extension(|account: &Account| account.0.to_string());
        let idempotency = memory().route(|policy| policy.scope(scope)).unwrap();
        // What was carried before is carried still.
        IdempotencyMiddleware::new(idempotency).carry_extension::<Account>().carry_extension::<u8>()
    };
    let make = |effects: &Effects| {
        let ran = effects.clone();
        move || {
            let n = ran.take();
            async move { n.to_string() }
        }
    };
    let by = |account: &'static str| order("order-1").insert_header(("x-account", account)).to_request();
    let outside =
        App::new().wrap(guard()).wrap(from_fn(authenticate)).route("/orders", web::post().to(make(&effects)));
    let app = init_service(outside).await;
    for (account, replayed, text) in [("1", false, "1"), ("2", false, "2"), ("1", true, "1")] {
        let seen = Seen::of(call_service(&app, by(account)).await).await;
        assert_eq!((seen.text.as_str(), seen.replayed()), (text, replayed));
    }
    assert!(app.call(order("order-1").to_request()).await.is_err(), "a stranger gets no replay");

    let inside =
        App::new().wrap(from_fn(authenticate)).wrap(guard()).route("/orders", web::post().to(make(&effects)));
    let app = init_service(inside).await;
    let seen = Seen::of(call_service(&app, by("1")).await).await;
    assert_eq!((seen.status, seen.code(), effects.count()), (400, "principal-missing", 2));
}

#[actix_web::test]
async fn an_opt_out_among_actix_webs_extensions_counts() {
    let effects = Effects::default();
    let ran = effects.clone();
    let make = move || {
        let n = ran.take();
        async move { n.to_string() }
    };
    let app = init_service(
        App::new().wrap(IdempotencyMiddleware::new(memory())).route("/orders", web::post().to(make)),
    )
    .await;
    for n in ["1", "2"] {
        let request = order("k").to_request();
        request.extensions_mut().insert(Bypass);
        assert_eq!(Seen::of(call_service(&app, request).await).await.text, n);
    }
}

/// The step that was recorded is not called again, and the failed one is.
#[actix_web::test]
async fn a_retry_goes_on_after_the_last_recorded_step() {
    let (charges, mails) = (Effects::default(), Effects::default());
    let (charged, mailed) = (charges.clone(), mails.clone());
    let buy = move |mut steps: Steps| {
        let (charged, mailed) = (charged.clone(), mailed.clone());
        async move {
            let charge: usize = steps.run("charge", async |_| Ok(charged.take())).await?;
            let mail = steps.run("mail", async |_| match mailed.take() {
                1 => Err(StepError::retry("the mail server is away")),
                n => Ok(n),
            });
            let mail: usize = mail.await?;
            Ok::<_, StepsFailed>(format!("charge {charge}, mail {mail}"))
        }
    };
    let idempotency = memory().route(|policy| policy.require_key().steps()).unwrap();
    let app = init_service(
        App::new().wrap(IdempotencyMiddleware::new(idempotency)).route("/orders", web::post().to(buy)),
    )
    .await;
    let first = call_service(&app, order("k").to_request()).await;
    assert!(first.status() >= StatusCode::INTERNAL_SERVER_ERROR);
    let again = Seen::of(call_service(&app, order("k").to_request()).await).await;
    assert_eq!((again.status, again.text.as_str()), (200, "charge 1, mail 2"));
    assert_eq!((charges.count(), mails.count()), (1, 2));
}
