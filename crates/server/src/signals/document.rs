//! Signals as CloudWatch reads them out of a log: its embedded metric format, version of 2020.

use dunnage_types::{ReplicaId, ServiceName, Timestamp};
use serde_json::{Map, Value, json};

use super::gpu::Reading;
use super::meter::Signals;

/// Under which name CloudWatch keeps the metrics.
const NAMESPACE: &str = "Dunnage";

/// Whose signals they are.
pub(crate) struct Source<'a> {
    pub(crate) service: &'a ServiceName,
    pub(crate) replica: ReplicaId,
}

/// One document for the replica, and one for each GPU.
pub(crate) fn documents(source: &Source<'_>, at: Timestamp, signals: &Signals) -> Vec<Value> {
    let gpus = signals.gpus.iter().map(|gpu| of_gpu(source, at, gpu));
    std::iter::once(of_replica(source, at, signals)).chain(gpus).collect()
}

fn of_replica(source: &Source<'_>, at: Timestamp, signals: &Signals) -> Value {
    let mut metrics = vec![
        Metric::count("InFlight", signals.in_flight),
        Metric::share("WorkerBusy", signals.worker_busy),
        Metric::bytes("BytesIn", signals.bytes_in),
        Metric::bytes("BytesOut", signals.bytes_out),
    ];
    if let Some(backlog) = &signals.backlog {
        let oldest_ms = backlog.oldest_queued.map_or(0, |oldest| at.0.saturating_sub(oldest.0).max(0));
        metrics.extend([
            Metric::count("Backlog", backlog.queued),
            Metric::count("JobsRunning", backlog.running),
            Metric { name: "OldestWaiting", unit: "Milliseconds", value: json!(oldest_ms) },
        ]);
    }
    document(source, at, &["Service"], Map::new(), &metrics)
}

fn of_gpu(source: &Source<'_>, at: Timestamp, gpu: &Reading) -> Value {
    let metrics = [
        Metric::share("GpuUtilization", gpu.utilization),
        Metric::bytes("GpuMemoryUsed", gpu.memory_used),
        Metric::bytes("GpuMemory", gpu.memory_total),
    ];
    let device = Map::from_iter([("Device".to_owned(), json!(gpu.device.to_string()))]);
    document(source, at, &["Service", "Device"], device, &metrics)
}

struct Metric {
    name: &'static str,
    unit: &'static str,
    value: Value,
}

impl Metric {
    fn count(name: &'static str, count: u64) -> Self {
        Self { name, unit: "Count", value: json!(count) }
    }

    fn bytes(name: &'static str, bytes: u64) -> Self {
        Self { name, unit: "Bytes", value: json!(bytes) }
    }

    /// From 0 to 1, in percent.
    fn share(name: &'static str, share: f64) -> Self {
        Self { name, unit: "Percent", value: json!(share * 100.0) }
    }
}

fn document(source: &Source<'_>, at: Timestamp, dimensions: &[&str], mut members: Map<String, Value>, metrics: &[Metric]) -> Value {
    let named: Vec<_> = metrics.iter().map(|metric| json!({"Name": metric.name, "Unit": metric.unit})).collect();
    let directive = json!({"Namespace": NAMESPACE, "Dimensions": [dimensions], "Metrics": named});
    members.insert("_aws".to_owned(), json!({"Timestamp": at.0, "CloudWatchMetrics": [directive]}));
    members.insert("Service".to_owned(), json!(source.service.as_str()));
    // No dimension: it could be looked for in the log, but makes no metric of its own.
    members.insert("Replica".to_owned(), json!(source.replica.to_string()));
    members.extend(metrics.iter().map(|metric| (metric.name.to_owned(), metric.value.clone())));
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use dunnage_store::Backlog;

    use super::*;

    fn signals(backlog: Option<Backlog>) -> Signals {
        let gpu = Reading { device: 1, utilization: 0.5, memory_used: 3, memory_total: 9 };
        Signals { backlog, in_flight: 2, worker_busy: 0.25, bytes_in: 7, bytes_out: 8, gpus: vec![gpu] }
    }

    fn of(signals: &Signals) -> Vec<Value> {
        let source = Source { service: &"gait".parse().unwrap(), replica: ReplicaId::random() };
        documents(&source, Timestamp(100_000), signals)
    }

    /// The metrics that a document says that it has, with their values.
    fn metrics<'a>(document: &'a Value) -> Vec<(&'a str, &'a str, &'a Value)> {
        let announced = document["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap();
        let text = |metric: &'a Value, member: &str| metric[member].as_str().unwrap();
        announced.iter().map(|metric| (text(metric, "Name"), text(metric, "Unit"), &document[text(metric, "Name")])).collect()
    }

    #[test]
    fn each_metric_that_is_announced_is_there_with_its_dimensions() {
        let backlog = Backlog { queued: 4, running: 1, oldest_queued: Some(Timestamp(97_500)) };
        let all = of(&signals(Some(backlog)));
        let [replica, gpu] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!(replica["_aws"]["Timestamp"], 100_000);
        assert_eq!(replica["_aws"]["CloudWatchMetrics"][0]["Namespace"], "Dunnage");
        assert_eq!(replica["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["Service"]]));
        assert_eq!(replica["Service"], "gait");
        let expected = [
            ("InFlight", "Count", json!(2)),
            ("WorkerBusy", "Percent", json!(25.0)),
            ("BytesIn", "Bytes", json!(7)),
            ("BytesOut", "Bytes", json!(8)),
            ("Backlog", "Count", json!(4)),
            ("JobsRunning", "Count", json!(1)),
            ("OldestWaiting", "Milliseconds", json!(2500)),
        ];
        let borrowed: Vec<_> = expected.iter().map(|(name, unit, value)| (*name, *unit, value)).collect();
        assert_eq!(metrics(replica), borrowed);
        assert_eq!(gpu["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["Service", "Device"]]));
        assert_eq!(gpu["Device"], "1");
        let half = json!(50.0);
        assert_eq!(metrics(gpu)[0], ("GpuUtilization", "Percent", &half));
    }

    #[test]
    fn without_a_database_there_is_no_backlog_rather_than_none() {
        let all = of(&signals(None));
        assert!(metrics(&all[0]).iter().all(|(name, ..)| !["Backlog", "JobsRunning", "OldestWaiting"].contains(name)));
        assert!(all[0].get("Backlog").is_none());
    }
}
