"""The service's state, as a mapping."""

from __future__ import annotations

from _collections_abc import MutableMapping  # `collections.abc` is the same, but slow to import

from ._values import decode, encode, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ._host import Host

_PAGE = 1000


class State(MutableMapping[str, "Any"]):
    """A map that is kept in the database and shared by all workers of the service, on every replica.

    Keys are strings. Values are what JSON can say (`None`, booleans, numbers, strings, lists, dicts with string keys), bytes,
    or arrays (numpy, `array.array`, torch tensors). An array is read back as a `numpy.ndarray`, or as a `memoryview` of the
    same shape where numpy is not installed; a single number of numpy or torch is kept as a JSON number. What is read is a copy: change it and set it again.

    Each operation stands alone; use `increment` and `compare_and_set` where several workers may write one key. A refusal by
    the server raises `StateError`.
    """

    __slots__ = ("_host",)

    def __init__(self, host: Host) -> None:
        self._host = host

    def __getitem__(self, key: str) -> Any:
        found = self._host.state_get(key)
        if found is None:
            raise KeyError(key)
        return decode(found)

    def __setitem__(self, key: str, value: Any) -> None:
        self._host.state_set(key, encode(value, key))

    def __delitem__(self, key: str) -> None:
        if not self._host.state_delete(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._host.state_get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self._entries(""))

    def __len__(self) -> int:
        """How many keys there are; reads them all."""
        return sum(1 for _ in self)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of a key, which is set to `default` if it is absent. One worker's default wins."""
        while True:
            found = self._host.state_get(key)
            if found is not None:
                return decode(found)
            if self._host.state_compare_and_set(key, None, encode(default, key)):
                return default

    def clear(self) -> None:
        """Removes every key there is now."""
        for key in list(self):
            self._host.state_delete(key)

    def increment(self, key: str, by: int | float = 1) -> int | float:
        """Adds to a number and returns the sum; an absent key counts as 0. No update is lost between workers."""
        number = plain(by, "`by`")
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise TypeError(f"`by` is a {type(by).__name__}; a number can be added")
        return self._host.state_increment(key, number)

    def compare_and_set(self, key: str, old: Any, new: Any) -> bool:
        """Sets a key to `new` if it holds `old`; whether it was set.

        `None` means absent: as `old` it expects that there is no such key, as `new` it removes the key.
        """
        return self._host.state_compare_and_set(
            key,
            None if old is None else encode(old, key),
            None if new is None else encode(new, key),
        )

    def scan(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """The entries whose keys begin with `prefix`, in byte order.

        They are fetched a thousand at a time, so a long scan sees what others write behind the place it has reached.
        """
        return ((key, decode(value)) for key, value in self._entries(prefix))

    def _entries(self, prefix: str) -> Iterator[tuple[str, Any]]:
        after = None
        while page := self._host.state_scan(prefix, after, _PAGE):
            yield from page
            after = page[-1][0]

    def __repr__(self) -> str:
        return "<State>"
