//! Which requests of a connection are under way, and which is its last.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::{ConnectionType, HttpMessage, Payload, Request, Response};
use actix_web::Error;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::header;
use bytes::Bytes;
use pin_project_lite::pin_project;

use super::expectation::Begun;

/// What a connection and the requests on it know of each other. Lives on one thread.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    for_probes: bool,
    requests: Cell<u64>,
    under_way: Cell<u32>,
    /// How long the newest request's body is; `None` if it does not say.
    body: Cell<Option<u64>>,
    /// Whether the newest request has a body of which a part has not been read.
    is_body_unread: Cell<bool>,
    /// Whether the newest request is to be the last.
    is_last: Cell<bool>,
    is_over: Cell<bool>,
    /// Whether every answer is the last of its connection from now on.
    is_closing: Arc<AtomicBool>,
}

impl Exchange {
    /// For a connection on which requests may follow each other until `is_closing`.
    pub(super) fn until(is_closing: Arc<AtomicBool>) -> Self {
        Self { is_closing, ..Self::default() }
    }

    /// For a connection that may ask how the server is, once.
    pub(super) fn for_probes() -> Self {
        Self { for_probes: true, ..Self::default() }
    }

    /// Whether only the server's health may be asked for.
    pub(crate) fn is_for_probes(&self) -> bool {
        self.for_probes
    }

    /// How many requests there have been.
    pub(super) fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// Whether no request is under way: none that has come whole waits for its answer, or for a part of it.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.get() == 0
    }

    /// Whether the last request has been answered that may be.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// How long the newest request's body is, if that is known.
    pub(super) fn body(&self) -> Option<u64> {
        self.body.get()
    }

    /// Says that the newest request's body has been read to its end.
    pub(crate) fn body_was_read(&self) {
        self.is_body_unread.set(false);
    }

    /// Makes the newest request the last.
    pub(crate) fn end(&self) {
        self.is_last.set(true);
    }

    fn begin(self: Rc<Self>, request: &mut Request) -> Turn {
        let has_body = !matches!(request.payload(), Payload::None);
        self.requests.set(self.requests.get() + 1);
        self.under_way.set(self.under_way.get() + 1);
        self.body.set(if has_body { length(request) } else { Some(0) });
        self.is_body_unread.set(has_body);
        self.is_last.set(self.for_probes || request.head().connection_type() == ConnectionType::Close);
        Turn { exchange: self }
    }
}

fn length(request: &Request) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// From the head of a request to the end of its answer.
#[derive(Debug)]
pub(super) struct Turn {
    exchange: Rc<Exchange>,
}

impl Turn {
    /// Whether no request may follow. What nobody has read of a body would have to be read first, however long it goes on; and it could
    /// be taken for a request.
    fn ends_connection(&self) -> bool {
        let Exchange { is_last, is_body_unread, .. } = &*self.exchange;
        is_last.get() || is_body_unread.get()
    }

    /// Whether the answer that is now there is to be the last. What has been said of it is not taken back: the flag may be set while it is
    /// being sent.
    fn is_to_be_last(&self) -> bool {
        if self.exchange.is_closing.load(Ordering::Relaxed) {
            self.exchange.end();
        }
        self.ends_connection()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Exchange { under_way, is_over, .. } = &*self.exchange;
        under_way.set(under_way.get() - 1);
        is_over.set(is_over.get() || self.ends_connection());
    }
}

/// Gives each request its turn before the routes get it.
pub(super) struct Exchanges<S> {
    routes: S,
}

impl<S> Exchanges<S> {
    pub(super) fn new(routes: S) -> Self {
        Self { routes }
    }
}

impl<S> Service<Request> for Exchanges<S>
where
    S: Service<Request, Response = ServiceResponse<BoxBody>, Error = Error>,
    S::Future: 'static,
{
    type Response = Response<Counted>;
    type Error = Error;
    type Future = Answer<S::Future>;

    actix_web::dev::forward_ready!(routes);

    fn call(&self, mut request: Request) -> Self::Future {
        if let Some(Begun(answer)) = request.extensions_mut().remove::<Begun<Self::Future>>() {
            return Answer::Begun { answer };
        }
        let exchange = request.conn_data::<Rc<Exchange>>().cloned().unwrap_or_default();
        if exchange.is_over() {
            return Answer::Never;
        }
        let turn = Some(exchange.begin(&mut request));
        Answer::New { answer: Box::pin(self.routes.call(request)), turn }
    }
}

/// The answer to a request. Connections have room for one all the time, so it is a small thing.
pub(super) enum Answer<F> {
    /// It is being made.
    New { answer: Pin<Box<F>>, turn: Option<Turn> },
    /// It was begun before the client was told to send the body.
    Begun { answer: Pin<Box<Self>> },
    /// There is none: the client had been told that the answer before is the last. The connection will be closed.
    Never,
}

impl<F: Future<Output = Result<ServiceResponse<BoxBody>, Error>>> Future for Answer<F> {
    type Output = Result<Response<Counted>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::New { answer, turn } => {
                let answered = ready!(answer.as_mut().poll(cx))?;
                Poll::Ready(Ok(counted(answered.into(), turn.take())))
            }
            Self::Begun { answer } => answer.as_mut().poll(cx),
            Self::Never => Poll::Pending,
        }
    }
}

fn counted(mut response: Response<BoxBody>, turn: Option<Turn>) -> Response<Counted> {
    if turn.as_ref().is_some_and(Turn::is_to_be_last) {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response.map_body(|_, body| Counted { body, _turn: turn })
}

pin_project! {
    /// The body of an answer, with which its turn ends.
    pub(super) struct Counted {
        #[pin]
        body: BoxBody,
        _turn: Option<Turn>,
    }
}

impl MessageBody for Counted {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.project().body.poll_next(cx)
    }
}
