#!/usr/bin/env python3
"""Repeats a published experiment through a running service, by HTTP alone, and compares the figures.

The experiment is that of Killourhy & Maxion, "Comparing Anomaly-Detection Algorithms for Keystroke Dynamics", DSN 2009;
README.md beside this file tells what is measured. Needs the standard library only.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import dataset as data
from client import Client, Refused
from model import equal_error
from service import serving

HERE = Path(__file__).resolve().parent
LANGUAGES = {"python": HERE / "model.py", "lua": HERE / "model.lua"}

PAPER_EER, PAPER_SD = 0.096, 0.069
EER_TOLERANCE = 0.003
SCORE_TOLERANCE = 1e-6


def main():
    arguments = parse_arguments()
    typed = find_data()
    with tempfile.TemporaryDirectory(prefix="keystroke-", dir=arguments.files_root) as folder:
        folder = Path(folder)
        typed.write(folder / "files")
        say(f"data: {typed.name}, {len(typed.subjects)} subjects; {len(list(typed.trial(folder)))} trials")
        if arguments.url:
            runs = [trial(Service([arguments.url]), "service", typed, folder / "files", arguments.connections)]
        else:
            runs = [
                trial_of_own(language, arguments.dunnage, typed, folder, arguments.connections)
                for language in arguments.language or LANGUAGES
            ]
    print_table(runs, typed)
    failures = list(judge(runs, typed))
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--url", help="a service that runs already and serves model.py or model.lua")
    where.add_argument("--dunnage", type=Path, help="the dunnage program: serves the model in one language after the other")
    parser.add_argument("--files-root", type=Path, help="the folder given to that service as --files-root; needed with --url")
    parser.add_argument("--language", action="append", choices=LANGUAGES, help="with --dunnage: only this language")
    parser.add_argument("--connections", type=int, default=4, help="how many clients ask at once (%(default)s)")
    arguments = parser.parse_args()
    if arguments.url and not arguments.files_root:
        parser.error("--url needs --files-root: the demo writes the files there that the service is to read")
    if arguments.files_root:
        arguments.files_root = arguments.files_root.resolve()
    return arguments


def find_data():
    """Finds the paper's data in `$DUNNAGE_DATA` or beside the repository; without it, typists are made up."""
    named = os.environ.get("DUNNAGE_DATA")
    path = Path(named or HERE.parents[1] / ".." / "shared" / "data").resolve() / data.FILE_NAME
    if path.is_file():
        return data.read(path)
    if named:
        raise SystemExit(f"DUNNAGE_DATA is set, but {path} does not exist; unset it to use synthetic typists")
    say("the paper's data is not here (see README.md), so typists are made up: their figures compare with nothing")
    return data.synthesise()


@dataclass(frozen=True)
class Run:
    """What the experiment found in one language."""

    language: str
    answers: list  # a pair of score and accept for each trial
    eers: list  # one for each subject
    accuracy: float
    outputs_per_sec: float
    enrolments_per_sec: float
    wall_secs: float


def trial_of_own(language, dunnage, typed, folder, connections):
    """Serves the model in one language and runs the experiment on it."""
    started = time.monotonic()
    name = f"keystroke-{language}"
    with serving(dunnage, LANGUAGES[language], name, folder / name, "--files-root", folder / "files") as url:
        say(f"{language}: ready after {time.monotonic() - started:.1f} s")
        run = trial(Service([url]), language, typed, folder / "files", connections)
    say(f"{language}: ended on SIGTERM, no process left")
    return run


@dataclass(frozen=True)
class Service:
    """A service on one or several replicas, and how it is to call a file that lies here."""

    urls: list
    address: Callable = Path.as_uri

    def client(self, replica=0):
        return Client(self.urls[replica % len(self.urls)], self.address)

    def wait_for_all(self, version, attempt):
        """Waits until every replica serves `version`, asking each about an attempt."""
        for replica in range(len(self.urls)):
            with self.client(replica) as client:
                client.wait_until_serving(version, [attempt.path], {"user": attempt.user})


def trial(service, language, typed, folder, connections):
    """Runs the whole experiment on one service; what is learned through one replica is asked of the others."""
    started = time.monotonic()
    with service.client(0) as client:
        enrol(client, typed, folder, data.CALIBRATION_ENROLMENT)
    with service.client(1) as client:
        version = calibrate(client, language, typed, folder)
    service.wait_for_all(version, next(typed.trial(folder)))
    with service.client(0) as client:
        enrol_secs = enrol(client, typed, folder, data.ENROLMENT)
        check_upload(client, typed, folder)
    with service.client(1) as client:
        check_stranger(client, language, typed, folder)
    say(f"{language}: enrolled {len(typed.subjects)} subjects in {enrol_secs:.1f} s; asking")

    attempts = list(typed.trial(folder))
    output_started = time.monotonic()
    answers = ask_all(service, attempts, connections)
    output_secs = time.monotonic() - output_started
    return Run(
        language=language,
        answers=answers,
        eers=[subject_eer(subject, attempts, answers) for subject in typed.subjects],
        accuracy=mean((accept == 1) == attempt.genuine for attempt, (_, accept) in zip(attempts, answers)),
        outputs_per_sec=len(attempts) / output_secs,
        enrolments_per_sec=len(typed.subjects) / enrol_secs,
        wall_secs=time.monotonic() - started,
    )


def enrol(client, typed, folder, repetitions):
    """Enrols every subject, in place of any earlier template, and returns how long it took."""
    started = time.monotonic()
    jobs = [client.submit("/input", typed.enrolment(folder, user, repetitions), {"user": user}) for user in typed.subjects]
    for job in jobs:
        client.wait(job)
    return time.monotonic() - started


def calibrate(client, language, typed, folder):
    """Trains the accept threshold, waits until it serves, and returns its version."""
    attempts = list(typed.calibration(folder))
    labels = [{"user": attempt.user, "genuine": attempt.genuine} for attempt in attempts]
    status = client.wait(client.submit("/train", [attempt.path for attempt in attempts], {"labels": labels}))
    client.wait_until_serving(status["version"], [attempts[0].path], {"user": attempts[0].user})
    result = status["result"]
    say(
        f"{language}: version {status['version']} accepts scores up to {result['threshold']:.2f} "
        f"(calibrated on {result['genuine']} genuine and {result['impostor']} impostor repetitions)"
    )
    return status["version"]


def check_upload(client, typed, folder):
    """A file sent along must be judged as the same file named by its address."""
    attempt = next(typed.trial(folder))
    params = {"user": attempt.user}
    named, sent = client.output([attempt.path], params), client.output_upload(attempt.path, params)
    if named != sent:
        raise RuntimeError(f"{attempt.path} is answered {named} when named, but {sent} when uploaded")


def check_stranger(client, language, typed, folder):
    """A user who was never enrolled must get an error, not a score."""
    try:
        vector = client.output([next(typed.trial(folder)).path], {"user": "stranger"})
    except Refused as refused:
        say(f"{language}: a user who is not enrolled gets {refused.status} {refused.problem['code']}")
    else:
        raise RuntimeError(f"a user who is not enrolled was answered {vector}")


def ask_all(service, attempts, connections):
    """Asks about every attempt, on several connections at once, and returns the answers in order."""

    def ask(first):
        with service.client(first) as client:
            return [tuple(client.output([attempt.path], {"user": attempt.user})) for attempt in attempts[first::connections]]

    answers = [None] * len(attempts)
    with ThreadPoolExecutor(connections) as pool:
        for first, share in enumerate(pool.map(ask, range(connections))):
            answers[first::connections] = share
    return answers


def subject_eer(subject, attempts, answers):
    own = [(attempt.genuine, score) for attempt, (score, _) in zip(attempts, answers) if attempt.user == subject]
    genuine = [score for is_genuine, score in own if is_genuine]
    impostor = [score for is_genuine, score in own if not is_genuine]
    return equal_error(genuine, impostor)[0]


def print_table(runs, typed):
    row = "{:<10} {:>15} {:>14} {:>11} {:>11} {:>8}".format
    print()
    print(row("", "mean EER (sd)", "judged right", "output/s", "enrol/s", "wall"))
    for run in runs:
        eer = f"{mean(run.eers):.4f} ({stdev(run.eers):.4f})"
        speed = [f"{run.outputs_per_sec:.0f}", f"{run.enrolments_per_sec:.1f}", f"{run.wall_secs:.1f} s"]
        print(row(run.language, eer, f"{100 * run.accuracy:.1f} %", *speed))
    if not typed.synthetic:
        print(row("paper", f"{PAPER_EER} ({PAPER_SD})", "", "", "", ""))
    if len(runs) > 1:
        print(f"\nlargest difference between the languages' scores: {largest_difference(runs):.1e}")


def judge(runs, typed):
    """Names what is not as it must be."""
    for run in runs:
        if not typed.synthetic and abs(mean(run.eers) - PAPER_EER) > EER_TOLERANCE:
            yield f"{run.language}: mean EER {mean(run.eers):.4f} is not within {PAPER_EER} ± {EER_TOLERANCE}"
    if len(runs) > 1 and not largest_difference(runs) <= SCORE_TOLERANCE:
        yield f"the languages' scores differ by {largest_difference(runs):.1e}, more than {SCORE_TOLERANCE:.0e}"


def largest_difference(runs):
    """The largest difference that any trial's score has between the first run and the others."""
    first, *others = ([score for score, _ in run.answers] for run in runs)
    return max(abs(a - b) for other in others for a, b in zip(first, other, strict=True))


def say(text):
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
