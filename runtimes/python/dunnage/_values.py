"""Python's values as JSON, bytes and arrays: for the state, for results of jobs, for metrics."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._host import Encoded

_INFINITY = float("inf")
_MAX_DEPTH = 100
_FORMATS = {"f32": "f", "f64": "d", "i8": "b", "i16": "h", "i32": "i", "i64": "q", "u8": "B", "u16": "H", "u32": "I", "u64": "Q"}


def encode(value: Any, key: str) -> Encoded:
    """A value of the state as it travels. Raises `TypeError` or `ValueError` if it cannot be kept."""
    if isinstance(value, (bytes, bytearray)):
        return ("bytes", bytes(value))
    if value is None or isinstance(value, (str, int, float, list, tuple, dict)):
        return ("json", plain(value, f"the value of `{key}`"))
    from ._buffers import view

    buffer = view(value)
    if buffer is None or buffer.ndim == 0:
        return ("json", plain(value, f"the value of `{key}`"))
    dtype = f"{buffer.kind}{8 * buffer.itemsize}"
    if dtype not in _FORMATS:
        raise TypeError(
            f"the value of `{key}` has {buffer.name}; arrays of {', '.join(_FORMATS)} can be kept, "
            "so convert it, for example by value.astype('float32')"
        )
    return ("array", dtype, buffer.shape, buffer.data)


def decode(value: Encoded) -> Any:
    """A value of the state as the script sees it."""
    if value[0] != "array":
        return value[1]
    _, dtype, shape, data = value
    format: Any = _FORMATS[dtype]
    elements = memoryview(bytearray(data)).cast(format)
    try:
        import numpy
    except ImportError:
        # A memoryview cannot have a dimension of length 0; such an array is left flat.
        return elements if 0 in shape else elements.cast("B").cast(format, shape=list(shape))
    return numpy.asarray(elements).reshape(shape)


def plain(value: Any, place: str, depth: int = 0) -> Any:
    """A copy of `value` made of nothing but what JSON can say.

    Numbers of numpy and torch become Python's, their arrays lists. Raises `TypeError` or `ValueError`, whose text names the
    `place`, for everything else: nothing is changed silently.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise ValueError(f"{place} is {_brief(value)}, which needs more than 64 bits; keep it as a string")
        return int(value)
    if isinstance(value, float):
        if not -_INFINITY < value < _INFINITY:
            raise ValueError(f"{place} is {float(value)}; JSON has no such number")
        return float(value)
    if depth == _MAX_DEPTH:
        raise ValueError(f"{place} is nested more than {_MAX_DEPTH} deep, or holds itself")
    if isinstance(value, dict):
        return {_key(key, place): plain(item, f"{place}[{key!r}]", depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(value)]
    if hasattr(value, "tolist") and not isinstance(value, type):
        return plain(value.tolist(), place, depth + 1)
    raise TypeError(f"{place} is a {type(value).__name__}, which JSON cannot say")


def _key(key: Any, place: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{place} has the key {_brief(key)}, a {type(key).__name__}; the keys of a JSON object are strings")
    return str.__str__(key)


def _brief(value: Any) -> str:
    # Python refuses to write out integers of more than 4300 digits.
    text = hex(value) if isinstance(value, int) else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
