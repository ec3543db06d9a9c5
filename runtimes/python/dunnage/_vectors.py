"""What `output` returned, as a vector. Lists and tuples of Python's own numbers never come here: Rust takes those itself."""

from __future__ import annotations

from collections.abc import Sequence

from ._buffers import Buffer, view
from ._errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WANTED = "return a flat list of numbers, or a 1-D array"


def unpack(value: Any, place: str) -> list[Any] | tuple[str, int, bytes]:
    """The elements of `value`: a list, or the kind and size of an element and the elements' bytes."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if _dimensions(value, absent=1) > 1:
        raise _bad(f"{place} returned {_a(value)} of shape {tuple(value.shape)}; return value.ravel(), which is flat")
    if value is None or isinstance(value, (str, bytes, bytearray, dict, set, frozenset)) or hasattr(value, "__await__"):
        raise _no_vector(value, place)
    if getattr(value, "mask", None) is not None and hasattr(value, "filled"):
        raise _bad(f"{place} returned {_a(value)}; say what stands for the masked elements, as in value.filled(0)")
    buffer = view(value)
    if buffer is not None:
        return _from_buffer(buffer, value, place)
    if isinstance(value, Sequence) or _dimensions(value, absent=0) == 1:
        return value.tolist() if hasattr(value, "tolist") else list(value)
    raise _no_vector(value, place)


def number(element: Any, index: int, place: str) -> int | float:
    """An element of a list as one of Python's own numbers."""
    if _dimensions(element, absent=0) > 0:
        raise _bad(f"{place}: element {index} is {_a(element)} of shape {tuple(element.shape)}; return a flat vector")
    if isinstance(element, (list, tuple, dict, set, range)):
        raise _bad(f"{place}: element {index} is {_a(element)}; return a flat vector")
    if hasattr(element, "shape") and hasattr(element, "item"):
        element = element.item()  # a number of numpy or torch
    kind = type(element)
    if hasattr(kind, "__index__"):
        integer = int(kind.__index__(element))
        if not -(2**63) <= integer < 2**63:
            raise _bad(f"{place}: element {index} is {_brief(integer)}, which needs more than 64 bits; return floats instead")
        return integer
    if hasattr(kind, "__float__"):
        return float(element)
    raise _bad(f"{place}: element {index} is {_a(element)}, not a number")


def as_list(value: Any, place: str) -> list[Any]:
    """The elements of one file's answer in the first wrappers' form, in which a single number counts as a vector of one."""
    if _is_number(value):
        return [value]
    elements = unpack(value, place)
    if isinstance(elements, list):
        return elements
    flat: list[Any] = value.tolist() if hasattr(value, "tolist") else memoryview(value).tolist()
    return flat


def _from_buffer(buffer: Buffer, value: Any, place: str) -> list[Any] | tuple[str, int, bytes]:
    if buffer.ndim > 1:
        raise _bad(f"{place} returned {_a(value)} of shape {buffer.shape}; return value.ravel(), which is flat")
    if buffer.ndim == 0:
        raise _no_vector(value, place)
    if buffer.kind and buffer.itemsize <= 8:
        return (buffer.kind, buffer.itemsize, buffer.data)
    if getattr(getattr(value, "dtype", None), "kind", "") == "O":
        return list(value)
    raise _bad(f"{place} returned {buffer.name}, which are no real numbers of up to 64 bits; {_WANTED}")


def _no_vector(value: Any, place: str) -> Failure:
    if value is None:
        return _bad(f"{place} returned None; {_WANTED} (is there a `return` missing?)")
    if hasattr(value, "__await__"):
        if hasattr(value, "close"):
            value.close()  # or Python warns that it was never awaited
        return _bad(f"{place} returned {_a(value)}; functions are called, not awaited: make it `def`, not `async def`")
    if _is_number(value):
        return _bad(f"{place} returned a single number ({_brief(value)}); return [value]")
    if hasattr(value, "__next__") or isinstance(value, (set, frozenset)):
        return _bad(f"{place} returned {_a(value)}; return list(value)")
    return _bad(f"{place} returned {_a(value)}; {_WANTED}")


def _is_number(value: Any) -> bool:
    kind = type(value)
    countable = hasattr(kind, "__index__") or hasattr(kind, "__float__") or isinstance(value, complex)
    return countable and _dimensions(value, absent=0) == 0


def _dimensions(value: Any, absent: int) -> int:
    """How many dimensions an array of numpy, torch or their like has; `absent` for everything else."""
    shape = getattr(value, "shape", None)
    return absent if shape is None or isinstance(value, type) else len(tuple(shape))


def _bad(message: str) -> Failure:
    return Failure("bad_output", message)


def _a(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name.startswith(('a', 'e', 'i', 'o', 'ndarray')) else 'a'} {name}"


def _brief(value: Any) -> str:
    # Python refuses to write out integers of more than 4300 digits.
    text = hex(value) if isinstance(value, int) and abs(value) >= 2**63 else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
