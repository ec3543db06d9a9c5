"""What a script served by Dunnage may import.

A script needs nothing from here to work: it is handed its files and its context. Import this package for the exceptions
(`Retry`, `Cancelled`, `StateError`), for annotations, and to call a script's functions in its own unit tests: `File` and
`Context` can be made by hand, and then keep the state in memory (see `dunnage.testing`).
"""

from ._context import Context
from ._errors import Cancelled, Retry, StateError
from ._files import File, Request
from ._state import State

__all__ = ["Cancelled", "Context", "File", "Request", "Retry", "State", "StateError"]
