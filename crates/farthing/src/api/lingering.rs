//! Bodies that nobody reads to their end, because the request is refused before. A connection that is closed while its client
//! still sends is reset, and the client may never see why it was refused; so the rest is read, within bounds, and thrown away.
//! RFC 9112 (HTTP/1.1), section 9.6, asks for this.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::runtime::Handle;

use super::body;

/// What the server has of a body before anybody reads it; as much is thrown away without our help.
const AT_HAND: u64 = 8 << 10;
/// How much of a body that nobody wants is read, in bytes. Who sends more is cut off.
const MOST: usize = 8 * body::LARGEST;
/// How long it is read.
const LONGEST: Duration = Duration::from_secs(10);

/// Sees to the rest of each request's body.
pub(super) async fn linger(request: Request, next: Next) -> Response {
    let small = request.body().size_hint().upper().is_some_and(|bytes| bytes <= AT_HAND);
    if small {
        return next.run(request).await;
    }
    next.run(request.map(|body| Body::new(Lingering { body: Some(body) }))).await
}

/// A body that is read to its end when it is dropped.
struct Lingering {
    /// Nothing once it has ended or failed.
    body: Option<Body>,
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(tokio::time::timeout(LONGEST, read_rest(body)));
        }
    }
}

async fn read_rest(mut body: Body) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MOST {
            return;
        }
    }
}
