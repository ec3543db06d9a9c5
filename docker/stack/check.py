#!/usr/bin/env python3
"""Runs the keystroke demo on the stack of docker/compose.yaml, through its balancer, while a replica is killed and comes back.

The demo fails if a single answer is missing or the figures are not the published ones. The stack is brought up before and taken
down after. Needs compose and the standard library only.
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager
from functools import cache
from pathlib import Path

STACK = Path(__file__).parent
DEMO = STACK.parent.parent / "examples/keystroke/fleet.py"
DASHBOARD = STACK / "grafana/dunnage.json"
URL, OBJECTS, PROMETHEUS = "http://127.0.0.1:8080", "http://127.0.0.1:3900", "http://127.0.0.1:9090"
PATIENCE_SECS = 300
# How many answers the replica has given by the time it is killed.
ANSWERS_BEFORE = 100


def main():
    secrets = dict(line.split("=", 1) for line in run(STACK / "secrets.sh").splitlines())
    # Lets the first docker-compose build as docker does.
    os.environ.update(secrets, COMPOSE_DOCKER_CLI_BUILD="1", COMPOSE_PROJECT_NAME="dunnage-stack")
    with stack():
        victim, other = eventually("there are two replicas", replicas)
        eventually("both replicas are ready", lambda: all(map(is_ready, (victim, other))) and answers(f"{URL}/healthz/ready"))
        with demo(secrets) as experiment:
            eventually("the replica answers", lambda: is_running(experiment) and outputs(victim) >= ANSWERS_BEFORE)
            run("docker", "kill", victim)
            say("killed a replica; the demo goes on")
            before = outputs(other)
            eventually("the other one answers", lambda: not is_running(experiment) or outputs(other) > before)
            run("docker", "start", victim)
            eventually("it is ready again", lambda: is_ready(victim))
            say("started it again")
            code = experiment.wait(PATIENCE_SECS)
        watched()
    if code:
        sys.exit(f"stack: the demo failed with {code}")
    say("no answer was missing")


@contextmanager
def stack():
    """The stack, until the block ends; its volumes go with it."""
    say("building and starting it")
    try:
        compose("build", told=subprocess.PIPE)
        compose("up", "--detach")
        yield
    except BaseException:
        print(compose("logs", "--no-color", "--tail=30"), file=sys.stderr)
        raise
    finally:
        compose("down", "--volumes", "--remove-orphans", "--timeout=40")


@contextmanager
def demo(secrets):
    """The keystroke experiment in a process of its own, which ends with the block."""
    account = {"AWS_ACCESS_KEY_ID": secrets["OBJECTS_KEY_ID"], "AWS_SECRET_ACCESS_KEY": secrets["OBJECTS_SECRET"]}
    where = {"AWS_ENDPOINT_URL": OBJECTS, "AWS_REGION": "garage", "DUNNAGE_TEST_BUCKET": "dunnage"}
    command = [sys.executable, DEMO, "--url", URL, "--language", "python"]
    with subprocess.Popen(command, env={**os.environ, **account, **where, "PYTHONUNBUFFERED": "1"}) as process:
        try:
            yield process
        finally:
            process.kill()


def is_running(experiment):
    """Whether the demo still runs; one that has failed already fails the check."""
    if experiment.poll():
        sys.exit(f"stack: the demo failed with {experiment.returncode}")
    return experiment.returncode is None


def watched():
    """Checks that Prometheus sees both replicas, and everything that the dashboard shows."""
    eventually("Prometheus sees both replicas", lambda: query('sum(up{job="dunnage"})') == 2)
    named = set(re.findall(r"\bdunnage_\w+", DASHBOARD.read_text()))
    eventually("Prometheus has what the dashboard shows", lambda: not unknown(named))
    say(f"Prometheus has the {len(named)} metrics that the dashboard shows")


def unknown(named):
    """Those of the metrics that Prometheus has not heard of."""
    return named - set(json.loads(fetch(f"{PROMETHEUS}/api/v1/label/__name__/values"))["data"])


def query(expression):
    """The only value of an expression, or nothing."""
    results = json.loads(fetch(f"{PROMETHEUS}/api/v1/query?query={urllib.parse.quote(expression)}"))["data"]["result"]
    return float(results[0]["value"][1]) if results else None


def replicas():
    """The two containers of the service, once there are two."""
    found = compose("ps", "--quiet", "service").split()
    return found if len(found) == 2 else None


def outputs(container):
    """How many answers to `/output` a replica has given, by its own count."""
    metrics = fetch(f"{own_url(container)}/metrics")
    counts = re.findall(r'^dunnage_http_requests_total\{.*route="/output".*status="200".*\} (\d+)', metrics, re.MULTILINE)
    return sum(map(int, counts))


def is_ready(container):
    return answers(f"{own_url(container)}/healthz/ready")


def own_url(container):
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    return f"http://{run('docker', 'inspect', '--format', form, container)}:8080"


def answers(url):
    try:
        return bool(fetch(url))
    except OSError:
        return False


def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def compose(*arguments, told=None):
    return run(*compose_command(), "--file", STACK.parent / "compose.yaml", *arguments, told=told)


@cache
def compose_command():
    """Docker's plugin where there is one, and otherwise the program that came before it."""
    plugin = ["docker", "compose"]
    has_plugin = subprocess.run([*plugin, "version"], capture_output=True).returncode == 0
    return plugin if has_plugin else ["docker-compose"]


def run(*command, told=None):
    """What a command prints. One that fails ends the check. What it tells on the way is shown, or with a pipe only if it fails."""
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=told, text=True)
    if done.returncode:
        print(done.stdout, done.stderr or "", file=sys.stderr)
        done.check_returncode()
    return done.stdout.strip()


def eventually(what, ask):
    """The first answer that counts as true."""
    give_up = time.monotonic() + PATIENCE_SECS
    while time.monotonic() < give_up:
        if answer := ask():
            return answer
        time.sleep(0.1)
    raise TimeoutError(f"not within {PATIENCE_SECS} s: {what}")


def say(text):
    print(f"stack: {text}", flush=True)


if __name__ == "__main__":
    main()
