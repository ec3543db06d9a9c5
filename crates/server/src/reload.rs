//! `--reload`: takes up a changed script while the server runs.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dunnage_loops::Beat;

use crate::app::App;
use crate::versions;

/// How often the script's file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Replaces the workers whenever the script's file has changed. A script that cannot be loaded leaves the old ones at work.
pub(crate) async fn watch(app: Arc<App>, beat: Beat) {
    let mut loaded = stamp(&app.script).await;
    loop {
        beat.rest(LOOK_EVERY).await;
        let current = stamp(&app.script).await;
        // A file that is just being replaced has no stamp.
        if current.is_none() || current == loaded {
            continue;
        }
        loaded = current;
        beat.within(app.config.workers.load_timeout);
        match versions::reload(&app).await {
            Ok(()) => tracing::info!(script = %app.script.display(), "the script has changed and was loaded again"),
            Err(error) => tracing::error!(%error, "the changed script cannot be loaded; the one before goes on"),
        }
    }
}

async fn stamp(script: &Path) -> Option<(SystemTime, u64)> {
    let metadata = tokio::fs::metadata(script).await.ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
