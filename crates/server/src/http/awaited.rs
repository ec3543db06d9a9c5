//! Bodies, which have to come.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::{HttpRequest, web};
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::Sleep;

use super::exchange::Exchange;
use super::pace::Pace;
use crate::config::ConnectionConfig;

/// A body that fails when it comes too slowly.
///
/// Only the time counts in which it is awaited, not what is done with it in between. It may be awaited for `--body-grace`, and for
/// a second more for each `--min-body-rate` bytes that have come.
pub(crate) struct Awaited {
    payload: web::Payload,
    pace: Pace,
    /// Runs while the next part is awaited.
    timer: Option<Pin<Box<Sleep>>>,
    /// How long the body says that it is.
    length: Option<u64>,
    exchange: Option<Rc<Exchange>>,
}

impl Awaited {
    /// The body of a request.
    pub(crate) fn new(request: &HttpRequest, payload: web::Payload, limits: &ConnectionConfig) -> Self {
        let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.trim().parse().ok());
        let pace = Pace::new(limits.body_grace, limits.min_body_rate);
        Self { payload, pace, timer: None, length, exchange: request.conn_data::<Rc<Exchange>>().cloned() }
    }

    fn note(&mut self, part: Option<&Bytes>) {
        self.timer = None;
        self.pace.go_on(part.map_or(0, Bytes::len));
        // A form ends before its last bytes have been asked for.
        let is_whole = part.is_none() || self.length == Some(self.pace.moved());
        if is_whole && let Some(exchange) = &self.exchange {
            exchange.body_was_read();
        }
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        let (_, left) = self.pace.wait();
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(left)));
        timer.as_mut().poll(cx).map(|()| Some(Err(PayloadError::Io(io::ErrorKind::TimedOut.into()))))
    }
}

/// Whether a body failed because it came too slowly.
pub(crate) fn is_too_slow(error: &PayloadError) -> bool {
    matches!(error, PayloadError::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

impl Stream for Awaited {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match Pin::new(&mut self.payload).poll_next(cx) {
            Poll::Ready(Some(Ok(part))) => {
                self.note(Some(&part));
                Poll::Ready(Some(Ok(part)))
            }
            Poll::Ready(None) => {
                self.note(None);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Pending => self.wait(cx),
        }
    }
}
