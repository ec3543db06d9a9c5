//! A connection as the HTTP library reads and writes it.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::admission::Place;
use super::ending::{Ending, LINGER, discard};
use super::exchange::Exchange;
use super::head::{BareLineFeed, HeadWatch};
use super::pace::Pace;
use super::refusal;
use super::timer::Timer;
use super::traffic::Cut;
use super::transport::Transport;
use crate::app::App;
use crate::config::ConnectionConfig;
use crate::problem::{Code, Problem};

/// A stream that keeps the clocks of its connection, and the place that it takes up.
///
/// The head of every request has to come in time, an answer has to be taken in time and not too slowly, and after the last answer the client has a
/// moment to close. What the library answers by itself, when it cannot read a request, is answered in our words. On a connection where
/// all goes well that costs a look at the line ends of each head, and nothing else.
pub(super) struct Connection {
    transport: Transport,
    exchange: Rc<Exchange>,
    app: Arc<App>,
    timer: Timer,
    head: HeadWatch,
    /// How the client takes what is answered.
    taking: Pace,
    /// Since when no request has been under way and nothing has come.
    quiet: Option<Instant>,
    /// Since when the last answer has been made.
    over: Option<Instant>,
    /// Apart, as few connections ever need it.
    ending: Option<Box<Ending>>,
    has_ended: bool,
    _place: Place,
}

impl Connection {
    /// Takes over what was opened then, and the place found for it.
    pub(super) fn new(transport: Transport, opened: Instant, exchange: Exchange, app: Arc<App>, place: Place) -> Self {
        let taking = taking(&app.config.http.connections);
        Self {
            transport,
            exchange: Rc::new(exchange),
            app,
            timer: Timer::default(),
            head: HeadWatch::new(opened),
            taking,
            quiet: None,
            over: None,
            ending: None,
            has_ended: false,
            _place: place,
        }
    }

    /// What its requests are to know of it.
    pub(super) fn exchange(&self) -> Rc<Exchange> {
        Rc::clone(&self.exchange)
    }

    fn limits(&self) -> &ConnectionConfig {
        &self.app.config.http.connections
    }

    /// Which requests have come is known before what comes next, and before it is waited for.
    fn catch_up(&mut self) {
        self.head.catch_up(self.exchange.requests(), self.exchange.body());
    }

    /// What came while no request was under way; `None` if the head it belongs to is refused.
    fn take_head(&mut self, bytes: &[u8]) -> Option<()> {
        let Err(BareLineFeed) = self.head.take(bytes, Instant::now) else { return Some(()) };
        self.refuse(&refusal::malformed("a line ends with a line feed alone"));
        None
    }

    /// Whether the head that is awaited has had its time.
    fn is_head_late(&mut self, cx: &mut Context<'_>) -> bool {
        let patience = if self.exchange.is_for_probes() { LINGER } else { self.limits().head_timeout };
        self.head.since().is_some_and(|since| self.timer.has_passed(since + patience.min(self.limits().head_timeout), cx))
    }

    fn refuse(&mut self, problem: &Problem) {
        self.app.metrics.traffic().cut(Cut::Head);
        // In the middle of an answer that the client does not take, another one would be taken for its rest.
        let answer = if self.taking.is_waiting() { Vec::new() } else { refusal::answer(problem, &self.app) };
        self.ending = Some(Box::new(Ending::with(answer)));
    }

    /// Goes on to end the connection, if that has begun.
    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        let ending = self.ending.as_mut()?;
        let before = ending.written();
        let progress = ending.poll(&mut self.transport, &mut self.timer, cx);
        self.app.metrics.traffic().sent(ending.written() - before);
        if progress.is_ready() {
            self.ending = None;
            self.has_ended = true;
        }
        Some(progress)
    }

    /// Whether nothing has come for longer than a connection may stay open so, while no head is awaited that has its own time.
    fn is_quiet_for_long(&mut self, cx: &mut Context<'_>) -> bool {
        if self.head.since().is_some() {
            return false;
        }
        let since = *self.quiet.get_or_insert_with(Instant::now);
        since.checked_add(self.limits().keep_alive).is_some_and(|end| self.timer.has_passed(end, cx))
    }

    /// With the end of an answer the connection becomes quiet. Nothing may be read before it has been for long. After the last answer there is
    /// another end to wait for.
    fn begin_to_be_quiet(&mut self, cx: &mut Context<'_>) {
        if !self.exchange.is_idle() || self.exchange.is_over() {
            self.quiet = None;
            return;
        }
        self.catch_up();
        if self.is_quiet_for_long(cx) {
            cx.waker().wake_by_ref();
        }
    }

    /// Once the last answer has been made, the client has its moment, whether it sends something or not.
    fn begin_to_be_over(&mut self, cx: &Context<'_>) {
        if self.over.is_none() && self.exchange.is_over() && self.exchange.is_idle() {
            self.over = Some(Instant::now());
            cx.waker().wake_by_ref();
        }
    }

    /// After the last answer: throws away what comes, until the client closes or has had its moment.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.over.get_or_insert_with(Instant::now);
        match discard(&mut self.transport, cx) {
            Poll::Pending if !self.timer.has_passed(since + LINGER, cx) => Poll::Pending,
            _ => {
                self.has_ended = true;
                Poll::Ready(())
            }
        }
    }

    /// What to do about bytes that the client does not take.
    fn stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if !self.is_taken_too_slowly(cx) {
            return Poll::Pending;
        }
        self.app.metrics.traffic().cut(Cut::Stalled);
        self.has_ended = true;
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    /// Whether the client has taken nothing for too long, or too little all in all.
    fn is_taken_too_slowly(&mut self, cx: &mut Context<'_>) -> bool {
        let (since, left) = self.taking.wait();
        self.timer.has_passed(since + left.min(self.limits().write_timeout), cx)
    }

    /// What one client's answers have used up of its time is not held against its next ones.
    fn note_that_all_was_taken(&mut self) {
        self.taking.go_on(0);
        if self.exchange.is_idle() {
            self.taking = taking(self.limits());
        }
    }

    fn read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let is_idle = self.exchange.is_idle();
        match Pin::new(&mut self.transport).poll_read(cx, buffer)? {
            Poll::Ready(()) => {
                let bytes = &buffer.filled()[before..];
                self.app.metrics.traffic().received(bytes.len());
                self.quiet = None;
                if !is_idle {
                    self.head.pass(bytes);
                } else if !bytes.is_empty() && self.take_head(bytes).is_none() {
                    buffer.set_filled(before);
                    return self.poll_ending(cx).unwrap_or(Poll::Ready(())).map(Ok);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending if is_idle && self.is_head_late(cx) => {
                self.refuse(&Problem::new(Code::HeadTooSlow, "the head of the request did not come in time (`--head-timeout`)"));
                self.poll_ending(cx).unwrap_or(Poll::Ready(())).map(Ok)
            }
            Poll::Pending if is_idle && self.is_quiet_for_long(cx) => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn taking(limits: &ConnectionConfig) -> Pace {
    Pace::new(limits.write_timeout, limits.min_body_rate)
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(progress) = this.poll_ending(cx) {
            return progress.map(Ok);
        }
        if this.has_ended {
            return Poll::Ready(Ok(()));
        }
        if this.exchange.is_over() && this.exchange.is_idle() {
            return this.poll_over(cx).map(Ok);
        }
        this.catch_up();
        this.read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, mut bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let whole = bytes.len();
        if this.ending.is_none()
            && let Some(found) = refusal::find(bytes)
        {
            bytes = &bytes[..found.begin];
            if bytes.is_empty() {
                this.refuse(&refusal::meant(found.status, this.head.first_line(), &this.app));
            }
        }
        if let Some(progress) = this.poll_ending(cx) {
            return progress.map(|()| Ok(whole));
        }
        match Pin::new(&mut this.transport).poll_write(cx, bytes)? {
            Poll::Ready(written) => {
                this.taking.go_on(written);
                this.app.metrics.traffic().sent(written);
                Poll::Ready(Ok(written))
            }
            Poll::Pending => this.stall(cx).map(Err),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.has_ended || this.ending.is_some() {
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut this.transport).poll_flush(cx)? {
            Poll::Ready(()) => {
                this.note_that_all_was_taken();
                this.begin_to_be_over(cx);
                this.begin_to_be_quiet(cx);
                Poll::Ready(Ok(()))
            }
            Poll::Pending => this.stall(cx).map(Err),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.has_ended || this.ending.is_some() {
            return Poll::Ready(Ok(()));
        }
        // A client that has gone already is no failure.
        let shut = ready!(Pin::new(&mut this.transport).poll_shutdown(cx));
        Poll::Ready(shut.or(Ok(())))
    }
}
