//! Upgrades (RFC 9110, 7.8): WebSocket and others become a pair of sockets that copy to each other.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::upstream::{RequestBody, ResponseBody, Upstream, UpstreamError};

/// Asks the application to go over to `protocol`. Any answer but 101 is an ordinary one.
pub(super) async fn open<B: RequestBody>(
    upstream: &Upstream<B>,
    mut request: Request<B>,
    protocol: HeaderValue,
) -> Result<Response<ResponseBody<B>>, UpstreamError> {
    let client = request.extensions_mut().remove::<OnUpgrade>();
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    request.headers_mut().insert(UPGRADE, protocol);
    let mut answer = upstream.upgrade(request).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer.map(|(body, slot)| upstream.plain_body(body, slot)));
    }
    let application = answer.extensions_mut().remove::<OnUpgrade>();
    let (mut head, (_, slot)) = answer.into_parts();
    head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let (Some(client), Some(application)) = (client, application) {
        tokio::spawn(async move {
            let _slot = slot;
            match tokio::try_join!(client, application) {
                Ok((client, application)) => {
                    let (mut client, mut application) = (TokioIo::new(client), TokioIo::new(application));
                    let copied = tokio::io::copy_bidirectional(&mut client, &mut application).await;
                    tracing::debug!(?copied, "tunnel closed");
                }
                Err(error) => tracing::debug!(%error, "no tunnel"),
            }
        });
    }
    Ok(Response::from_parts(head, ResponseBody::empty()))
}
