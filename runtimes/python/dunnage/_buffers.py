"""Arrays of numbers, whoever made them, as bytes with a type and a shape."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_KINDS = {"?": "b", **dict.fromkeys("efd", "f"), **dict.fromkeys("bhilqn", "i"), **dict.fromkeys("BHILQN", "u")}
_NATIVE = "@=<" if sys.byteorder == "little" else "@=>"


class Buffer:
    """The elements of an array in row-major order.

    `kind` is `f`, `i`, `u`, `b` (booleans), or empty if the elements are no numbers we know.
    """

    __slots__ = ("_elements", "kind", "name")

    def __init__(self, elements: memoryview, name: str) -> None:
        format = elements.format.lstrip(_NATIVE)
        self._elements = elements
        self.kind = _KINDS.get(format, "")
        self.name = f"elements of a {name} in the format {elements.format!r}"

    @property
    def itemsize(self) -> int:
        return self._elements.itemsize

    @property
    def ndim(self) -> int:
        return self._elements.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        return self._elements.shape or ()

    @property
    def data(self) -> bytes:
        return self._elements.tobytes()


def view(value: Any) -> Buffer | None:
    """The elements of `value`, or `None` if it is no array, or one whose elements cannot be had as bytes."""
    name = type(value).__name__
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = _from_torch(value)
    elements = _memory(value)
    if elements is None and (hasattr(value, "__array__") or hasattr(value, "__dlpack__")):
        value = _through_numpy(value)
        elements = _memory(value)
    return None if elements is None else Buffer(elements, name)


def _memory(value: Any) -> memoryview | None:
    dtype: Any = getattr(value, "dtype", None)
    if getattr(dtype, "byteorder", "") == ("<" if sys.byteorder == "big" else ">"):
        value = value.astype(dtype.newbyteorder("="))
    try:
        return memoryview(value)
    except (TypeError, ValueError, BufferError):  # no buffer; numpy's dates, which have none; an exclusive buffer
        return None


def _from_torch(tensor: Any) -> Any:
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    try:
        return tensor.numpy()
    except (RuntimeError, TypeError):  # numpy is not installed, or cannot hold this kind of tensor
        return tensor


def _through_numpy(value: Any) -> Any:
    try:
        import numpy
    except ImportError:
        return None
    try:
        return numpy.asarray(value) if hasattr(value, "__array__") else numpy.from_dlpack(value)
    except (TypeError, ValueError, RuntimeError, BufferError):  # on another device, or of a type numpy does not know
        return None
