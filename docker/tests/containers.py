"""Images and containers, as the tests see them: what is started here ends with its test."""

import http.client
import io
import json
import subprocess
import tarfile
import time
from functools import cache
from pathlib import Path

SCRIPTS = Path(__file__).parent / "scripts"
# A walk whose mean is 3.
WALK = b"1,2,3,6"
PATIENCE_SECS = 60
ANYBODY = {"DUNNAGE_ALLOW_ANONYMOUS": "true"}


def docker(*arguments, given=None):
    """What a docker command prints, less the last line break; one that fails is a failure of the test."""
    command = ["docker", *map(str, arguments)]
    done = subprocess.run(command, input=given, capture_output=True)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)} failed:\n{done.stderr.decode()}")
    return done.stdout.decode().strip()


def build(tag, dockerfile, **files):
    """Builds an image from a Dockerfile and files with their contents; the dots in their names are written as `_dot_`."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, contents in {"Dockerfile": dockerfile.encode(), **files}.items():
            entry = tarfile.TarInfo(name.replace("_dot_", "."))
            entry.size, entry.mode = len(contents), 0o644
            archive.addfile(entry, io.BytesIO(contents))
    docker("build", "--quiet", "--tag", tag, "-", given=context.getvalue())
    return tag


@cache
def user_image(language):
    """The image of a user: a base image and a script, as the documentation says."""
    extension, target = {"python": ("py", "python"), "lua": ("lua", "lua"), "full": ("lua", "full")}[language]
    script = (SCRIPTS / f"model.{extension}").read_bytes()
    dockerfile = f"FROM dunnage:{target}\nCOPY model.{extension} /model/\n"
    return build(f"dunnage-test:{language}", dockerfile, **{f"model_dot_{extension}": script})


class Container:
    """A container that serves a script to anybody, until the `with` block ends. `options` are those of `docker run`."""

    def __init__(self, image, *options, environment=ANYBODY, is_ready=True):
        variables = [f"--env={name}={value}" for name, value in environment.items()]
        self.id = docker("run", "--detach", *variables, *options, image)
        self.is_ready = is_ready

    def __enter__(self):
        if self.is_ready:
            self.await_ready()
        return self

    def __exit__(self, *_):
        docker("rm", "--force", "--volumes", self.id)

    def inspect(self, form):
        """What docker knows of it, in a form such as `{{.State.Status}}`."""
        return docker("inspect", "--format", form, self.id)

    @property
    def address(self):
        """Where it listens. Its own address rather than a published port, behind which a proxy would answer for it."""
        return self.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"), 8080

    def await_ready(self):
        """Waits until it answers requests; one that ends instead fails the test with its log."""
        eventually("the container is ready", lambda: self.is_running() and self.asked_ready())

    def is_running(self):
        if self.inspect("{{.State.Status}}") != "running":
            raise AssertionError(f"the container has ended: {self.log()}")
        return True

    def asked_ready(self):
        try:
            return self.request("GET", "/healthz/ready")[0] == 200
        except OSError:
            return False

    def request(self, method, path, body=None, headers=None):
        """The status of an answer and what its JSON says."""
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE_SECS)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def send(self, path, parameters=None):
        """What is answered when a walk is sent along as a file."""
        body, headers = form(parameters)
        return self.request("POST", path, body, headers)

    def output(self, parameters=None):
        """The vector for a walk."""
        status, answer = self.send("/output", parameters)
        assert status == 200, (status, answer)
        return answer["outputVector"]

    def submit(self, path, parameters=None):
        """The id of a new job."""
        status, answer = self.send(path, parameters)
        assert status == 202, (status, answer)
        return answer["jobId"]

    def job(self, job):
        """A job's status."""
        return self.request("GET", f"/status?jobId={job}")[1]

    def ended(self, job):
        """A job's status once it has ended."""
        return eventually(f"job {job} ends", lambda: (status := self.job(job))["state"] in ("done", "error") and status)

    def done(self, path, parameters=None):
        """The result of a new job, which has to succeed."""
        status = self.ended(self.submit(path, parameters))
        assert status["state"] == "done", status
        return status["result"]

    def stop(self, seconds=40):
        """Ends it by SIGTERM, which it may take so many seconds to heed, and returns its exit code."""
        docker("stop", "--time", seconds, self.id)
        return int(self.inspect("{{.State.ExitCode}}"))

    def start(self):
        """Starts it again after it has ended."""
        docker("start", self.id)
        self.await_ready()

    def log(self):
        """What it has written, both streams together."""
        done = subprocess.run(["docker", "logs", self.id], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
        return done.stdout.decode()

    def processes(self):
        """The state and the command of each process in it."""
        lines = docker("top", self.id, "-eo", "pid,stat,args").splitlines()[1:]
        return [tuple(line.split(None, 2)[1:]) for line in lines]


def form(parameters):
    """A form with a walk in it, and its headers."""
    boundary = "a-line-that-is-in-no-walk"
    parts = [('name="file"; filename="walk.csv"', WALK)]
    if parameters is not None:
        parts.insert(0, ('name="Params"', json.dumps(parameters).encode()))
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {name}\r\n\r\n".encode() + contents + b"\r\n"
        for name, contents in parts
    )
    return body + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def eventually(what, ask):
    """The first answer that counts as true."""
    give_up = time.monotonic() + PATIENCE_SECS
    while time.monotonic() < give_up:
        if answer := ask():
            return answer
        time.sleep(0.1)
    raise AssertionError(f"not within {PATIENCE_SECS} s: {what}")
