//! A worker's time at work: it is fed, heard, watched, and replaced, until it is lost or no longer wanted.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use dunnage_loops::Beat;
use dunnage_protocol::{Returned, ToServer};
use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;
use tokio::time::{Instant, Sleep};

use crate::batch::{self, BatchLimits, Taken, Work, is_output, wanted};
use crate::calls::{self, Calls};
use crate::conversation::{Asker, Silence, Terms, unexpected};
use crate::exit::{Exit, Lost};
use crate::generation::{Generation, Phase};
use crate::host::Host;
use crate::shared::Shared;
use crate::slot::{END_LIMIT, start};
use crate::successor::Succession;
use crate::wear::Wear;
use crate::worker::{StartError, Worker, read_answer};

/// How often a slot gives a sign of life while its worker has nothing to do.
const BEAT_EVERY: Duration = Duration::from_secs(5);

/// A worker at work, or whichever has taken its place.
pub(crate) struct Shift<'a> {
    shared: &'a Arc<Shared>,
    generation: &'a Arc<Generation>,
    succession: &'a mut Succession,
    beat: &'a Beat,
    host: Arc<dyn Host>,
    worker: Worker,
    wear: Wear,
    calls: Calls<'a>,
    answered: u64,
}

/// How a shift has ended.
pub(crate) struct Ended {
    /// How the worker was lost; `None` when its generation was retired.
    pub(crate) lost: Option<Lost>,
    /// Whether it has answered anything.
    pub(crate) has_answered: bool,
}

/// Why a worker's work ends.
enum End {
    /// Its generation is retired.
    Retired,
    /// It is to be ended so; `None` when it has ended by itself.
    Exit(Option<Exit>),
    /// It has been ended.
    Lost(Lost),
}

impl From<Option<Exit>> for End {
    fn from(exit: Option<Exit>) -> Self {
        Self::Exit(exit)
    }
}

impl From<Exit> for End {
    fn from(exit: Exit) -> Self {
        Self::Exit(Some(exit))
    }
}

impl From<Lost> for End {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

/// What happens next.
enum Event {
    Clock,
    Phase,
    /// The generation is no more.
    Gone,
    Heard(Result<ToServer, Silence>),
    Successor(Box<Result<Worker, StartError>>),
    Work(u64, Work),
    Spare,
}

impl<'a> Shift<'a> {
    pub(crate) fn new(
        shared: &'a Arc<Shared>,
        generation: &'a Arc<Generation>,
        succession: &'a mut Succession,
        beat: &'a Beat,
        worker: Worker,
    ) -> Self {
        let (host, calls, wear) = (Arc::clone(&shared.host), Calls::new(shared), Wear::new(shared.settings.recycling));
        Self { shared, generation, succession, beat, host, worker, wear, calls, answered: 0 }
    }

    /// Has the worker, and whichever replaces it, work until one is lost or the generation is retired.
    pub(crate) async fn work(mut self, phases: &mut watch::Receiver<Phase>) -> Ended {
        let end = self.go_on(phases).await;
        let has_answered = self.answered > 0;
        let lost = match end {
            End::Retired => {
                self.worker.stop().await;
                None
            }
            End::Exit(exit) => Some(self.lose(exit).await),
            End::Lost(lost) => Some(lost),
        };
        Ended { lost, has_answered }
    }

    async fn go_on(&mut self, phases: &mut watch::Receiver<Phase>) -> End {
        // Both outlive many calls, each of which would have to pay for its own.
        let mut clock = pin!(tokio::time::sleep(BEAT_EVERY));
        let mut watched = phases.clone();
        loop {
            let mut changed = pin!(watched.changed());
            loop {
                if *phases.borrow_and_update() == Phase::Retired && self.calls.is_empty() {
                    return End::Retired;
                }
                self.set(clock.as_mut());
                let event = self.next_event(clock.as_mut(), changed.as_mut()).await;
                if matches!(event, Event::Phase) {
                    break;
                }
                if let Err(end) = self.deal_with(event, clock.as_mut(), phases).await {
                    return end;
                }
            }
        }
    }

    /// Has the clock ring no later than the deadline of the call that runs. It may ring early, as most calls end long before that.
    fn set(&self, clock: Pin<&mut Sleep>) {
        self.beat.within(self.longest_silence());
        if let Some(deadline) = self.calls.deadline().filter(|deadline| *deadline < clock.deadline()) {
            clock.reset(deadline);
        }
    }

    /// In this order: a worker that never stops talking must not put off its end, and what it says without having been asked must not
    /// be taken for the answer to what it is given next.
    async fn next_event(&mut self, clock: Pin<&mut Sleep>, changed: impl Future<Output = Result<(), RecvError>>) -> Event {
        let (is_idle, may_take) = (self.calls.is_empty(), self.may_take());
        let has_room = !is_idle && self.room(Instant::now()) > 0;
        let generation = self.generation;
        tokio::select! {
            biased;
            () = clock => Event::Clock,
            changed = changed => if changed.is_ok() { Event::Phase } else { Event::Gone },
            heard = self.worker.channel.hear(&*self.host) => Event::Heard(heard),
            successor = self.succession.ready(), if is_idle && self.succession.is_under_way() => {
                Event::Successor(Box::new(successor))
            }
            (number, work) = self.shared.queue.pop(|| generation.is_serving()), if is_idle && may_take => Event::Work(number, work),
            () = self.shared.queue.spare(), if has_room => Event::Spare,
        }
    }

    async fn deal_with(&mut self, event: Event, clock: Pin<&mut Sleep>, phases: &mut watch::Receiver<Phase>) -> Result<(), End> {
        match event {
            Event::Clock => self.look_at(clock),
            Event::Phase => Ok(()),
            Event::Gone => Err(End::Retired),
            Event::Heard(Ok(message)) => self.take_in(message).await,
            Event::Heard(Err(silence)) => Err(self.worker.channel.explain(silence).await.into()),
            Event::Successor(successor) => {
                self.accept(*successor);
                Ok(())
            }
            Event::Work(number, work) => self.begin(number, work, phases).await,
            Event::Spare => {
                self.take_spare();
                Ok(())
            }
        }
    }

    fn look_at(&self, clock: Pin<&mut Sleep>) -> Result<(), End> {
        let (now, deadline) = (Instant::now(), self.calls.deadline());
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Exit::DeadlinePassed.into());
        }
        clock.reset(deadline.unwrap_or(now + BEAT_EVERY));
        Ok(())
    }

    fn longest_silence(&self) -> Duration {
        match self.calls.is_empty() {
            true => BEAT_EVERY,
            false => self.shared.settings.timeout.saturating_add(END_LIMIT),
        }
    }

    /// Whether the worker may be given more. It is not when its replacement waits for its last answer.
    fn may_take(&self) -> bool {
        self.generation.is_serving() && !self.succession.is_loaded()
    }

    /// How many calls may be sent ahead now: none to a worker that could not hand them back when another one drags on.
    fn room(&self, now: Instant) -> usize {
        if self.may_take() && self.worker.hands_back() { self.calls.room(now) } else { 0 }
    }

    /// Begins what an idle worker has taken.
    async fn begin(&mut self, number: u64, work: Work, phases: &mut watch::Receiver<Phase>) -> Result<(), End> {
        let settings = &self.shared.settings;
        match work {
            Work::Output(pending) => {
                self.beat.within(settings.max_wait.saturating_add(END_LIMIT));
                let limits = BatchLimits { max_batch: self.max_batch(), max_wait: settings.max_wait };
                let batch = batch::gather(Taken { number, pending }, &self.shared.queue, limits, phases).await;
                self.calls.give(&mut self.worker, batch, Instant::now());
                self.take_more();
                Ok(())
            }
            Work::Job(job) => {
                self.beat.within(job.timeout.saturating_add(job.cancel_grace).saturating_add(END_LIMIT));
                let _spell = self.shared.pace.begin_other_work();
                calls::run_job(&mut self.worker, &mut self.wear, *job).await?;
                self.note_answers(1);
                Ok(())
            }
        }
    }

    /// Deals with a message, and with all that has come together with it.
    async fn take_in(&mut self, message: ToServer) -> Result<(), End> {
        let mut next = Some(message);
        let mut answers = 0;
        let now = Instant::now();
        while let Some(message) = next {
            match message {
                ToServer::Outputs(..) => {
                    self.answer(message, now)?;
                    answers += 1;
                }
                ToServer::Returned(Returned { call }) if self.calls.returned(call) => {}
                message => self.reply(message).await?,
            }
            next = match self.worker.channel.heard() {
                Ok(message) => message,
                Err(silence) => return Err(self.worker.channel.explain(silence).await.into()),
            };
        }
        if answers > 0 {
            self.note_answers(answers);
            self.take_more();
        }
        Ok(())
    }

    fn answer(&mut self, message: ToServer, now: Instant) -> Result<(), Exit> {
        let Some((call, count)) = self.calls.running() else { return Err(unexpected(&message)) };
        let vectors = read_answer(message, call, count)?;
        self.wear.note(count as u64, vectors.iter().all(Result::is_err));
        self.calls.answered(vectors, self.generation.version(), now);
        Ok(())
    }

    /// Deals with a message that is no answer to a call.
    async fn reply(&mut self, message: ToServer) -> Result<(), Option<Exit>> {
        let asker = self.calls.running().map_or(Asker::Nobody, |(call, _)| Asker::Call(call));
        let terms = Terms { host: &*self.host, asker, deadline: self.calls.deadline(), interrupt: None };
        match self.worker.channel.absorb(message, &terms).await? {
            Some(message) => Err(Some(unexpected(&message))),
            None => Ok(()),
        }
    }

    /// Sends ahead what can be expected to begin soon.
    fn take_more(&mut self) {
        let now = Instant::now();
        let room = self.room(now);
        if room == 0 {
            return;
        }
        let max_batch = self.max_batch();
        // Fewer requests than make a batch wait for others, as the worker is busy anyway.
        let (least, most) = if max_batch > 1 { (max_batch, max_batch) } else { (1, room) };
        let generation = self.generation;
        let taken = self.shared.queue.take_ahead(least, most, generation.ready(), || generation.is_serving(), is_output);
        let taken = taken.into_iter().filter_map(|(number, work)| match work {
            Work::Output(pending) => wanted(Taken { number, pending }),
            Work::Job(_) => None,
        });
        if max_batch > 1 {
            self.calls.give(&mut self.worker, taken.collect(), now);
        } else {
            taken.for_each(|taken| self.calls.give(&mut self.worker, vec![taken], now));
        }
    }

    fn take_spare(&mut self) {
        if self.room(Instant::now()) > 0 {
            self.take_more();
        } else {
            self.shared.queue.pass_on();
        }
    }

    fn max_batch(&self) -> usize {
        if self.worker.started().functions.output_batch { self.shared.settings.max_batch } else { 1 }
    }

    /// Has another worker loaded when this one has had its day and no other worker is being replaced; it goes on until then.
    fn note_answers(&mut self, answers: u64) {
        self.answered += answers;
        if !self.succession.is_due() {
            return;
        }
        let Some(worn_out) = self.wear.judge(self.worker.pid()) else { return };
        // Whoever is worn out asks again after its next call.
        let Ok(turn) = Arc::clone(&self.shared.replacements).try_acquire_owned() else { return };
        tracing::info!(pid = self.worker.pid(), reason = %worn_out, "a serving worker is being replaced");
        self.succession.begin(turn, start(Arc::clone(self.shared), Arc::clone(self.generation)));
    }

    /// Puts the replacement into the worker's place, if there is one.
    fn accept(&mut self, successor: Result<Worker, StartError>) {
        match successor {
            Ok(successor) => {
                self.succession.let_go(std::mem::replace(&mut self.worker, successor));
                self.wear = Wear::new(self.shared.settings.recycling);
            }
            Err(error) => {
                self.shared.note_failed_start(&error);
                self.succession.postpone();
            }
        }
    }

    /// Makes sure that the worker is gone. Then those hear of it whose call it was that ran, and the calls behind that one are put back.
    async fn lose(&mut self, exit: Option<Exit>) -> Lost {
        let is_believed = matches!(exit, None | Some(Exit::DeadlinePassed));
        let lost = self.worker.channel.lose(exit, &*self.host).await;
        if is_believed {
            self.hear_last_answers();
        }
        self.calls.fail(&lost);
        lost
    }

    /// What the worker had answered before it ended was answered, and has shown which call ran last.
    fn hear_last_answers(&mut self) {
        while let Ok(Some(message)) = self.worker.channel.heard_last() {
            let makes_sense = match message {
                ToServer::Outputs(..) => self.answer(message, Instant::now()).is_ok(),
                ToServer::Returned(Returned { call }) => self.calls.returned(call),
                _ => true,
            };
            if !makes_sense {
                return;
            }
        }
    }
}
