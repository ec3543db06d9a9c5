-- Jobs with their logs, state, versions, and replicas; the names are those of SQLite's schema.
--
-- Every row belongs to a service. Times are the database's own. What has structure or may hold anything a client or a script says
-- is JSON as text, a plain text being a JSON string: neither `text` nor `jsonb` takes a zero character, and `jsonb` limits how
-- deeply values are nested.

CREATE TABLE job (
    seq               bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- within a key, the order of commits; never reused
    service           text        NOT NULL COLLATE "C",
    id                uuid        NOT NULL,
    kind              text        NOT NULL,
    state             text        NOT NULL COLLATE "C" CHECK (state IN ('queued', 'running', 'done', 'error', 'cancelled')),
    files             text        NOT NULL,
    params            text        NOT NULL,
    key               text        COLLATE "C",
    idempotency_key   text        COLLATE "C",
    digest            bytea,
    attempt           bigint      NOT NULL DEFAULT 0,
    max_attempts      bigint      NOT NULL,
    lease             bigint      NOT NULL DEFAULT 0,   -- rises with each claim; never reset, unlike the attempt
    replica           uuid,                             -- the last to claim it
    lease_expires_at  timestamptz,
    deadline_at       timestamptz,                      -- when the attempt has taken too long, renewed or not
    settled_lease     bigint,                           -- the newest lease whose holder ended the attempt itself
    run_at            timestamptz NOT NULL,             -- not before
    cancel_requested  boolean     NOT NULL DEFAULT false,
    progress          text,
    result            text,
    error             text,
    version           bigint,
    callback          text,                             -- where the end of the job is posted to
    callback_state    text        CHECK (callback_state IN ('pending', 'delivered', 'failed')),
    callback_due      timestamptz,                      -- only once the job has ended, and while the callback is pending
    callback_attempts bigint      NOT NULL DEFAULT 0,
    callback_error    text,
    log_lines         bigint      NOT NULL DEFAULT 0,   -- how many lines its log has
    created_at        timestamptz NOT NULL,
    started_at        timestamptz,
    finished_at       timestamptz,
    CHECK ((state = 'running') = (lease_expires_at IS NOT NULL)),
    CHECK ((state IN ('done', 'error', 'cancelled')) = (finished_at IS NOT NULL))
) WITH (
    -- Rows are rewritten several times in their lives. Room in their pages lets a renewal, a progress or a log line do without
    -- touching the indexes, and dead versions are swept before claims have to wade through them.
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.05
);

CREATE UNIQUE INDEX job_by_id ON job (service, id);
CREATE UNIQUE INDEX job_by_idempotency_key ON job (service, idempotency_key) WHERE idempotency_key IS NOT NULL;
-- Claims.
CREATE INDEX job_due ON job (service, run_at, seq) WHERE state = 'queued';
-- Rescues. Not by the times at which leases end: a renewal would then have to write to every index.
CREATE INDEX job_running ON job (service, seq) WHERE state = 'running';
-- Whether an earlier job of the same key is unfinished.
CREATE INDEX job_unfinished_by_key ON job (service, key, seq) WHERE key IS NOT NULL AND finished_at IS NULL;
-- What retention removes.
CREATE INDEX job_ended ON job (service, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX job_callback_due ON job (service, callback_due) WHERE callback_due IS NOT NULL;
-- Lists and counts.
CREATE INDEX job_by_seq ON job (service, seq);
CREATE INDEX job_by_state ON job (service, state, seq);
CREATE INDEX job_by_key ON job (service, key, seq) WHERE key IS NOT NULL;

CREATE TABLE job_log (
    job      bigint      NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    sequence bigint      NOT NULL,
    at       timestamptz NOT NULL,
    attempt  bigint      NOT NULL,
    source   text        NOT NULL,
    level    text        NOT NULL,
    message  text        NOT NULL,
    PRIMARY KEY (job, sequence)
);

CREATE TABLE state (
    service text  NOT NULL COLLATE "C",
    key     text  NOT NULL COLLATE "C", -- compared byte by byte
    kind    text  NOT NULL CHECK (kind IN ('json', 'bytes', 'array')),
    value   bytea NOT NULL,
    layout  text,                       -- an array's type and shape
    PRIMARY KEY (service, key)
);

CREATE TABLE version (
    service    text        NOT NULL COLLATE "C",
    number     bigint      NOT NULL,
    state      text        NOT NULL CHECK (state IN ('ready', 'bad')),
    active     boolean     NOT NULL DEFAULT false,
    artifact   text        NOT NULL,
    job        uuid        NOT NULL,    -- outlives the job's row
    created_at timestamptz NOT NULL,
    error      text,
    PRIMARY KEY (service, number)
);

CREATE UNIQUE INDEX version_active ON version (service) WHERE active;

CREATE TABLE replica (
    service    text        NOT NULL COLLATE "C",
    id         uuid        NOT NULL,
    serving    bigint,
    ready      boolean     NOT NULL,
    error      text,
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL,
    PRIMARY KEY (service, id)
);
