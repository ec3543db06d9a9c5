"""What a client sent: files, and whole requests where a script answers many at once."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any, BinaryIO


class File:
    """One file on the local disk, to be read only.

    Can stand wherever Python wants a path: `open(file)`, `numpy.load(file)`.
    """

    __slots__ = ("_path", "etag", "size", "uri")

    uri: str
    """The address the client gave."""
    size: int
    """Its size in bytes."""
    etag: str | None
    """Changes whenever the contents do, where the source has such a mark."""

    def __init__(
        self, path: str | os.PathLike[str], uri: str | None = None, size: int | None = None, etag: str | None = None
    ) -> None:
        self._path = os.fspath(path)
        self.uri = "file://" + os.path.abspath(self._path) if uri is None else uri
        self.size = os.stat(self._path).st_size if size is None else size
        self.etag = etag

    @property
    def path(self) -> Path:
        """Where it is."""
        from pathlib import Path  # costs more than all else an idle worker imports

        return Path(self._path)

    def read(self) -> bytes:
        """All of its contents."""
        with open(self._path, "rb") as file:
            return file.read()

    def open(self) -> BinaryIO:
        """Its contents as a binary file; close it, or use it in a `with` statement."""
        return open(self._path, "rb")

    def __fspath__(self) -> str:
        return self._path

    def __repr__(self) -> str:
        return f"<File {self.uri} ({self.size} bytes)>"


def local_file(path: str, uri: str, size: int, etag: str | None) -> File:
    """A file of which the server has told all. For every request, so it spares what `File(...)` does for people."""
    file = _new(File)
    file._path = path
    file.uri = uri
    file.size = size
    file.etag = etag
    return file


_new = object.__new__


class Request:
    """One of the requests that `output_batch` answers."""

    __slots__ = ("files", "params", "request_id")

    files: list[File]
    """Its files."""
    params: dict[str, Any]
    """The client's `Params`."""
    request_id: str | None
    """Names the request in logs."""

    def __init__(
        self, files: list[File] | None = None, params: dict[str, Any] | None = None, request_id: str | None = None
    ) -> None:
        self.files = [] if files is None else files
        self.params = {} if params is None else params
        self.request_id = request_id

    def __repr__(self) -> str:
        return f"<Request {self.request_id} ({len(self.files)} files)>"
