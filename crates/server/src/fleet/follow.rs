//! Following the active version, whoever made it so.

use std::sync::Arc;
use std::time::Duration;

use dunnage_loops::Beat;
use dunnage_types::Version;
use tokio::time::Instant;

use crate::app::App;
use crate::problem::chain;
use crate::versions::{self, CatchUpError};

/// How often the active version is asked for when no hint comes; other replicas lag behind an activation by about that, and the time
/// to load.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The first wait before a version that cannot serve here is tried again; doubled with each further time.
const FIRST_BACKOFF: Duration = Duration::from_secs(5);
const LONGEST_BACKOFF: Duration = Duration::from_mins(5);

/// How long it may take to fetch and to check what a version has written.
const FETCH_LIMIT: Duration = Duration::from_hours(1);

/// A version that could not serve here.
struct Unusable {
    version: Version,
    failures: u32,
    retry_at: Instant,
}

/// Has the active version serve here from the start, and keeps this replica on it for as long as it runs. A version that cannot serve here
/// leaves the one before at work; at the start there is none, and then requests are refused with the reason.
pub(crate) async fn follow(app: Arc<App>, beat: Beat) {
    let mut unusable: Option<Unusable> = None;
    loop {
        beat.within(FETCH_LIMIT.saturating_add(app.config.workers.load_timeout));
        match look(&app, unusable.as_ref()).await {
            Ok(Look::InStep) => {
                unusable = None;
                app.presence.set_error(None);
            }
            Ok(Look::Resting) => {}
            Err(CatchUpError::Unusable { version, reason }) => {
                let error = format!("version {version} cannot serve here: {reason}");
                tracing::error!(error, "this replica goes on with the version before, if there is one; trying again later");
                unusable = Some(after(unusable, version));
                app.pool.refuse(&error);
                app.presence.set_error(Some(error));
            }
            Err(error @ CatchUpError::Store(_)) => {
                tracing::warn!(error = %chain(&error), "the active version cannot be asked for");
            }
        }
        tokio::select! {
            () = beat.rest(LOOK_EVERY.mul_f64(rand::random_range(0.75..=1.25))) => {}
            () = app.store.version_hint() => {}
        }
    }
}

/// What a look has shown.
enum Look {
    /// The active version serves here, or there is none.
    InStep,
    /// The active version has failed to serve here, and it is not time to try it again.
    Resting,
}

async fn look(app: &App, unusable: Option<&Unusable>) -> Result<Look, CatchUpError> {
    let active = app.store.active().await?.map(|active| active.version);
    let Some(active) = active.filter(|active| Some(*active) != app.pool.status().version) else { return Ok(Look::InStep) };
    if unusable.is_some_and(|it| it.version == active && Instant::now() < it.retry_at) {
        return Ok(Look::Resting);
    }
    versions::catch_up(app).await?;
    app.presence.changed();
    Ok(Look::InStep)
}

fn after(former: Option<Unusable>, version: Version) -> Unusable {
    let failures = former.filter(|it| it.version == version).map_or(0, |it| it.failures) + 1;
    let wait = LONGEST_BACKOFF.min(FIRST_BACKOFF * 2_u32.saturating_pow(failures - 1)).mul_f64(rand::random_range(0.75..=1.0));
    Unusable { version, failures, retry_at: Instant::now() + wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wait_grows_with_each_failure_of_the_same_version() {
        let version = |number| Version::new(number).unwrap();
        let wait = |unusable: &Unusable| unusable.retry_at - Instant::now();
        let mut unusable = after(None, version(1));
        assert!(wait(&unusable) <= FIRST_BACKOFF && wait(&unusable) >= FIRST_BACKOFF * 3 / 4);
        for _ in 0..20 {
            unusable = after(Some(unusable), version(1));
        }
        assert!(wait(&unusable) > LONGEST_BACKOFF / 2 && wait(&unusable) <= LONGEST_BACKOFF);
        assert!(wait(&after(Some(unusable), version(2))) <= FIRST_BACKOFF, "another version is another matter");
    }
}
