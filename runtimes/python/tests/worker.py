"""The server's side of the protocol, for the tests: starts a real worker, and answers its questions from memory."""

from __future__ import annotations

import os
import shlex
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import uuid
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 60
LOAD, OUTPUT, RUN, REPLY, CANCEL = 1, 2, 3, 4, 5
HELLO, LOADED, LOAD_FAILED, OUTPUTS, DONE, ASK, PROGRESS, LOG = range(101, 109)
FORMATS = {"f32": "f", "f64": "d", "i64": "q"}


def command() -> list[str]:
    """The launcher: `DUNNAGE_TEST_COMMAND`, else the one in the workspace's target folder."""
    named = os.environ.get("DUNNAGE_TEST_COMMAND")
    if named:
        return shlex.split(named)
    return [str(Path(__file__).resolve().parents[3] / "target" / "debug" / "dunnage-python")]


class Refused(Exception):
    """The worker's account of a failure: `code`, `message`, and perhaps `traceback` and `retry_after`."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code: str = error["code"]
        self.message: str = error["message"]
        self.traceback: str | None = error.get("traceback")
        self.retry_after: float | None = error.get("retry_after")


class Worker:
    """A worker with a script. Use it in a `with` statement; leaving that closes the connection and awaits the exit."""

    def __init__(
        self, script: str, name: str = "model.py", env: dict[str, str] | None = None, python: str = sys.executable
    ) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / name
        self.path.write_text(textwrap.dedent(script), encoding="utf-8")
        self.state: dict[str, Any] = {}
        self.progress: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []
        self.calls = 0
        self.stdout = self.stderr = ""
        self.status: int | None = None
        self._start(python, env)

    def _start(self, python: str, env: dict[str, str] | None) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(PATIENCE_SECONDS)
        with theirs:
            # The shell moves the socket from descriptor 0 to 3.
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", 'exec "$@" 3<&0 0</dev/null', "sh", *command(), "--python", python],
                stdin=theirs,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self.folder.name,
                env={**os.environ, **(env or {})},
                text=True,
                encoding="utf-8",
            )
        kind, self.hello, _ = self.receive()
        assert kind == HELLO, kind

    def load(self, artifact: str | None = None, role: str = "serving") -> Worker:
        """Loads the script, which must succeed."""
        self.send(
            LOAD,
            {
                "service": "tests",
                "worker": 1,
                "role": role,
                "script": str(self.path),
                "artifact": None if artifact is None else {"version": 7, "path": artifact},
                "device": "cpu",
            },
        )
        kind, message, _ = self.answer()
        if kind == LOAD_FAILED:
            raise Refused(message["error"])
        self.functions = message["functions"]
        return self

    def file(self, name: str, contents: bytes) -> dict[str, Any]:
        path = Path(self.folder.name) / name
        path.write_bytes(contents)
        return {"uri": f"s3://tests/{name}", "path": str(path), "size": len(contents), "etag": "abc"}

    def output(self, params: dict[str, Any] | None = None, files: list[Any] | None = None) -> tuple[str, list[Any]]:
        """One request: type and elements of its vector."""
        (answer,) = self.batch([params or {}], files)
        if isinstance(answer, Refused):
            raise answer
        return answer

    def batch(self, params: list[dict[str, Any]], files: list[Any] | None = None) -> list[Any]:
        """A batch of requests, whose answers are vectors or `Refused`."""
        self.calls += 1
        requests = [
            {"request_id": f"r{index}", "files": files or [], "params": each} for index, each in enumerate(params)
        ]
        self.send(OUTPUT, {"call": self.calls, "deadline": 4e9, "requests": requests})
        kind, message, payload = self.answer()
        assert kind == OUTPUTS and message["call"] == self.calls, message
        answers: list[Any] = []
        for item in message["items"]:
            if "error" in item:
                answers.append(Refused(item["error"]))
                continue
            layout = item["vector"]
            format = f"<{layout['length']}{FORMATS[layout['dtype']]}"
            size = struct.calcsize(format)
            answers.append((layout["dtype"], list(struct.unpack(format, payload[:size]))))
            payload = payload[size:]
        assert not payload
        return answers

    def run(self, kind: str = "train", params: dict[str, Any] | None = None, files: list[Any] | None = None) -> Any:
        """A job, from begin to end."""
        self.begin(kind, params, files)
        return self.finish()

    def begin(self, kind: str = "train", params: dict[str, Any] | None = None, files: list[Any] | None = None) -> None:
        self.calls += 1
        run = {
            "call": self.calls,
            "deadline": 4e9,
            "kind": kind,
            "job": str(uuid.UUID(int=1)),
            "attempt": 2,
            "seed": 42,
            "files": files or [],
            "params": params or {},
        }
        self.send(RUN, run)

    def finish(self) -> Any:
        kind, message, _ = self.answer()
        assert kind == DONE and message["call"] == self.calls, message
        if "error" in message:
            raise Refused(message["error"])
        return message["ok"]

    def cancel(self) -> None:
        self.send(CANCEL, {"call": self.calls})

    def close(self) -> int:
        """Closes the connection; the worker's exit code."""
        if self.status is None:
            self.socket.close()
            try:
                self.stdout, self.stderr = self.process.communicate(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.stdout, self.stderr = self.process.communicate()
                raise
            self.status = self.process.returncode
            self.folder.cleanup()
        return self.status

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def send(self, kind: int, message: Any) -> None:
        header = pack(message)
        self.socket.sendall(struct.pack("<IIHH", len(header), 0, kind, 0) + header)

    def receive(self) -> tuple[int, Any, bytes]:
        header_length, payload_length, kind, _ = struct.unpack("<IIHH", self._read(12))
        return kind, unpack(self._read(header_length)), self._read(payload_length)

    def answer(self) -> tuple[int, Any, bytes]:
        """The next message that answers something, once every question before it has been served."""
        while True:
            kind, message, payload = self.receive()
            if kind == PROGRESS:
                self.progress.append(message)
            elif kind == LOG:
                self.log.append(message)
            elif kind == ASK:
                self.reply(message)
            else:
                return kind, message, payload

    def reply(self, ask: dict[str, Any]) -> None:
        operation = ask["operation"]
        if operation == "new_artifact":
            name, arguments = operation, {}
        else:
            ((name, arguments),) = operation.items()
        self.send(REPLY, {"ask": ask["ask"], **getattr(self, f"_{name}")(**arguments)})

    def _new_artifact(self) -> Any:
        path = Path(self.folder.name) / "artifact"
        path.mkdir(exist_ok=True)
        return {"ok": {"path": str(path)}}

    def _state_get(self, key: str) -> Any:
        return {"ok": {"value": self.state.get(key)}}

    def _state_set(self, key: str, value: Any) -> Any:
        if key == "":
            return {"error": {"code": "key_invalid", "message": "a key has 1 to 512 bytes"}}
        self.state[key] = value
        return {"ok": "nothing"}

    def _state_delete(self, key: str) -> Any:
        return {"ok": {"flag": self.state.pop(key, None) is not None}}

    def _state_increment(self, key: str, by: Any) -> Any:
        total = self.state.get(key, {"json": 0})["json"] + by
        self.state[key] = {"json": total}
        return {"ok": {"number": total}}

    def _state_compare_and_set(self, key: str, old: Any, new: Any) -> Any:
        matches = bool(self.state.get(key) == old)
        if matches and new is None:
            self.state.pop(key, None)
        elif matches:
            self.state[key] = new
        return {"ok": {"flag": matches}}

    def _state_scan(self, prefix: str, after: str | None, limit: int) -> Any:
        keys = [key for key in sorted(self.state) if key.startswith(prefix) and (after is None or key > after)]
        return {"ok": {"entries": [{"key": key, "value": self.state[key]} for key in keys[:limit]]}}

    def _read(self, length: int) -> bytes:
        parts = bytearray()
        while len(parts) < length:
            part = self.socket.recv(length - len(parts))
            if not part:
                raise EOFError(f"the worker hung up; it said: {self.process.communicate()[1]}")
            parts += part
        return bytes(parts)


def pack(value: Any) -> bytes:
    """MessagePack, in the longest forms: short code, and every reader must accept them."""
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return struct.pack(">Bq", 0xD3, value) if value < 2**63 else struct.pack(">BQ", 0xCF, value)
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, str):
        text = value.encode()
        return struct.pack(">BI", 0xDB, len(text)) + text
    if isinstance(value, bytes):
        return struct.pack(">BI", 0xC6, len(value)) + value
    if isinstance(value, dict):
        return struct.pack(">BI", 0xDF, len(value)) + b"".join(pack(key) + pack(item) for key, item in value.items())
    return struct.pack(">BI", 0xDD, len(value)) + b"".join(map(pack, value))


def unpack(data: bytes) -> Any:
    value, rest = _unpack(data, 0)
    assert rest == len(data)
    return value


def _unpack(data: bytes, at: int) -> tuple[Any, int]:
    code = data[at]
    at += 1
    if code < 0x80 or code >= 0xE0:
        return (code if code < 0x80 else code - 256), at
    if code < 0x90 or code in (0xDE, 0xDF):
        length, at = (code & 15, at) if code < 0x90 else _length(data, at, code - 0xDD)
        return _unpack_map(data, at, length)
    if code < 0xA0 or code in (0xDC, 0xDD):
        length, at = (code & 15, at) if code < 0xA0 else _length(data, at, code - 0xDB)
        return _unpack_list(data, at, length)
    if code < 0xC0 or code in (0xD9, 0xDA, 0xDB):
        length, at = (code & 31, at) if code < 0xC0 else _length(data, at, code - 0xD9)
        return data[at : at + length].decode(), at + length
    if code in (0xC4, 0xC5, 0xC6):
        length, at = _length(data, at, code - 0xC4)
        return data[at : at + length], at + length
    if code in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[code], at
    format = ">" + {0xCA: "f", 0xCB: "d", **dict(zip(range(0xCC, 0xD4), "BHIQbhiq"))}[code]
    size = struct.calcsize(format)
    return struct.unpack_from(format, data, at)[0], at + size


def _length(data: bytes, at: int, width: int) -> tuple[int, int]:
    format = (">B", ">H", ">I")[width]
    return struct.unpack_from(format, data, at)[0], at + struct.calcsize(format)


def _unpack_map(data: bytes, at: int, length: int) -> tuple[dict[Any, Any], int]:
    found = {}
    for _ in range(length):
        key, at = _unpack(data, at)
        found[key], at = _unpack(data, at)
    return found, at


def _unpack_list(data: bytes, at: int, length: int) -> tuple[list[Any], int]:
    found = []
    for _ in range(length):
        value, at = _unpack(data, at)
        found.append(value)
    return found, at
