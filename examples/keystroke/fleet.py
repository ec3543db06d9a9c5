#!/usr/bin/env python3
"""Repeats the experiment of demo.py with a fleet: two replicas that share nothing but PostgreSQL and a bucket.

The typists' files lie in the bucket and are named as `s3://…`; enrolment goes to one replica, training to the other, and the
trial to both in turn. The database comes from DATABASE_URL, the bucket from DUNNAGE_TEST_BUCKET, and S3 itself from the usual
AWS variables. With `--url` the fleet runs already, behind one address, and reads what lies below `files/` in the bucket.
Needs the standard library only.
"""

import argparse
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from os import environ
from pathlib import Path

from demo import LANGUAGES, Service, find_data, judge, print_table, say, trial
from s3 import Bucket
from service import serving

REPLICAS = 2
FOLLOW_TIMEOUT_SECS = 60


def main():
    arguments = parse_arguments()
    typed = find_data()
    bucket = Bucket(environ["DUNNAGE_TEST_BUCKET"])
    run = uuid.uuid4().hex[:8]
    with tempfile.TemporaryDirectory(prefix="keystroke-") as folder:
        folder = Path(folder)
        typed.write(folder / "files")
        files = Files(folder / "files", f"s3://{bucket.name}/files/{run}")
        count = bucket.put_folder(files.folder, f"files/{run}")
        say(f"data: {typed.name}, {len(typed.subjects)} subjects; {count} objects in {files.prefix}")
        if arguments.url:
            runs = [trial_of_others(language, arguments, typed, files) for language in arguments.language]
        else:
            runs = [trial_of_own(language, arguments, typed, files, run) for language in arguments.language or LANGUAGES]
    print_table(runs, typed)
    failures = list(judge(runs, typed))
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--url", help="where a fleet answers that serves model.py or model.lua; needs --language")
    where.add_argument("--dunnage", type=Path, help="the dunnage program: serves the model in one language after the other")
    parser.add_argument("--language", action="append", choices=LANGUAGES, help="only this language")
    parser.add_argument("--connections", type=int, default=4, help="how many clients ask at once (%(default)s)")
    arguments = parser.parse_args()
    if arguments.url and len(arguments.language or []) != 1:
        parser.error("--url needs one --language: that of the model which is served there")
    return arguments


@dataclass(frozen=True)
class Files:
    """The typists' files, which lie in a folder and in the bucket."""

    folder: Path
    prefix: str

    def address(self, path):
        """How a service is to call a file of the folder."""
        return f"{self.prefix}/{path.relative_to(self.folder)}"


def trial_of_own(language, arguments, typed, files, run):
    """Serves the model in one language on every replica, each with a data folder of its own, and runs the experiment."""
    name, bucket = f"keystroke-{language}-{run}", environ["DUNNAGE_TEST_BUCKET"]
    flags = ["--database-url", environ["DATABASE_URL"], "--bucket", f"s3://{bucket}/{run}/service", "--allow-files", files.prefix]
    with ExitStack() as replicas:
        urls = [
            replicas.enter_context(serving(arguments.dunnage, LANGUAGES[language], name, data_dir, *flags))
            for data_dir in (files.folder.parent / f"{name}-{replica}" for replica in range(REPLICAS))
        ]
        say(f"{language}: {REPLICAS} replicas are ready")
        result = trial(Service(urls, files.address), language, typed, files.folder, arguments.connections)
    say(f"{language}: every replica ended on SIGTERM, no process left")
    return result


def trial_of_others(language, arguments, typed, files):
    """Runs the experiment on a fleet that somebody else has started."""
    return trial(Balanced([arguments.url], files.address), language, typed, files.folder, arguments.connections)


class Balanced(Service):
    """A fleet behind one address, where nobody can say which replica answers."""

    def wait_for_all(self, version, attempt):
        """Waits until every replica says that it serves `version`."""
        give_up = time.monotonic() + FOLLOW_TIMEOUT_SECS
        with self.client() as client:
            while any(replica.get("serving") != version for replica in client.json("GET", "/models")["replicas"]):
                if time.monotonic() > give_up:
                    raise TimeoutError(f"not every replica serves version {version} after {FOLLOW_TIMEOUT_SECS} s")
                time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
