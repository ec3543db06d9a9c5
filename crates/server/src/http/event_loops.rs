//! The threads that read requests and write answers, an event loop each.
//!
//! Serving workers are fed on them as well: a request wakes no other thread where its connection and its worker are on the same one. So
//! they are there before the first worker is started, and until the last one has ended.

use std::future::pending;
use std::io;
use std::thread;

use futures_util::future::{LocalBoxFuture, select_all};
use tokio::runtime::{Builder, Handle, LocalOptions, LocalRuntime};
use tokio::sync::{oneshot, watch};

/// How many threads all loops together may have for work that blocks.
const BLOCKING_THREADS: usize = 512;

/// What a loop does beside what it is given later, made on its own thread. It goes on for as long as the loop should.
pub(super) type Work = Box<dyn FnOnce() -> LocalBoxFuture<'static, ()> + Send>;

/// Event loops on threads of their own. They end when this is dropped, and with them whatever they run.
pub(crate) struct EventLoops {
    loops: Vec<EventLoop>,
    _alive: watch::Sender<()>,
}

struct EventLoop {
    handle: Handle,
    work: Option<oneshot::Sender<Work>>,
    /// Fails when the thread has ended.
    ended: oneshot::Receiver<()>,
}

impl EventLoops {
    /// Starts so many.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if the system refuses another thread, or what an event loop needs.
    pub(crate) async fn start(count: usize) -> io::Result<Self> {
        let alive = watch::Sender::new(());
        let blocking_threads = (BLOCKING_THREADS / count.max(1)).max(1);
        let mut loops = Vec::with_capacity(count);
        for number in 0..count {
            loops.push(EventLoop::start(number, blocking_threads, alive.subscribe()).await?);
        }
        Ok(Self { loops, _alive: alive })
    }

    /// What can be run on each of them, from any thread.
    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.loops.iter().map(|event_loop| event_loop.handle.clone()).collect()
    }

    /// Gives each loop its work. Those that had been given some go on with that.
    pub(super) fn give(&mut self, work: impl IntoIterator<Item = Work>) {
        for (event_loop, work) in self.loops.iter_mut().zip(work) {
            if let Some(give) = event_loop.work.take() {
                // One that has ended is told by `one_has_ended`.
                let _ = give.send(work);
            }
        }
    }

    /// Waits until one of them has ended, which none does by itself as long as its work goes on.
    pub(super) async fn one_has_ended(&mut self) {
        if !self.loops.is_empty() {
            // It fails when the thread is done.
            let _ = select_all(self.loops.iter_mut().map(|event_loop| &mut event_loop.ended)).await;
        }
    }

    /// Ends all, and waits until they have ended.
    pub(crate) async fn end(self) {
        let Self { loops, _alive: alive } = self;
        drop(alive);
        for event_loop in loops {
            // It fails when the thread is done.
            let _ = event_loop.ended.await;
        }
    }
}

impl EventLoop {
    async fn start(number: usize, blocking_threads: usize, alive: watch::Receiver<()>) -> io::Result<Self> {
        let (tell_handle, handle) = oneshot::channel();
        let (give, work) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let run = move || {
            let _end: oneshot::Sender<()> = end;
            match Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(blocking_threads)
                .build_local(LocalOptions::default())
            {
                Ok(runtime) => {
                    // Who started this is gone if nobody hears it, and then `alive` tells the same.
                    let _ = tell_handle.send(Ok(runtime.handle().clone()));
                    run(runtime, work, alive);
                }
                Err(error) => drop(tell_handle.send(Err(error))),
            }
        };
        thread::Builder::new().name(format!("http-{number}")).spawn(run)?;
        let handle = handle.await.map_err(io::Error::other)??;
        Ok(Self { handle, work: Some(give), ended })
    }
}

/// Runs what comes, until the work ends or nobody needs the loop any more.
fn run(runtime: LocalRuntime, work: oneshot::Receiver<Work>, mut alive: watch::Receiver<()>) {
    let working = async {
        match work.await {
            Ok(work) => work().await,
            // It will be given none, and serves workers alone.
            Err(_) => pending().await,
        }
    };
    runtime.block_on(async {
        tokio::select! {
            () = working => {}
            // Fails when the loops are dropped.
            _ = alive.changed() => {}
        }
    });
    // What blocks is not waited for: it may never end.
    runtime.shutdown_background();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn what_is_started_on_a_loop_runs_on_its_thread() {
        let event_loops = EventLoops::start(2).await.unwrap();
        for (number, handle) in event_loops.handles().iter().enumerate() {
            let name = handle.spawn(async { thread::current().name().map(str::to_owned) }).await.unwrap();
            assert_eq!(name, Some(format!("http-{number}")));
        }
        timeout(PATIENCE, event_loops.end()).await.unwrap();
    }

    #[tokio::test]
    async fn a_loop_whose_work_ends_is_noticed() {
        let mut event_loops = EventLoops::start(2).await.unwrap();
        let (end, ending) = oneshot::channel::<()>();
        let goes_on: Work = Box::new(|| Box::pin(pending()));
        let ends: Work = Box::new(|| Box::pin(async { drop(ending.await) }));
        event_loops.give([goes_on, ends]);
        tokio::select! {
            biased;
            () = event_loops.one_has_ended() => panic!("both go on"),
            () = tokio::task::yield_now() => {}
        }
        end.send(()).unwrap();
        timeout(PATIENCE, event_loops.one_has_ended()).await.unwrap();
    }

    #[tokio::test]
    async fn what_runs_on_a_loop_ends_with_it() {
        let event_loops = EventLoops::start(1).await.unwrap();
        let (told, mut gone) = oneshot::channel::<()>();
        let task = event_loops.handles()[0].spawn(async move {
            let _told = told;
            pending::<()>().await;
        });
        assert!(gone.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty));
        drop(event_loops);
        assert!(timeout(PATIENCE, gone).await.unwrap().is_err(), "it is dropped");
        assert!(timeout(PATIENCE, task).await.unwrap().unwrap_err().is_cancelled());
    }
}
