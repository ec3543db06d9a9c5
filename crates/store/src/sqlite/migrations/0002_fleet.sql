-- What fleets need: the limit of an attempt, callbacks, and who is there.

ALTER TABLE job ADD COLUMN deadline_at INTEGER;       -- when the attempt has taken too long, renewed or not
ALTER TABLE job ADD COLUMN settled_lease INTEGER;     -- the newest lease whose holder ended the attempt itself
ALTER TABLE job ADD COLUMN callback TEXT;             -- where the end of the job is posted to
ALTER TABLE job ADD COLUMN callback_state TEXT CHECK (callback_state IN ('pending', 'delivered', 'failed'));
ALTER TABLE job ADD COLUMN callback_due INTEGER;      -- not before; only once the job has ended, and while the callback is pending
ALTER TABLE job ADD COLUMN callback_attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN callback_error TEXT;

CREATE INDEX job_callback_due ON job (service, callback_due) WHERE callback_due IS NOT NULL;
-- The list of a key's jobs.
CREATE INDEX job_by_key ON job (service, key, seq) WHERE key IS NOT NULL;

CREATE TABLE replica (
    service    TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    serving    INTEGER,
    ready      INTEGER NOT NULL,
    error      TEXT,
    started_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    PRIMARY KEY (service, id)
) STRICT, WITHOUT ROWID;
