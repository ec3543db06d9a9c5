-- Notes what happens to jobs. The functions are what a row looks like to the tests.

CREATE FUNCTION microseconds(moment timestamptz) RETURNS bigint LANGUAGE sql AS
    'SELECT (extract(epoch FROM moment) * 1000000)::bigint';

CREATE FUNCTION seen(job job) RETURNS json LANGUAGE sql AS $$
    SELECT json_build_object('job', job.id, 'idempotency_key', job.idempotency_key::json #>> '{}', 'state', job.state,
        'attempt', job.attempt, 'max_attempts', job.max_attempts, 'lease', job.lease, 'settled_lease', job.settled_lease,
        'held_until_us', microseconds(CASE WHEN job.lease_expires_at IS NOT NULL THEN least(job.lease_expires_at, job.deadline_at) END),
        'result', job.result, 'error', job.error)
$$;

CREATE VIEW job_seen AS SELECT seen(job) AS seen FROM job;

CREATE VIEW state_seen AS
SELECT json_build_object('key', key, 'value', convert_from(value, 'UTF8')::json #>> '{}') AS effect FROM state WHERE kind = 'json';

CREATE TABLE job_audit (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    change   json   NOT NULL
);

-- The row is locked by now, so that the numbers of one job's changes are in their order.
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_audit (change) VALUES (json_build_object('at_us', microseconds(clock_timestamp()),
        'before', CASE WHEN TG_OP <> 'INSERT' THEN seen(OLD) END, 'after', CASE WHEN TG_OP <> 'DELETE' THEN seen(NEW) END));
    RETURN NULL;
END
$$;

CREATE TRIGGER job_inserted_or_deleted AFTER INSERT OR DELETE ON job FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TRIGGER job_updated AFTER UPDATE ON job FOR EACH ROW
WHEN ((OLD.state, OLD.attempt, OLD.lease, OLD.result, OLD.error, OLD.finished_at)
    IS DISTINCT FROM (NEW.state, NEW.attempt, NEW.lease, NEW.result, NEW.error, NEW.finished_at))
EXECUTE FUNCTION audit();
