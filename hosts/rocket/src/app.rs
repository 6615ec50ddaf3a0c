//! The Rocket whose routes are guarded: it is launched without a socket, and given requests that are all here.

use std::convert::Infallible;
use std::fmt;
use std::str;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use http::header::COOKIE;
use rocket::http::{Cookie, Header};
use rocket::local::asynchronous::{Client, LocalResponse};
use rocket::{Build, Rocket, Shutdown};
use tokio::sync::mpsc;

use crate::head::Target;
use crate::lent::Lent;

/// Where the application is, from its launch until its end.
#[derive(Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<Option<Launched>>>);

struct Launched {
    app: App,
    /// Ready once nobody holds the application any more.
    left: mpsc::Receiver<Infallible>,
}

/// The application, in use.
#[derive(Clone)]
pub(crate) struct App {
    // Dropped in this order: whoever sees the senders gone has the only client.
    client: Arc<Client>,
    _in_use: mpsc::Sender<Infallible>,
}

impl Slot {
    pub(crate) async fn launch(&self, app: Rocket<Build>) -> Result<(), rocket::Error> {
        let client = Arc::new(Client::untracked(app).await?);
        let (in_use, left) = mpsc::channel(1);
        let launched = Launched { app: App { client, _in_use: in_use }, left };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(launched);
        Ok(())
    }

    /// `None` before its launch and after its end.
    pub(crate) fn app(&self) -> Option<App> {
        let launched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        launched.as_ref().map(|launched| launched.app.clone())
    }

    /// Gives the application no more requests, and tells those under way that it ends.
    pub(crate) fn close(&self) -> Option<Closed> {
        let launched = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let Launched { app, left } = launched;
        app.shutdown().notify();
        Some(Closed { client: app.client, left })
    }
}

/// The application, to be ended.
pub(crate) struct Closed {
    client: Arc<Client>,
    left: mpsc::Receiver<Infallible>,
}

impl Closed {
    /// Lets the application's own fairings see the shutdown, once its requests have ended.
    pub(crate) async fn end(mut self, within: Duration) {
        let left = tokio::time::timeout(within, self.left.recv()).await.is_ok();
        match Arc::into_inner(self.client) {
            Some(client) if left => drop(client.terminate().await),
            _ => tracing::warn!(
                "the server ends before its guarded requests: shutdown fairings inside are not run"
            ),
        }
    }
}

impl App {
    pub(crate) fn shutdown(&self) -> Shutdown {
        self.client.rocket().shutdown()
    }

    /// Runs a request through the application: its fairings, guards, handler and catchers.
    pub(crate) async fn dispatch<'c>(
        &'c self,
        target: &Target,
        fields: &HeaderMap,
        body: &[u8],
        lent: Lent,
    ) -> LocalResponse<'c> {
        let mut request = self.client.req(target.method, target.uri.clone());
        if let Some(host) = &target.host {
            request.set_host(host.clone());
        }
        if let Some(remote) = target.remote {
            request.set_remote(remote);
        }
        for (name, value) in fields {
            if let Ok(value) = str::from_utf8(value.as_bytes()) {
                request.add_header(Header::new(name.as_str().to_owned(), value.to_owned()));
            }
        }
        for line in fields.get_all(COOKIE) {
            let cookies = str::from_utf8(line.as_bytes()).unwrap_or_default().split(';');
            let cookies = cookies.filter_map(|cookie| Cookie::parse_encoded(cookie.trim()).ok());
            request = request.cookies(cookies.map(Cookie::into_owned));
        }
        request.set_body(body);
        request.local_cache(|| lent);
        request.dispatch().await
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("launched", &self.app().is_some()).finish()
    }
}
