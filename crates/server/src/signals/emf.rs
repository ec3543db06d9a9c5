//! `--metrics emf`: writes the signals to standard output, where CloudWatch's agents find them.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use dunnage_loops::Beat;
use dunnage_types::Timestamp;
use tokio::task::JoinHandle;

use super::document::{Source, documents};
use super::meter::Meter;
use crate::app::App;

/// How long a look at the signals may take: the database is asked, and the GPUs.
const LOOK_LIMIT: Duration = Duration::from_secs(30);

/// Writes a line for this replica, and one for each GPU, every `--metrics-interval`.
pub(crate) async fn publish(app: Arc<App>, beat: Beat) {
    let mut meter = Meter::new(&app);
    let mut writing: Option<JoinHandle<io::Result<()>>> = None;
    loop {
        beat.rest(app.config.metrics.interval).await;
        beat.within(LOOK_LIMIT);
        let signals = meter.look(&app).await;
        // Who does not read what is written must not hold up the loop.
        if writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            tracing::warn!("nobody reads standard output; the metrics of this interval are left out");
            continue;
        }
        if let Some(ended) = writing.take() {
            report(ended.await.map_err(io::Error::other).flatten());
        }
        let source = Source { service: &app.config.service.name, replica: app.replica };
        let lines: String = documents(&source, Timestamp::now(), &signals).iter().map(|document| format!("{document}\n")).collect();
        writing = Some(tokio::task::spawn_blocking(move || write_out(&lines)));
    }
}

/// Whole lines at once, so that nobody else's get between.
fn write_out(lines: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(lines.as_bytes())?;
    output.flush()
}

fn report(written: io::Result<()>) {
    if let Err(error) = written {
        tracing::warn!(%error, "the metrics could not be written to standard output");
    }
}
