"""Speaks to a running service, by HTTP and the standard library alone."""

import http.client
import json
import time
import uuid
from pathlib import Path
from urllib.parse import quote, urlsplit

JOB_TIMEOUT_SECS = 300


class Refused(Exception):
    """The service answered with a problem; `problem` is its body (RFC 9457)."""

    def __init__(self, status, problem):
        super().__init__(f"{status}: {problem}")
        self.status = status
        self.problem = problem


class Client:
    """One kept-alive connection; not to be shared between threads. Close it after use, or use it in a `with` statement.

    `address` tells how the service is to call a file that lies here.
    """

    def __init__(self, url, address=Path.as_uri):
        self.address = address
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"`{url}` is not of the form http://host:port")
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=60)
        self.version = None  # of the model, as the last answer named it

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def submit(self, call, files, params):
        """Starts a job, `call` being `/train` or `/input`, and returns its id."""
        return self.json("POST", call, {"Files": self.uris(files), "Params": params})["jobId"]

    def wait(self, job):
        """Waits until a job is done and returns its last status. Raises `RuntimeError` if it failed."""
        pause_secs, give_up = 0.005, time.monotonic() + JOB_TIMEOUT_SECS
        while True:
            status = self.json("GET", f"/status?jobId={quote(job)}")
            if status["status"] == "done":
                return status
            if status["status"] != "running":
                raise RuntimeError(f"job {job} failed: {json.dumps(status)}")
            if time.monotonic() > give_up:
                raise TimeoutError(f"job {job} still runs after {JOB_TIMEOUT_SECS} s: {json.dumps(status)}")
            time.sleep(pause_secs)
            pause_secs = min(2 * pause_secs, 0.25)

    def wait_until_serving(self, version, files, params):
        """Waits until `/output` is answered by a version of the model, asking it about `files`."""
        give_up = time.monotonic() + JOB_TIMEOUT_SECS
        while True:
            self.output(files, params)
            if self.version == str(version):
                return
            if time.monotonic() > give_up:
                raise TimeoutError(f"version {version} was published, but version {self.version} still answers")
            time.sleep(0.02)

    def output(self, files, params):
        """Asks for an answer now and returns its vector."""
        return self.json("POST", "/output", {"Files": self.uris(files), "Params": params})["outputVector"]

    def output_upload(self, file, params):
        """The same with the file sent along, as `curl -F file=@… -F Params=…` does."""
        boundary = uuid.uuid4().hex
        head = f"--{boundary}\r\nContent-Disposition: form-data; name="
        body = (
            f'{head}"Params"\r\n\r\n{json.dumps(params)}\r\n'
            f'{head}"file"; filename="{file.name}"\r\nContent-Type: text/csv\r\n\r\n{file.read_text()}\r\n'
            f"--{boundary}--\r\n"
        )
        return self.send("POST", "/output", body.encode(), f"multipart/form-data; boundary={boundary}")["outputVector"]

    def uris(self, files):
        return [self.address(file) for file in files]

    def json(self, method, target, body=None):
        """Sends a request with a JSON body, if any, and returns the JSON answered."""
        return self.send(method, target, None if body is None else json.dumps(body).encode(), "application/json")

    def send(self, method, target, body, content_type):
        self.connection.request(method, target, body, {"Content-Type": content_type} if body is not None else {})
        response = self.connection.getresponse()
        text = response.read()
        self.version = response.getheader("Model-Version")
        try:
            answer = json.loads(text)
        except ValueError:
            raise RuntimeError(f"{method} {target} answered {response.status} with no JSON: {text[:200]!r}") from None
        if response.status >= 400:
            raise Refused(response.status, answer)
        return answer
