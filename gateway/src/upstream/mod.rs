//! The way to the application: connections, exchanges and what is known when one fails.

mod body;
mod error;
mod http1;
mod http2;
mod io;
mod pool;
mod upload;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

pub use body::ResponseBody;
pub use error::{BoxError, Dispatch, UpstreamError, UpstreamErrorKind};
pub use upload::RequestBody;

use crate::config::{GatewayConfig, Limits, Protocol, Timeouts, UpstreamUrl};
use http1::{Connection, Failed};
use io::{Upload, Wire};
use pool::Pool;
use upload::UploadBody;

/// One worker's connections to the application.
pub(crate) struct Upstream<B: RequestBody> {
    url: UpstreamUrl,
    limits: Limits,
    timeouts: Timeouts,
    pool: SharedPool<B>,
    shared: http2::Shared<B>,
    under_way: Arc<AtomicUsize>,
    reaping: std::sync::atomic::AtomicBool,
}

type SharedPool<B> = Arc<Pool<Box<Connection<B>>>>;

/// A place among the requests under way.
#[derive(Debug)]
pub(crate) struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<B: RequestBody> Upstream<B> {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        let pool = Pool::new(config.limits.upstream_idle, config.timeouts.upstream_idle);
        Self {
            url: config.upstream.clone(),
            limits: config.limits.clone(),
            timeouts: config.timeouts.clone(),
            pool: Arc::new(pool),
            shared: http2::Shared::default(),
            under_way: Arc::default(),
            reaping: false.into(),
        }
    }

    /// Sends one request and waits for the head of its answer.
    ///
    /// It goes out a second time only if not one byte of it was written the first time.
    pub(crate) async fn send(&self, request: Request<B>) -> Result<Response<ResponseBody<B>>, UpstreamError> {
        let slot = self.slot()?;
        let request = request.map(UploadBody::new);
        match self.url.protocol {
            Protocol::Http1 => self.send_http1(request, slot).await,
            Protocol::Http2 => self.send_http2(request, slot).await,
        }
    }

    async fn send_http1(
        &self,
        mut request: Request<UploadBody<B>>,
        slot: Slot,
    ) -> Result<Response<ResponseBody<B>>, UpstreamError> {
        self.start_reaping();
        while let Some(mut connection) = self.pool.take() {
            if !connection.is_fresh().await {
                continue;
            }
            match self.exchange(connection, request).await {
                Ok((answer, connection)) => return Ok(self.answer(answer, connection, slot)),
                Err(Failed { request: Some(unsent), .. }) => request = unsent,
                Err(Failed { error, request: None }) => return Err(error),
            }
        }
        let connection = Connection::open(self.connect().await?, &self.limits).await?;
        let (answer, connection) = self.exchange(connection, request).await.map_err(|failed| failed.error)?;
        Ok(self.answer(answer, connection, slot))
    }

    async fn exchange(
        &self,
        mut connection: Box<Connection<B>>,
        request: Request<UploadBody<B>>,
    ) -> Result<(Response<Incoming>, Box<Connection<B>>), Failed<B>> {
        let wire = Arc::clone(&connection.wire);
        let answer = self.within(&wire, connection.exchange(request)).await?;
        Ok((answer, connection))
    }

    fn answer(
        &self,
        answer: Response<Incoming>,
        connection: Box<Connection<B>>,
        slot: Slot,
    ) -> Response<ResponseBody<B>> {
        let connection = if connection.wire.upload() == Upload::Done {
            Some((connection, Arc::clone(&self.pool)))
        } else {
            connection.detach();
            None
        };
        answer.map(|body| ResponseBody::upstream(body, connection, self.timeouts.body_idle, slot))
    }

    async fn send_http2(
        &self,
        mut request: Request<UploadBody<B>>,
        slot: Slot,
    ) -> Result<Response<ResponseBody<B>>, UpstreamError> {
        let wire = Arc::new(Wire::default());
        let mut again = true;
        loop {
            let dial = || async { http2::open(self.connect().await?, &self.limits, &self.timeouts).await };
            let sender = self.shared.get(dial).await?;
            match self.within(&wire, http2::exchange(sender, request, &wire)).await {
                Ok(answer) => {
                    return Ok(
                        answer.map(|body| ResponseBody::upstream(body, None, self.timeouts.body_idle, slot))
                    );
                }
                Err(Failed { request: Some(unsent), .. }) if again => {
                    again = false;
                    request = unsent;
                }
                Err(failed) => return Err(failed.error),
            }
        }
    }

    /// Sends a request that may turn its connection into a tunnel.
    pub(crate) async fn upgrade(
        &self,
        request: Request<B>,
    ) -> Result<Response<(Incoming, Slot)>, UpstreamError> {
        let slot = self.slot()?;
        let stream = self.connect().await?;
        let exchange = http1::upgrade(stream, &self.limits, request.map(UploadBody::new));
        let answer = timeout(self.timeouts.response, exchange)
            .await
            .map_err(|_| UpstreamError::new(UpstreamErrorKind::ResponseTimeout, Dispatch::Maybe, None))??;
        Ok(answer.map(|body| (body, slot)))
    }

    pub(crate) fn plain_body(&self, body: Incoming, slot: Slot) -> ResponseBody<B> {
        ResponseBody::upstream(body, None, self.timeouts.body_idle, slot)
    }

    pub(crate) fn url(&self) -> &UpstreamUrl {
        &self.url
    }

    /// Bounds the wait for the head of an answer: [`Timeouts::response`] from when the request's body last moved.
    async fn within<T>(
        &self,
        wire: &Wire,
        exchange: impl Future<Output = Result<T, Failed<B>>>,
    ) -> Result<T, Failed<B>> {
        let mut exchange = pin!(exchange);
        let begun = Instant::now();
        let mut deadline = pin!(sleep_until(begun + self.timeouts.response));
        loop {
            tokio::select! {
                biased;
                outcome = &mut exchange => return outcome,
                () = &mut deadline => {}
            }
            let due = begun.max(wire.moved()) + self.timeouts.response;
            if due <= deadline.deadline() {
                let kind = if wire.upload() == Upload::Sending && wire.waits_for_client() {
                    UpstreamErrorKind::RequestBodyTimeout
                } else {
                    UpstreamErrorKind::ResponseTimeout
                };
                let error = UpstreamError::new(kind, Dispatch::Maybe, None);
                return Err(Failed { error, request: None });
            }
            deadline.as_mut().reset(due);
        }
    }

    async fn connect(&self) -> Result<TcpStream, UpstreamError> {
        let (host, port) = (self.url.host(), self.url.port());
        let connecting = async {
            match host.parse::<IpAddr>() {
                Ok(ip) => TcpStream::connect(SocketAddr::from((ip, port))).await,
                Err(_) => TcpStream::connect((host, port)).await,
            }
        };
        let stream = timeout(self.timeouts.connect, connecting)
            .await
            .map_err(|_| UpstreamError::new(UpstreamErrorKind::ConnectTimeout, Dispatch::Never, None))?
            .map_err(UpstreamError::connect)?;
        stream.set_nodelay(true).map_err(UpstreamError::connect)?;
        Ok(stream)
    }

    fn slot(&self) -> Result<Slot, UpstreamError> {
        let slot = Slot(Arc::clone(&self.under_way));
        if self.under_way.fetch_add(1, Ordering::Relaxed) < self.limits.upstream_requests {
            Ok(slot)
        } else {
            Err(UpstreamError::new(UpstreamErrorKind::Overloaded, Dispatch::Never, None))
        }
    }

    /// Closes idle connections when their time is over, also when no request comes.
    fn start_reaping(&self) {
        if self.reaping.swap(true, Ordering::Relaxed) {
            return;
        }
        let pool = Arc::downgrade(&self.pool);
        let every = (self.pool.max_idle() / 4).max(std::time::Duration::from_millis(50));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                match Weak::upgrade(&pool) {
                    Some(pool) => pool.reap(),
                    None => return,
                }
            }
        });
    }
}

impl<B: RequestBody> std::fmt::Debug for Upstream<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("url", &self.url).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::Full;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    /// How long an application is waited for that never answers, and takes a body whose frames come at these times.
    async fn waited_for(frames: &[Duration]) -> Duration {
        let mut config = GatewayConfig::new("http://127.0.0.1:9".parse().unwrap());
        config.timeouts.response = LIMIT;
        let upstream = Upstream::<Full<Bytes>>::new(&config);
        let wire = Wire::default();
        let begun = Instant::now();
        let exchange = async {
            for &at in frames {
                sleep_until(begun + at).await;
                wire.upload_moved();
            }
            std::future::pending::<Result<(), Failed<Full<Bytes>>>>().await
        };
        let failed = upstream.within(&wire, exchange).await.unwrap_err();
        assert_eq!(failed.error.kind(), UpstreamErrorKind::ResponseTimeout);
        begun.elapsed()
    }

    // A body that was sent at once doubled the time-out of every request that has one.
    #[tokio::test(start_paused = true)]
    async fn one_time_out_passes_after_the_last_of_a_body_was_sent() {
        let second = Duration::from_secs(1);
        for (frames, last) in [
            (&[][..], Duration::ZERO),
            (&[Duration::ZERO], Duration::ZERO),
            (&[second], second),
            (&[second, second * 5 / 2, second * 4], second * 4),
        ] {
            let over = waited_for(frames).await.checked_sub(last + LIMIT);
            // Timers are exact to a millisecond.
            assert!(over.is_some_and(|over| over < Duration::from_millis(5)), "{frames:?}: {over:?}");
        }
    }
}
