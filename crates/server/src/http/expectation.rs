//! Clients that ask before they send: `Expect: 100-continue`.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::body::BoxBody;
use actix_http::error::PayloadError;
use actix_http::{HttpMessage, Payload, Request, Response};
use actix_web::Error;
use actix_web::dev::Service;
use bytes::Bytes;
use futures_util::Stream;

use super::exchange::Counted;

/// Begins to answer a request whose client waits to be told to send the body, and has it told so when somebody begins to read it.
///
/// So whatever can be refused by the head alone is refused without a `100 Continue`, and the client keeps its body.
pub(super) struct Expectation<S> {
    requests: Rc<S>,
}

/// The answer that was begun, on its way from [`Expectation`] to the service that goes on with it.
pub(super) struct Begun<F>(pub(super) Pin<Box<F>>);

impl<S> Expectation<S> {
    pub(super) fn new(requests: Rc<S>) -> Self {
        Self { requests }
    }
}

impl<S> Service<Request> for Expectation<S>
where
    S: Service<Request, Response = Response<Counted>, Error = Error>,
    S::Future: 'static,
{
    type Response = Request;
    /// Not an error, but an answer before the client was told to go on.
    type Error = Response<BoxBody>;
    type Future = Asking<S::Future>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.requests.poll_ready(cx).map_err(Into::into)
    }

    fn call(&self, mut request: Request) -> Self::Future {
        let is_wanted = Rc::new(Cell::new(false));
        let payload = OnDemand { payload: request.take_payload(), is_wanted: Rc::clone(&is_wanted) };
        *request.payload() = Payload::Stream { payload: Box::pin(payload) };
        Asking { answer: Some(Box::pin(self.requests.call(request))), is_wanted }
    }
}

/// Ends with the answer, or when the body is wanted.
pub(super) struct Asking<F> {
    answer: Option<Pin<Box<F>>>,
    is_wanted: Rc<Cell<bool>>,
}

impl<F> Future for Asking<F>
where
    F: Future<Output = Result<Response<Counted>, Error>> + 'static,
{
    type Output = Result<Request, Response<BoxBody>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(answer) = &mut self.answer else { return Poll::Pending };
        match answer.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Err(response.map_into_boxed_body())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending if self.is_wanted.get() => {
                let request = Request::new();
                self.answer.take().map(Begun).map(|begun| request.extensions_mut().insert(begun));
                Poll::Ready(Ok(request))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A body that says when it is first asked for.
struct OnDemand {
    payload: Payload,
    is_wanted: Rc<Cell<bool>>,
}

impl Stream for OnDemand {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_wanted.replace(true) {
            return Pin::new(&mut self.payload).poll_next(cx);
        }
        // Whoever asked is asked to do so once more, when the client has been told.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
