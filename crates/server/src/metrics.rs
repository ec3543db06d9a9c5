//! What operators watch and fleets scale on, in Prometheus' text format.

use std::time::Duration;

use dunnage_files::Files;
use dunnage_loops::Loops;
use dunnage_store::Backlog;
use dunnage_types::{JobKind, JobState, Timestamp};
use dunnage_workers::PoolStatus;
use prometheus::{
    Counter, Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

use crate::file_metrics::FileMetrics;
use crate::http::traffic::Traffic;
use crate::signals::gpu::{GpuMetrics, Reading};
use crate::state::StateCacheCounters;

const LATENCY_BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
const BATCH_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// Methods beyond these are counted together, so that clients cannot make up labels.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"];

/// The route, method and status of what is answered most.
const ANSWERED_OUTPUT: (&str, &str, u16) = ("/output", "POST", 200);

/// Every metric of a server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    in_flight: IntGauge,
    latency: HistogramVec,
    /// Those of the two for [`ANSWERED_OUTPUT`], which are then not looked up by their labels each time.
    outputs_answered: (IntCounter, Histogram),
    batch_size: Histogram,
    jobs_finished: IntCounterVec,
    jobs_retried: IntCounter,
    callbacks: IntCounterVec,
    jobs_queued: IntGauge,
    jobs_running: IntGauge,
    oldest_queued: Gauge,
    workers_ready: IntGauge,
    workers_wanted: IntGauge,
    workers_busy: Counter,
    workers_lost: IntCounterVec,
    outputs_queued: IntGauge,
    outputs_refused: IntCounterVec,
    queue_time: Histogram,
    active_version: IntGauge,
    state_cache: StateCacheCounters,
    event_streams: IntGauge,
    loop_restarts: IntCounterVec,
    loops_ailing: IntGauge,
    panics: IntCounter,
    lost_log_lines: IntCounter,
    gpus: GpuMetrics,
    files: FileMetrics,
    traffic: Traffic,
}

impl Metrics {
    /// Makes and registers them, each labelled with the service.
    pub(crate) fn new(service: &str) -> Result<Self, prometheus::Error> {
        let labels = [("service".to_owned(), service.to_owned())].into();
        let registry = Registry::new_custom(Some("dunnage".to_owned()), Some(labels))?;
        let register = Register(&registry);
        let requests = register.counters("http_requests_total", "HTTP requests answered", &["route", "method", "status"])?;
        let latency = register.add(HistogramVec::new(
            HistogramOpts::new("http_request_duration_seconds", "Time to answer an HTTP request").buckets(LATENCY_BUCKETS.to_vec()),
            &["route"],
        )?)?;
        let (route, method, status) = ANSWERED_OUTPUT;
        let outputs_answered =
            (requests.with_label_values(&[route, method, &status.to_string()]), latency.with_label_values(&[route]));
        Ok(Self {
            requests,
            in_flight: register.gauge("http_requests_in_flight", "HTTP requests that are being answered")?,
            latency,
            outputs_answered,
            batch_size: register.add(Histogram::with_opts(
                HistogramOpts::new("output_batch_size", "Requests answered together by one call of the script")
                    .buckets(BATCH_BUCKETS.to_vec()),
            )?)?,
            jobs_finished: register.counters(
                "jobs_finished_total",
                "Jobs that reached a terminal state here",
                &["kind", "state"],
            )?,
            jobs_retried: register.add(IntCounter::new("job_retries_total", "Attempts that were handed back to be repeated")?)?,
            callbacks: register.counters(
                "callback_deliveries_total",
                "Deliveries of callbacks tried here, by what became of them: delivered, retried or given_up",
                &["outcome"],
            )?,
            jobs_queued: register.gauge("jobs_queued", "Jobs of the service that wait")?,
            jobs_running: register.gauge("jobs_running", "Jobs of the service that run")?,
            oldest_queued: register
                .add(Gauge::new("jobs_oldest_queued_seconds", "Age of the oldest waiting job, 0 without one")?)?,
            workers_ready: register.gauge("workers_ready", "Serving workers that are loaded")?,
            workers_wanted: register.gauge("workers_wanted", "Serving workers there should be")?,
            workers_busy: register.add(Counter::new(
                "workers_busy_seconds_total",
                "Time in which serving workers had something to do, added up over all of them",
            )?)?,
            workers_lost: register.counters(
                "workers_lost_total",
                "Workers that died, were killed or could not be started, by reason (docs/workers.md)",
                &["reason"],
            )?,
            outputs_queued: register.gauge("outputs_queued", "Requests for output that wait for a worker")?,
            outputs_refused: register.counters(
                "outputs_refused_total",
                "Requests for output refused because too many waited, by cause: queue_full, queue_wait or deadline",
                &["cause"],
            )?,
            queue_time: register.add(Histogram::with_opts(
                HistogramOpts::new("output_queue_seconds", "Time that answered requests waited for a worker")
                    .buckets(LATENCY_BUCKETS.to_vec()),
            )?)?,
            active_version: register.gauge("active_version", "The version being served, 0 before the first")?,
            state_cache: StateCacheCounters {
                hits: register.add(IntCounter::new("state_cache_hits_total", "Reads of state answered from memory")?)?,
                misses: register.add(IntCounter::new("state_cache_misses_total", "Reads of state that went to the database")?)?,
            },
            event_streams: register.gauge("event_streams", "Streams of events that are open")?,
            loop_restarts: register.counters(
                "loop_restarts_total",
                "Failures of background loops, each of which was started again (docs/workers.md)",
                &["loop"],
            )?,
            loops_ailing: register.gauge("loops_ailing", "Background loops that stand still or keep failing")?,
            panics: register.add(IntCounter::new("panics_total", "Panics of the server, each of which is a mistake in it")?)?,
            lost_log_lines: register.add(IntCounter::new(
                "log_lines_lost_total",
                "Lines of the log that could not be written or were not taken in time",
            )?)?,
            gpus: GpuMetrics::new(&register)?,
            files: FileMetrics::new(&register)?,
            traffic: Traffic::new(&register)?,
            registry,
        })
    }

    pub(crate) fn observe_request(&self, route: &str, method: &str, status: u16, duration: Duration) {
        if (route, method, status) == ANSWERED_OUTPUT {
            self.outputs_answered.0.inc();
            return self.outputs_answered.1.observe(duration.as_secs_f64());
        }
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("other");
        self.requests.with_label_values(&[route, method, &status.to_string()]).inc();
        self.latency.with_label_values(&[route]).observe(duration.as_secs_f64());
    }

    /// A request that was refused before anything of it was read.
    pub(crate) fn observe_unread(&self, status: u16) {
        self.requests.with_label_values(&["unread", "unread", &status.to_string()]).inc();
    }

    /// The metrics of connections.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Notes that a request was answered together with others, after it had waited for a worker.
    pub(crate) fn observe_output(&self, batch_size: usize, waited: Duration) {
        self.batch_size.observe(u32::try_from(batch_size).unwrap_or(u32::MAX).into());
        self.queue_time.observe(waited.as_secs_f64());
    }

    pub(crate) fn job_finished(&self, kind: JobKind, state: JobState) {
        self.jobs_finished.with_label_values(&[kind.as_str(), state.as_str()]).inc();
    }

    pub(crate) fn job_retried(&self) {
        self.jobs_retried.inc();
    }

    /// The counters for the cache in front of the state.
    pub(crate) fn state_cache(&self) -> StateCacheCounters {
        self.state_cache.clone()
    }

    pub(crate) fn callback_settled(&self, outcome: &str) {
        self.callbacks.with_label_values(&[outcome]).inc();
    }

    /// Counts a request as being answered until what is returned is dropped.
    pub(crate) fn begin_request(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// How many requests are being answered.
    pub(crate) fn requests_in_flight(&self) -> u64 {
        u64::try_from(self.in_flight.get()).unwrap_or_default()
    }

    pub(crate) fn take_gpus(&self, readings: &[Reading]) {
        self.gpus.take(readings);
    }

    pub(crate) fn take_files(&self, files: &Files) {
        self.files.take(files);
    }

    pub(crate) fn set_event_streams(&self, open: usize) {
        self.event_streams.set(as_gauge(open as u64));
    }

    pub(crate) fn take_loops(&self, loops: &Loops) {
        for (name, restarts) in loops.restarts() {
            raise_to(&self.loop_restarts.with_label_values(&[name]), restarts);
        }
        self.loops_ailing.set(as_gauge(loops.ailing().len() as u64));
        raise_to(&self.panics, dunnage_loops::panics::count());
    }

    pub(crate) fn take_log(&self, lost_lines: u64) {
        raise_to(&self.lost_log_lines, lost_lines);
    }

    /// The text, with the gauges as they are now.
    pub(crate) fn render(&self, pool: &PoolStatus, backlog: Option<Backlog>) -> Result<String, prometheus::Error> {
        self.workers_ready.set(as_gauge(pool.ready as u64));
        self.workers_wanted.set(as_gauge(pool.wanted as u64));
        for (reason, losses) in &pool.losses_by_reason {
            raise_to(&self.workers_lost.with_label_values(&[reason.as_str()]), *losses);
        }
        for (cause, refusals) in &pool.refusals {
            let counter = self.outputs_refused.with_label_values(&[cause.as_str()]);
            counter.inc_by(refusals.saturating_sub(counter.get()));
        }
        self.workers_busy.inc_by((pool.busy.as_secs_f64() - self.workers_busy.get()).max(0.0));
        self.outputs_queued.set(as_gauge(pool.queued as u64));
        self.active_version.set(pool.version.map_or(0, |version| version.get().into()));
        if let Some(backlog) = backlog {
            self.jobs_queued.set(as_gauge(backlog.queued));
            self.jobs_running.set(as_gauge(backlog.running));
            let age_ms = backlog.oldest_queued.map_or(0, |oldest| Timestamp::now().0.saturating_sub(oldest.0).max(0));
            self.oldest_queued.set(Duration::from_millis(age_ms.unsigned_abs()).as_secs_f64());
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// A request that is being answered.
pub(crate) struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Adds metrics to a registry.
pub(crate) struct Register<'a>(&'a Registry);

impl Register<'_> {
    pub(crate) fn add<T: prometheus::core::Collector + Clone + 'static>(&self, metric: T) -> Result<T, prometheus::Error> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    pub(crate) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::new(name, help)?)
    }

    pub(crate) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }
}

/// Has a counter show what is counted elsewhere.
fn raise_to(counter: &IntCounter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

pub(crate) fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
