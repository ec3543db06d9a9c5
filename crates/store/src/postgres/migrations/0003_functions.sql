-- The statements that every job needs, as functions, and fewer indexes to write for each of them.
--
-- The database keeps the plans of what is in a function with each of its connections, whoever calls it; planning such a statement takes
-- longer than running it. A prepared statement would belong to one client's session, and be lost where a pooler hands a connection on
-- after each transaction.
--
-- A plan is made once, for any parameters, and it has to do for a table that fills quickly after that, until the database looks at it
-- again. So all costs that depend on how much is there are taken from the planner: what counts is how many rows are touched. And where
-- it could still begin with all jobs of a service or all that run, rows are looked up by what is unique alone; `OFFSET 0` keeps the other
-- conditions out of that.
--
-- Servers of several versions may work on one database: a function whose parameters or columns change gets another name, and the old
-- one stays for as long as a server may call it. Within them, a name that a column has is the column's, so no column may be called as a
-- parameter is.

-- The id comes first, so that the index does for a search by nothing else.
DROP INDEX job_by_id;
CREATE UNIQUE INDEX job_by_id ON job (id, service);
-- Whether an earlier job of the same key is unfinished. Service and key in one, so that no other index begins as this one does; names
-- of services have no spaces.
DROP INDEX job_unfinished_by_key;
CREATE INDEX job_unfinished_by_key ON job ((service || ' ' || key), seq) WHERE key IS NOT NULL AND finished_at IS NULL;
-- Lists of jobs that have ended. Others are few, and have indexes of their own.
DROP INDEX job_by_state;
CREATE INDEX job_ended_by_state ON job (service, state, seq) WHERE finished_at IS NOT NULL;
DROP INDEX job_by_key;
CREATE INDEX job_ended_by_key ON job (service, key, seq) WHERE key IS NOT NULL AND finished_at IS NOT NULL;

-- Commits new jobs, and returns those that were not there before.
--
-- A claim takes the job of a key that has the lowest `seq`, so within a key the order of `seq` must be the order of commits: were a
-- job with a lower one committed later, it could meet a later job of its key already running. So whoever commits a job with a key
-- holds a lock on that key from before the rows draw their `seq` (they are joined to the locks) until the commit.
--
-- Idempotency keys are locked as well: two statements that waited for each other's rows in different orders would block each other.
-- All locks are taken in the order of their numbers, by everybody.
--
-- A job that comes with a replica is handed out to it, unless the queue is in its way: jobs that are due, as `claim_jobs` finds them, and
-- cannot be claimed ahead, or have waited for `passed_by` seconds.
CREATE FUNCTION enqueue_jobs(
    of_service text, ids uuid[], kinds text[], file_lists text[], param_lists text[], keys text[], idempotency_keys text[],
    digests bytea[], attempt_limits bigint[], callbacks text[], output_uris text[], replicas uuid[], leases float8[],
    time_limits float8[], passed_by float8)
RETURNS TABLE (id uuid, is_claimed boolean, created_at timestamptz, active bigint)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET random_page_cost = 0 SET cpu_tuple_cost = 1
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH queue AS MATERIALIZED (
        SELECT NOT EXISTS (
            SELECT 1 FROM job AS candidate
            WHERE candidate.service = of_service AND candidate.state = 'queued' AND candidate.run_at <= now()
              AND candidate.kind IN ('train', 'input')
              AND (candidate.key IS NULL OR NOT EXISTS (
                  SELECT 1 FROM job AS earlier
                  WHERE earlier.service || ' ' || earlier.key = of_service || ' ' || candidate.key AND earlier.key IS NOT NULL
                    AND earlier.finished_at IS NULL AND earlier.seq < candidate.seq))
              AND (NOT (candidate.kind = 'input' AND candidate.lease = 0 AND candidate.max_attempts > 1)
                   OR candidate.run_at < now() - make_interval(secs => passed_by))) AS lets_pass),
    wanted AS (
        SELECT *, replica IS NOT NULL AND (SELECT lets_pass FROM queue) AS is_claimed
        FROM unnest(ids, kinds, file_lists, param_lists, keys, idempotency_keys, digests, attempt_limits, callbacks, output_uris,
                    replicas, leases, time_limits)
            WITH ORDINALITY
            AS wanted (id, kind, files, params, key, idempotency_key, digest, max_attempts, callback, output_uri,
                       replica, lease_secs, limit_secs, position)),
    locked AS MATERIALIZED (
        SELECT count(pg_advisory_xact_lock(lock)) FROM (
            SELECT DISTINCT hashtextextended(name, 0) AS lock FROM (
                SELECT 'dunnage key ' || of_service || ' ' || key FROM wanted WHERE key IS NOT NULL
                UNION ALL
                SELECT 'dunnage request ' || of_service || ' ' || idempotency_key FROM wanted WHERE idempotency_key IS NOT NULL)
                AS names (name)
            ORDER BY lock) AS sorted)
    INSERT INTO job (service, id, kind, state, files, params, key, idempotency_key, digest, max_attempts, callback, callback_state,
                     output_uri, run_at, created_at, attempt, lease, replica, lease_expires_at, deadline_at, started_at)
    SELECT of_service, id, kind, CASE WHEN is_claimed THEN 'running' ELSE 'queued' END, files, params, key, idempotency_key, digest,
           max_attempts, callback, CASE WHEN callback IS NOT NULL THEN 'pending' END, output_uri, now(), now(),
           is_claimed::int, is_claimed::int, CASE WHEN is_claimed THEN replica END,
           CASE WHEN is_claimed THEN now() + make_interval(secs => lease_secs) END,
           CASE WHEN is_claimed THEN now() + make_interval(secs => limit_secs) END, CASE WHEN is_claimed THEN now() END
    FROM wanted, locked
    ORDER BY position
    ON CONFLICT DO NOTHING
    RETURNING id, state = 'running', created_at, (SELECT number FROM version WHERE service = of_service AND active);
END
$$;

-- Hands out jobs that are due, `most` of them. Because the order of `seq` is the order of commits within a key, an unfinished job of the
-- same key with a higher `seq` can never be running.
--
-- With `ahead_of_idle`, only as far as they may be claimed ahead of a worker; the first may be any if the worker is idle, and then it is
-- the only one. The active version comes along: one snapshot shows both it and the jobs.
--
-- The rows are chosen before they are changed: as a plain sub-select the choice could be made again for each row, and more rows than
-- wanted be changed.
CREATE FUNCTION claim_jobs(
    of_service text, most bigint, for_replica uuid, lease_secs float8, limit_secs float8, ahead_of_idle boolean)
RETURNS TABLE (claimed job, active bigint)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET random_page_cost = 0 SET cpu_tuple_cost = 1
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH due AS MATERIALIZED (
        SELECT candidate.seq, candidate.run_at,
               candidate.kind = 'input' AND candidate.lease = 0 AND candidate.max_attempts > 1 AS can_wait
        FROM job AS candidate
        WHERE candidate.service = of_service AND candidate.state = 'queued' AND candidate.run_at <= now()
          AND candidate.kind IN ('train', 'input')
          AND (candidate.key IS NULL OR NOT EXISTS (
              SELECT 1 FROM job AS earlier
              WHERE earlier.service || ' ' || earlier.key = of_service || ' ' || candidate.key AND earlier.key IS NOT NULL
                AND earlier.finished_at IS NULL AND earlier.seq < candidate.seq))
        ORDER BY candidate.run_at, candidate.seq
        LIMIT most
        FOR NO KEY UPDATE SKIP LOCKED),
    chosen AS (
        SELECT seq, row_number() OVER queue AS place, bool_and(can_wait) OVER queue AS can_wait
        FROM due WINDOW queue AS (ORDER BY run_at, seq))
    UPDATE job
    SET state = 'running', attempt = attempt + 1, lease = lease + 1, replica = for_replica,
        lease_expires_at = now() + make_interval(secs => lease_secs), deadline_at = now() + make_interval(secs => limit_secs),
        started_at = now(), progress = NULL
    FROM chosen
    WHERE job.seq = chosen.seq AND (ahead_of_idle IS NULL OR chosen.can_wait OR chosen.place = 1 AND ahead_of_idle)
    RETURNING job, (SELECT number FROM version WHERE service = of_service AND active);
END
$$;

-- Lets holders leave their attempts, each if it still holds it, all in the order of `seq`: `done`, `error`, `cancelled`, `retry` or
-- `release`. Returns those that did.
--
-- A cancellation that was asked for comes before another attempt, and before the queue. A job that is released without a wait keeps
-- its place in the queue, which is before those that came later.
CREATE FUNCTION leave_jobs(
    of_service text, ids uuid[], leases bigint[], ways text[], results text[], errors text[], waits float8[])
RETURNS TABLE (id uuid, has_callback_due boolean, frees_work boolean)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET random_page_cost = 0 SET cpu_tuple_cost = 1
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH leaving AS MATERIALIZED (
        SELECT found.seq, leaving.*
        FROM unnest(ids, leases, ways, results, errors, waits) AS leaving (id, lease, way, result, error, wait)
        CROSS JOIN LATERAL (SELECT seq FROM job WHERE id = leaving.id OFFSET 0) AS found
        ORDER BY found.seq),
    held AS MATERIALIZED (
        SELECT job.seq, leaving.way, leaving.result, leaving.error, leaving.wait,
               CASE WHEN leaving.way IN ('done', 'error', 'cancelled') THEN leaving.way
                    WHEN job.cancel_requested THEN 'cancelled'
                    WHEN leaving.way = 'release' OR job.attempt < job.max_attempts THEN 'queued'
                    ELSE 'error' END AS next
        FROM leaving CROSS JOIN LATERAL (SELECT * FROM job WHERE seq = leaving.seq OFFSET 0 FOR NO KEY UPDATE) AS job
        WHERE job.service = of_service AND job.state = 'running' AND job.lease = leaving.lease)
    UPDATE job
    SET state = held.next,
        settled_lease = job.lease,
        lease_expires_at = NULL,
        attempt = CASE WHEN held.way = 'release' AND held.next = 'queued' THEN job.attempt - 1 ELSE job.attempt END,
        started_at = CASE WHEN held.way = 'release' AND held.next = 'queued' THEN NULL ELSE job.started_at END,
        run_at = CASE WHEN held.wait > 0 AND held.next = 'queued' THEN now() + make_interval(secs => held.wait) ELSE job.run_at END,
        result = CASE WHEN held.next = 'done' THEN held.result END,
        error = CASE WHEN held.next = 'error' OR held.way = 'retry' AND held.next = 'queued' THEN held.error
                     WHEN held.next = 'queued' THEN job.error END,
        finished_at = CASE WHEN held.next <> 'queued' THEN now() END,
        callback_due = CASE WHEN held.next <> 'queued' AND job.callback IS NOT NULL THEN now() END
    FROM held
    WHERE job.seq = held.seq
    RETURNING job.id, job.callback_due IS NOT NULL, job.state = 'queued' OR job.key IS NOT NULL;
END
$$;

-- Whoever may use the tables may call them, also where the owner of the database has it otherwise for functions: they do what their
-- caller may do, and no more.
GRANT EXECUTE ON FUNCTION enqueue_jobs, claim_jobs, leave_jobs TO PUBLIC;
