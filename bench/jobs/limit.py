"""How fast PostgreSQL itself could keep jobs: rows inserted, claimed and finished in large batches, with no client and no work."""

import threading
import time

import psycopg

BATCH = 100
PRODUCERS = 8
TABLE = """
    DROP TABLE IF EXISTS bench_limit;
    CREATE TABLE bench_limit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state text NOT NULL, body text NOT NULL);
    CREATE INDEX ON bench_limit (id) WHERE state = 'queued'
"""
INSERT = "INSERT INTO bench_limit (state, body) SELECT 'queued', '{\"Files\":[\"s3://bucket/key\"]}' FROM generate_series(1, %s)"
CLAIM = """
    WITH next AS MATERIALIZED (SELECT id FROM bench_limit WHERE state = 'queued' ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)
    UPDATE bench_limit SET state = 'running' FROM next WHERE bench_limit.id = next.id RETURNING bench_limit.id
"""
FINISH = "UPDATE bench_limit SET state = 'done' WHERE id = ANY(%s)"


def jobs_per_second(url, count):
    """From the first insert to the last finish, all at once as in a running service."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLE)
        begin = time.monotonic()
        producers = [threading.Thread(target=produce, args=(url, count // PRODUCERS)) for _ in range(PRODUCERS)]
        for producer in producers:
            producer.start()
        consume(connection, count // PRODUCERS * PRODUCERS)
        for producer in producers:
            producer.join()
        return count / (time.monotonic() - begin)


def produce(url, count):
    with psycopg.connect(url, autocommit=True) as connection:
        for first in range(0, count, BATCH):
            connection.execute(INSERT, [min(BATCH, count - first)])


def consume(connection, count):
    while count:
        claimed = [row[0] for row in connection.execute(CLAIM, [BATCH])]
        if claimed:
            connection.execute(FINISH, [claimed])
            count -= len(claimed)
