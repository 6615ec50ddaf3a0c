//! Rocket on a socket, in the test's own runtime.

use std::convert::Infallible;
use std::io::Cursor;

use http::{HeaderMap, HeaderName, HeaderValue};
use rocket::data::{ByteUnit, Data};
use rocket::fairing::AdHoc;
use rocket::http::{Header, Status};
use rocket::request::{FromRequest, Outcome};
use rocket::response::{self, Responder, Response};
use rocket::{Config, Request, State, get, patch, post, put, routes};
use semel_core::policy::PolicyBuilder;
use semel_core::store::AnyStore;
use semel_rocket::{Idempotency, IdempotencyFairing};
use tokio::sync::oneshot;

use crate::app::{Answer, App};
use crate::fixture::{Host, Kind, Rules};

pub(crate) const HOST: Kind = Kind::new(|store, rules| Box::pin(start(store, rules)));

async fn start(store: AnyStore, rules: Rules) -> Host {
    let app = App::new();
    let accepts = Idempotency::builder_any(store).build().unwrap().route(rules).unwrap();
    let requires = accepts.route(PolicyBuilder::require_key).unwrap();
    let config = Config::figment()
        .merge(("address", "127.0.0.1"))
        .merge(("port", 0))
        .merge(("log_level", "off"))
        .merge(("shutdown.ctrlc", false));
    let guarded = IdempotencyFairing::new(accepts)
        .around(rocket::custom(&config).manage(app.clone()))
        .mount_by(&requires, "/orders", routes![make])
        .mount("/notes", routes![make])
        .mount("/orders", routes![make_as, change, read]);
    let (tell, told) = oneshot::channel();
    let listening = AdHoc::on_liftoff("port", |rocket| {
        Box::pin(async move { tell.send((rocket.config().address, rocket.config().port).into()).unwrap() })
    });
    let rocket = rocket::custom(config).attach(guarded).attach(listening);
    // It ends with the test's runtime.
    tokio::spawn(async move { rocket.launch().await.map(drop).map_err(|error| error.pretty_print()) });
    Host::new(told.await.unwrap(), app)
}

#[post("/", data = "<body>")]
async fn make(app: &State<App>, fields: Fields, body: Data<'_>) -> Told {
    make_order(app, fields, body).await
}

#[put("/<_>", data = "<body>")]
async fn make_as(app: &State<App>, fields: Fields, body: Data<'_>) -> Told {
    make_order(app, fields, body).await
}

#[patch("/<_>")]
fn change(app: &State<App>, fields: Fields) -> Told {
    let Fields(fields) = fields;
    Told(app.change(&fields))
}

#[get("/<id>")]
fn read(id: usize) -> Told {
    Told(App::read(id))
}

async fn make_order(app: &App, fields: Fields, body: Data<'_>) -> Told {
    let body = body.open(ByteUnit::max_value()).into_bytes().await.unwrap();
    Told(app.make(&fields.0, body.len()).await)
}

struct Fields(HeaderMap);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Fields {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Infallible> {
        let mut fields = HeaderMap::new();
        for field in request.headers().iter() {
            let name = HeaderName::from_bytes(field.name().as_str().as_bytes()).unwrap();
            fields.append(name, HeaderValue::from_str(field.value()).unwrap());
        }
        Outcome::Success(Self(fields))
    }
}

struct Told(Answer);

impl<'r> Responder<'r, 'static> for Told {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        let (status, headers, text) = self.0;
        let mut answer = Response::build();
        answer.status(Status::new(status.as_u16()));
        for (name, value) in &headers {
            answer.header_adjoin(Header::new(name.as_str().to_owned(), value.to_str().unwrap().to_owned()));
        }
        answer.sized_body(text.len(), Cursor::new(text)).ok()
    }
}
