//! What the replicas stand on.

use dunnage_testing::audit::Audit;
use dunnage_testing::postgres::Cluster;
use dunnage_testing::setup::Setup;

/// A database for one service.
pub(crate) enum Ground {
    /// The file in the data folder, for one replica.
    Sqlite,
    /// A database of a cluster that may be restarted at will, for a fleet.
    Postgres {
        /// The cluster, which nobody else uses.
        cluster: Cluster,
        /// The database's address.
        url: String,
    },
}

impl Ground {
    /// A fresh database in a cluster that writes to disk what it says is written.
    pub(crate) fn postgres() -> Self {
        let cluster = Cluster::start_with(&[("fsync", "on")]);
        let url = cluster.database();
        Self::Postgres { cluster, url }
    }

    /// How many replicas it can carry here.
    pub(crate) fn replicas(&self) -> usize {
        match self {
            Self::Sqlite => 1,
            Self::Postgres { .. } => 3,
        }
    }

    pub(crate) fn audit(&self, setup: &Setup) -> Audit<'_> {
        match self {
            Self::Sqlite => Audit::Sqlite(setup.data_dir().join("dunnage.db")),
            Self::Postgres { cluster, url } => Audit::Postgres(cluster, url.clone()),
        }
    }
}
