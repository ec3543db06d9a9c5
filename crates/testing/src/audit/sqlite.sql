-- Notes what happens to jobs. The views are what a row looks like to the tests.

CREATE VIEW job_seen AS
SELECT seq, json_object('job', id, 'idempotency_key', idempotency_key, 'state', state, 'attempt', attempt,
    'max_attempts', max_attempts, 'lease', lease, 'settled_lease', settled_lease,
    'held_until_us', 1000 * min(lease_expires_at, coalesce(deadline_at, lease_expires_at)),
    'result', result, 'error', error) AS seen
FROM job;

CREATE VIEW state_seen AS SELECT json_object('key', key, 'value', value ->> '$') AS effect FROM state WHERE kind = 'json';

CREATE TABLE job_audit (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    change   TEXT NOT NULL
);

-- A row before its change, for the trigger after it: by then it can no longer be looked at.
CREATE TABLE job_before (seq INTEGER PRIMARY KEY, seen TEXT NOT NULL);

CREATE TRIGGER job_before_update BEFORE UPDATE ON job BEGIN
    INSERT OR REPLACE INTO job_before SELECT seq, seen FROM job_seen WHERE seq = OLD.seq;
END;
CREATE TRIGGER job_before_delete BEFORE DELETE ON job BEGIN
    INSERT OR REPLACE INTO job_before SELECT seq, seen FROM job_seen WHERE seq = OLD.seq;
END;

CREATE TRIGGER job_inserted AFTER INSERT ON job BEGIN
    INSERT INTO job_audit (change) SELECT json_object('at_us', 1000 * CAST(round(1000 * unixepoch('subsec')) AS INTEGER),
        'before', NULL, 'after', json(seen)) FROM job_seen WHERE seq = NEW.seq;
END;
CREATE TRIGGER job_updated AFTER UPDATE ON job
WHEN OLD.state IS NOT NEW.state OR OLD.attempt IS NOT NEW.attempt OR OLD.lease IS NOT NEW.lease
    OR OLD.result IS NOT NEW.result OR OLD.error IS NOT NEW.error OR OLD.finished_at IS NOT NEW.finished_at
BEGIN
    INSERT INTO job_audit (change) SELECT json_object('at_us', 1000 * CAST(round(1000 * unixepoch('subsec')) AS INTEGER),
        'before', json((SELECT seen FROM job_before WHERE seq = OLD.seq)), 'after', json(seen)) FROM job_seen WHERE seq = NEW.seq;
END;
CREATE TRIGGER job_deleted AFTER DELETE ON job BEGIN
    INSERT INTO job_audit (change) SELECT json_object('at_us', 1000 * CAST(round(1000 * unixepoch('subsec')) AS INTEGER),
        'before', json(seen), 'after', NULL) FROM job_before WHERE seq = OLD.seq;
END;
