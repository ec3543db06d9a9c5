//! How the GPUs are doing, as NVIDIA's management library says. It is loaded while the server runs; where it is absent there are no GPUs.

use std::sync::{Arc, OnceLock};

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use prometheus::{GaugeVec, IntGaugeVec, Opts};

use crate::metrics::{Register, as_gauge};

/// The GPUs of this machine. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Gpus(Arc<OnceLock<Option<Nvml>>>);

/// One GPU, as it is now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reading {
    /// Its number, from 0, as in `cuda:0`.
    pub(crate) device: u32,
    /// The part of the last moment in which it computed, from 0 to 1.
    pub(crate) utilization: f64,
    /// The memory in use, in bytes.
    pub(crate) memory_used: u64,
    /// Its memory, in bytes.
    pub(crate) memory_total: u64,
}

impl Gpus {
    /// How each of them is doing; none where there is no library. A GPU that cannot be asked is left out, and the log told.
    pub(crate) async fn read(&self) -> Vec<Reading> {
        let gpus = self.clone();
        // The library may take its time, and the first time loads it.
        let reading = tokio::task::spawn_blocking(move || gpus.read_now());
        reading.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the GPUs could not be asked");
            Vec::new()
        })
    }

    fn read_now(&self) -> Vec<Reading> {
        let Some(library) = self.0.get_or_init(load) else { return Vec::new() };
        let count = library.device_count().unwrap_or_else(|error| {
            tracing::warn!(%error, "the GPUs could not be counted");
            0
        });
        let read = |device| read(library, device).inspect_err(|error| tracing::warn!(device, %error, "a GPU could not be asked"));
        (0..count).filter_map(|device| read(device).ok()).collect()
    }
}

/// Drivers install the second name only together with what programs are built with.
fn load() -> Option<Nvml> {
    let by_version = Nvml::builder().lib_path("libnvidia-ml.so.1".as_ref()).init();
    by_version
        .or_else(|_| Nvml::init())
        .inspect_err(|error| tracing::debug!(%error, "NVIDIA's library is not to be had; no GPUs are watched"))
        .ok()
}

fn read(library: &Nvml, device: u32) -> Result<Reading, NvmlError> {
    let gpu = library.device_by_index(device)?;
    let memory = gpu.memory_info()?;
    let utilization = f64::from(gpu.utilization_rates()?.gpu) / 100.0;
    Ok(Reading { device, utilization, memory_used: memory.used, memory_total: memory.total })
}

/// The metrics of the GPUs.
pub(crate) struct GpuMetrics {
    utilization: GaugeVec,
    memory_used: IntGaugeVec,
    memory_total: IntGaugeVec,
}

impl GpuMetrics {
    pub(crate) fn new(register: &Register<'_>) -> Result<Self, prometheus::Error> {
        let bytes = |name: &str, help: &str| register.add(IntGaugeVec::new(Opts::new(name, help), &["device"])?);
        let utilization = Opts::new("gpu_utilization_ratio", "The part of the last moment in which a GPU computed, from 0 to 1");
        Ok(Self {
            utilization: register.add(GaugeVec::new(utilization, &["device"])?)?,
            memory_used: bytes("gpu_memory_used_bytes", "Memory of a GPU that is in use")?,
            memory_total: bytes("gpu_memory_bytes", "Memory that a GPU has")?,
        })
    }

    /// Brings the metrics up to date. A GPU that could not be asked has none.
    pub(crate) fn take(&self, readings: &[Reading]) {
        self.utilization.reset();
        self.memory_used.reset();
        self.memory_total.reset();
        for reading in readings {
            let device = reading.device.to_string();
            self.utilization.with_label_values(&[&device]).set(reading.utilization);
            self.memory_used.with_label_values(&[&device]).set(as_gauge(reading.memory_used));
            self.memory_total.with_label_values(&[&device]).set(as_gauge(reading.memory_total));
        }
    }
}
