//! One replica among others: what it says of itself, and how it follows the version that is active for all.

mod follow;
mod presence;

use std::sync::Arc;

use dunnage_loops::Looping;

use crate::app::App;
use crate::artifacts::sweep_now_and_then;
use crate::problem::chain;
pub(crate) use presence::{PRESENT, PresenceBoard};

/// The loops that keep a replica in step with the others.
pub(crate) struct Fleet {
    loops: Vec<Looping>,
}

impl Fleet {
    pub(crate) fn start(app: &Arc<App>) -> Self {
        Self {
            loops: vec![
                app.start_loop("follower", follow::follow),
                app.start_loop("presence", presence::announce),
                app.start_loop("artifact-sweeper", sweep_now_and_then),
            ],
        }
    }

    /// Follows no more, and takes leave of the others.
    pub(crate) async fn stop(self, app: &App) {
        for looping in self.loops {
            looping.stop().await;
        }
        if let Err(error) = app.store.depart(app.replica).await {
            tracing::debug!(error = %chain(&error), "this replica cannot take leave; the others will miss it soon");
        }
    }
}
