//! What really happened to the jobs of a service, written down by the database itself.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::postgres::Cluster;

/// How long a service may keep others from writing to its SQLite file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The database of a service, with triggers that note each change of a job in the transaction that makes it.
pub enum Audit<'a> {
    /// The file of a service that runs on SQLite.
    Sqlite(PathBuf),
    /// The address of a database in a private cluster.
    Postgres(&'a Cluster, String),
}

/// A job as it stands in the database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Row {
    /// Its id.
    pub job: String,
    /// The header that the client sent along.
    pub idempotency_key: Option<String>,
    /// One of the five words.
    pub state: String,
    /// How many attempts have been charged.
    pub attempt: i64,
    /// How many may be.
    pub max_attempts: i64,
    /// The number of the newest lease.
    pub lease: u64,
    /// The newest lease whose holder ended the attempt itself.
    pub settled_lease: Option<u64>,
    /// Until when the lease counts, if there is one, in microseconds of the database's clock.
    pub held_until_us: Option<i64>,
    /// What the script returned, as JSON.
    pub result: Option<String>,
    /// Why the last attempt failed, as JSON.
    pub error: Option<String>,
}

/// One change of a job's row that matters: of its state, attempt, lease, result, error or end.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Change {
    /// When, in microseconds of the database's clock.
    pub at_us: i64,
    /// Nothing, for a new job.
    pub before: Option<Row>,
    /// Nothing, for one that was removed.
    pub after: Option<Row>,
}

/// Something that a script keeps in `ctx.state`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Effect {
    /// Its key.
    pub key: String,
    /// Its value, a text.
    pub value: String,
}

impl Audit<'_> {
    /// Begins to note changes. The service must have made its tables, and no job yet.
    ///
    /// # Panics
    ///
    /// When there are no tables.
    pub fn install(&self) {
        match self {
            Self::Sqlite(_) => self.sqlite().execute_batch(include_str!("sqlite.sql")).expect("the triggers can be made"),
            Self::Postgres(cluster, url) => drop(cluster.sql(url, include_str!("postgres.sql"))),
        }
    }

    /// Everything that was noted, for each job in the order in which it happened.
    ///
    /// # Panics
    ///
    /// When nothing has been installed.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        self.read("SELECT change FROM job_audit ORDER BY sequence")
    }

    /// The jobs that there are.
    ///
    /// # Panics
    ///
    /// When nothing has been installed.
    #[must_use]
    pub fn jobs(&self) -> Vec<Row> {
        self.read("SELECT seen FROM job_seen")
    }

    /// What scripts keep in `ctx.state` and is a text.
    ///
    /// # Panics
    ///
    /// When nothing has been installed, or something else is kept there.
    #[must_use]
    pub fn effects(&self) -> Vec<Effect> {
        self.read("SELECT effect FROM state_seen")
    }

    /// How many jobs have not ended.
    ///
    /// # Panics
    ///
    /// When the database cannot be read.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.read::<usize>("SELECT count(*) FROM job WHERE state IN ('queued', 'running')")[0]
    }

    /// Changes the database behind the service's back.
    ///
    /// # Panics
    ///
    /// When a statement fails.
    pub fn sabotage(&self, statements: &str) {
        match self {
            Self::Sqlite(_) => self.sqlite().execute_batch(statements).expect("the statements are right"),
            Self::Postgres(cluster, url) => drop(cluster.sql(url, statements)),
        }
    }

    /// The rows of a query, each JSON in one column.
    fn read<T: DeserializeOwned>(&self, query: &str) -> Vec<T> {
        let lines = match self {
            Self::Sqlite(_) => self.sqlite_lines(query).expect("the query is right"),
            Self::Postgres(cluster, url) => cluster.sql(url, query).lines().map(str::to_owned).collect(),
        };
        lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    fn sqlite_lines(&self, query: &str) -> rusqlite::Result<Vec<String>> {
        let connection = self.sqlite();
        let mut statement = connection.prepare(query)?;
        let text = |row: &rusqlite::Row<'_>| {
            row.get_ref(0).map(|value| match value {
                rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                other => other.as_str().expect("JSON is a text").to_owned(),
            })
        };
        statement.query_map([], text)?.collect()
    }

    fn sqlite(&self) -> rusqlite::Connection {
        let Self::Sqlite(path) = self else { panic!("it is no SQLite file") };
        let connection = rusqlite::Connection::open(path).expect("the file can be opened");
        connection.busy_timeout(BUSY_TIMEOUT).expect("a timeout can be set");
        connection
    }
}
