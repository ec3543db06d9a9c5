//! One replica among others: what it says of itself, and how it follows the version that is active for all.

mod follow;
mod presence;

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::app::App;
use crate::artifacts::sweep_now_and_then;
use crate::problem::chain;
pub(crate) use presence::{PRESENT, PresenceBoard};

/// The tasks that keep a replica in step with the others.
pub(crate) struct Fleet {
    tasks: JoinSet<()>,
}

impl Fleet {
    pub(crate) fn start(app: &Arc<App>) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(follow::follow(Arc::clone(app)));
        tasks.spawn(presence::announce(Arc::clone(app)));
        tasks.spawn(sweep_now_and_then(Arc::clone(app)));
        Self { tasks }
    }

    /// Follows no more, and takes leave of the others.
    pub(crate) async fn stop(mut self, app: &App) {
        self.tasks.shutdown().await;
        if let Err(error) = app.store.depart(app.replica).await {
            tracing::debug!(error = %chain(&error), "this replica cannot take leave; the others will miss it soon");
        }
    }
}
