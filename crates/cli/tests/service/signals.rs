//! The signals that fleets scale on: as metrics, and as lines for CloudWatch.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dunnage_testing::census::eventually;
use dunnage_testing::language::Language;
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};

const SCRIPT: &str = r#"
import os
import time


def wait(files, ctx):
    while not os.path.exists(ctx.params["gate"]):
        time.sleep(0.002)
    return [1.0]


input = output = wait
"#;
const PATIENCE: Duration = Duration::from_secs(20);
/// NVIDIA's library as it would be with two GPUs, the second of which cannot be asked.
const LIBRARY: &str = r#"
struct memory { unsigned version; unsigned long long total, reserved, free, used; };
struct utilization { unsigned gpu, memory; };
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(unsigned long)(index + 1); return index == 0 ? 0 : 15; }
int nvmlDeviceGetMemoryInfo_v2(void *device, struct memory *memory) { memory->total = 16000; memory->used = 4000; return 0; }
int nvmlDeviceGetUtilizationRates(void *device, struct utilization *rates) { rates->gpu = 75; rates->memory = 10; return 0; }
"#;

fn setup() -> Setup {
    Setup::inline(Language::Python, "signals", SCRIPT).flags(&["--metrics", "emf", "--metrics-interval", "1s"])
}

/// What has been written by now, without a line that is not whole yet.
fn documents(output: &Path) -> Vec<Value> {
    let text = fs::read_to_string(output).unwrap();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Waits for a document of which that is true.
fn document(output: &Path, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    eventually(what, PATIENCE, || documents(output).into_iter().find(|document| is_it(document)))
}

#[test]
fn lines_for_cloudwatch_say_what_waits_what_is_busy_and_what_has_come_and_gone() {
    let setup = setup();
    let output = setup.folder().join("output");
    let gate = setup.folder().join("gate");
    let service = setup.start_writing(File::create(&output).unwrap());
    let file = setup.file("a", "x");
    let body = json!({"Files": [file], "Params": {"gate": gate}});
    let jobs: Vec<_> = (0..3).map(|_| service.submit("/input", &body)).collect();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| service.post("/output", &body));
        let busy = document(&output, "it is seen to be busy", |document| {
            document["Backlog"].as_u64() >= Some(1) && document["WorkerBusy"].as_f64() > Some(90.0)
        });
        assert_eq!((&busy["Service"], &busy["InFlight"]), (&json!("signals"), &json!(1)));
        assert!(busy["JobsRunning"].as_u64() >= Some(1) && busy["OldestWaiting"].as_u64() > Some(0), "{busy}");
        assert!(service.metric("dunnage_http_requests_in_flight", "") >= 1.0);
        fs::write(&gate, "").unwrap();
        assert_eq!(asked.join().unwrap().status, 200);
    });
    jobs.iter().for_each(|job| _ = service.ended(job));
    let calm = document(&output, "it is calm again", |document| {
        document["Backlog"] == 0 && document["InFlight"] == 0 && document["WorkerBusy"].as_f64() < Some(10.0)
    });
    assert_eq!(calm["OldestWaiting"], 0);
    let sum = |name: &str| documents(&output).iter().filter_map(|document| document[name].as_u64()).sum::<u64>();
    assert!(sum("BytesIn") > 500 && sum("BytesOut") > 500, "{:?}", documents(&output));
    assert!(service.metric("dunnage_workers_busy_seconds_total", "") > 0.5);
}

/// The folder of a library that stands in for NVIDIA's.
fn library(setup: &Setup) -> PathBuf {
    let folder = setup.folder().join("nvidia");
    fs::create_dir(&folder).unwrap();
    let source = folder.join("library.c");
    fs::write(&source, LIBRARY).unwrap();
    let built = Command::new("gcc").args(["-shared", "-fPIC", "-o"]).arg(folder.join("libnvidia-ml.so.1")).arg(&source).status();
    assert!(built.unwrap().success());
    folder
}

#[test]
fn gpus_are_told_one_by_one_and_one_that_cannot_be_asked_is_left_out() {
    let setup = setup();
    let folder = library(&setup);
    let setup = setup.environment("LD_LIBRARY_PATH", folder.to_str().unwrap());
    let output = setup.folder().join("output");
    let service = setup.start_writing(File::create(&output).unwrap());
    let gpu = document(&output, "a GPU is told", |document| document.get("Device").is_some());
    let found = ["Device", "GpuUtilization", "GpuMemoryUsed", "GpuMemory"].map(|name| gpu[name].clone());
    assert_eq!(found, [json!("0"), json!(75.0), json!(4000), json!(16000)]);
    let metrics = service.get("/metrics").text().to_owned();
    for line in [
        "dunnage_gpu_utilization_ratio{device=\"0\",service=\"signals\"} 0.75\n",
        "dunnage_gpu_memory_used_bytes{device=\"0\",service=\"signals\"} 4000\n",
        "dunnage_gpu_memory_bytes{device=\"0\",service=\"signals\"} 16000\n",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert!(!metrics.contains("device=\"1\""));
    assert!(service.log().iter().any(|line| line.contains("a GPU could not be asked")));
}

#[test]
fn who_does_not_read_the_lines_holds_up_nothing() {
    let (unread, output) = std::io::pipe().unwrap();
    let service = setup().start_writing(output);
    // Far more than the pipe takes would take hours to come; a pipe of the least size is full soon.
    rustix::pipe::fcntl_setpipe_size(&unread, 4096).unwrap();
    let told = |service: &dunnage_testing::service::Service| {
        service.log().iter().any(|line| line.contains("nobody reads standard output")).then_some(())
    };
    eventually("the log tells of it", Duration::from_mins(1), || told(&service));
    assert_eq!(service.get("/healthz/live").status, 200);
    drop(unread);
}
