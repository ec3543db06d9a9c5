-- Jobs with their logs, state, and versions.
--
-- Every row belongs to a service. Times are milliseconds since 1970-01-01 UTC, ids are their texts, and what has structure is JSON.

CREATE TABLE job (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT, -- the order of commits; never reused
    service          TEXT    NOT NULL,
    id               TEXT    NOT NULL,
    kind             TEXT    NOT NULL,
    state            TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'done', 'error', 'cancelled')),
    files            TEXT    NOT NULL,
    params           TEXT    NOT NULL,
    key              TEXT,
    idempotency_key  TEXT,
    digest           BLOB,
    attempt          INTEGER NOT NULL DEFAULT 0,
    max_attempts     INTEGER NOT NULL,
    lease            INTEGER NOT NULL DEFAULT 0,        -- rises with each claim; never reset, unlike the attempt
    replica          TEXT,                              -- the last to claim it
    lease_expires_at INTEGER,
    run_at           INTEGER NOT NULL,                  -- not before
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    progress         TEXT,
    result           TEXT,
    error            TEXT,
    version          INTEGER,
    created_at       INTEGER NOT NULL,
    started_at       INTEGER,
    finished_at      INTEGER,
    UNIQUE (service, id),
    CHECK ((state = 'running') = (lease_expires_at IS NOT NULL)),
    CHECK ((state IN ('done', 'error', 'cancelled')) = (finished_at IS NOT NULL))
) STRICT;

-- Claims, rescues, counts and lists; within a state the rows lie in the order of seq.
CREATE INDEX job_by_state ON job (service, state);
-- Whether an earlier job of the same key is unfinished.
CREATE INDEX job_unfinished_by_key ON job (service, key, seq) WHERE key IS NOT NULL AND finished_at IS NULL;
-- What retention removes.
CREATE INDEX job_ended ON job (service, finished_at) WHERE finished_at IS NOT NULL;
CREATE UNIQUE INDEX job_by_idempotency_key ON job (service, idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE TABLE job_log (
    job      INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    sequence INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    source   TEXT    NOT NULL,
    level    TEXT    NOT NULL,
    message  TEXT    NOT NULL,
    PRIMARY KEY (job, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE state (
    service TEXT NOT NULL,
    key     TEXT NOT NULL,
    kind    TEXT NOT NULL CHECK (kind IN ('json', 'bytes', 'array')),
    value   ANY  NOT NULL, -- text for JSON, otherwise a blob
    layout  TEXT,          -- an array's type and shape
    PRIMARY KEY (service, key)
) STRICT;

CREATE TABLE version (
    service    TEXT    NOT NULL,
    number     INTEGER NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('ready', 'bad')),
    active     INTEGER NOT NULL DEFAULT 0,
    artifact   TEXT    NOT NULL,
    job        TEXT    NOT NULL, -- outlives the job's row
    created_at INTEGER NOT NULL,
    error      TEXT,
    PRIMARY KEY (service, number)
) STRICT;

CREATE UNIQUE INDEX version_active ON version (service) WHERE active = 1;
