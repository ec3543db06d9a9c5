#!/usr/bin/env python3
"""Repeats the experiment of demo.py with a fleet: two replicas that share nothing but PostgreSQL and a bucket.

The typists' files lie in the bucket and are named as `s3://…`; enrolment goes to one replica, training to the other, and the
trial to both in turn. The database comes from DATABASE_URL, the bucket from DUNNAGE_TEST_BUCKET, and S3 itself from the usual
AWS variables. Needs the standard library only.
"""

import argparse
import sys
import tempfile
import uuid
from contextlib import ExitStack
from os import environ
from pathlib import Path

from demo import LANGUAGES, Service, find_data, judge, print_table, say, trial
from s3 import Bucket
from service import serving

REPLICAS = 2


def main():
    arguments = parse_arguments()
    typed = find_data()
    bucket = Bucket(environ["DUNNAGE_TEST_BUCKET"])
    run = uuid.uuid4().hex[:8]
    with tempfile.TemporaryDirectory(prefix="keystroke-") as folder:
        folder = Path(folder)
        typed.write(folder / "files")
        count = bucket.put_folder(folder / "files", f"{run}/files")
        say(f"data: {typed.name}, {len(typed.subjects)} subjects; {count} objects in s3://{bucket.name}/{run}/files")
        runs = [
            trial_of_fleet(language, arguments, typed, folder, bucket, run) for language in arguments.language or LANGUAGES
        ]
    print_table(runs, typed)
    failures = list(judge(runs, typed))
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dunnage", type=Path, required=True, help="the dunnage program")
    parser.add_argument("--language", action="append", choices=LANGUAGES, help="only this language")
    parser.add_argument("--connections", type=int, default=4, help="how many clients ask at once (%(default)s)")
    return parser.parse_args()


def trial_of_fleet(language, arguments, typed, folder, bucket, run):
    """Serves the model in one language on every replica, each with a data folder of its own, and runs the experiment."""
    name = f"keystroke-{language}-{run}"
    flags = ["--database-url", environ["DATABASE_URL"], "--bucket", f"s3://{bucket.name}/{run}/service"]
    flags += ["--allow-files", f"s3://{bucket.name}/{run}/files"]

    def address(path):
        return f"s3://{bucket.name}/{run}/files/{path.relative_to(folder / 'files')}"

    with ExitStack() as replicas:
        urls = [
            replicas.enter_context(serving(arguments.dunnage, LANGUAGES[language], name, folder / f"{name}-{replica}", *flags))
            for replica in range(REPLICAS)
        ]
        say(f"{language}: {REPLICAS} replicas are ready")
        result = trial(Service(urls, address), language, typed, folder / "files", arguments.connections)
    say(f"{language}: every replica ended on SIGTERM, no process left")
    return result


if __name__ == "__main__":
    sys.exit(main())
