"""The same jobs on pgqueuer: a consumer in a process of its own, and producers that put one job at a time.

Run with pgqueuer's own virtualenv. Prints one line of JSON.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

PRODUCERS = 8
BATCH = 100
READY = "ready"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["compare", "consume"])
    parser.add_argument("--count", type=int, required=True, help="the jobs of the throughput part")
    parser.add_argument("--alone", type=int, required=True, help="the jobs that are put one after the other")
    arguments = parser.parse_args()
    asyncio.run(consume(arguments) if arguments.part == "consume" else compare(arguments))


async def compare(arguments):
    queries = await connect()
    if await queries.schema_is_installed():
        await queries.uninstall()
    await queries.install()
    options = ["--count", str(arguments.count), "--alone", str(arguments.alone)]
    consumer = subprocess.Popen([sys.executable, __file__, "consume", *options], stdout=subprocess.PIPE, text=True)
    assert consumer.stdout.readline().strip() == READY
    begin = time.monotonic()
    await asyncio.gather(*[produce(arguments.count // PRODUCERS) for _ in range(PRODUCERS)])
    consumer.stdout.readline()
    rate = arguments.count / (time.monotonic() - begin)
    delays = [await one_alone(queries, consumer) for _ in range(arguments.alone)]
    consumer.wait(30)
    print(json.dumps({"rate": rate, "start_ms": delays}))


async def connect():
    return Queries(AsyncpgDriver(await asyncpg.connect(os.environ["DATABASE_URL"])))


async def produce(count):
    queries = await connect()
    for _ in range(count):
        await queries.enqueue("work", b"s3://bucket/key")


async def one_alone(queries, consumer):
    """The milliseconds from the call that puts a job to its start."""
    await asyncio.sleep(0.02)
    begin = time.time()
    await queries.enqueue("work", b"s3://bucket/key")
    return (float(consumer.stdout.readline()) - begin) * 1000


async def consume(arguments):
    """Says when the many are done, and then when each of the others starts."""
    queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(os.environ["DATABASE_URL"])))
    started = 0

    @queuer.entrypoint("work")
    async def work(job):
        nonlocal started
        started += 1
        if started == arguments.count:
            print("done", flush=True)
        if started > arguments.count:
            print(time.time(), flush=True)
        if started == arguments.count + arguments.alone:
            queuer.shutdown.set()

    print(READY, flush=True)
    await queuer.run(batch_size=BATCH)


if __name__ == "__main__":
    main()
