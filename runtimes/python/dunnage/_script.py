"""The user's script: loading it, and finding its functions in whichever form it has."""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import FunctionType, ModuleType

from ._errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any

    from ._context import Context

    Function = Callable[[Any, Context], Any]
    ContextFunction = Callable[[Context], Any]

FUNCTIONS = ("train", "input", "output", "output_batch")
_LEGACY = {"train": "handleTrainFile", "input": "handleInputFile", "output": "handleOutputFile"}


class Script:
    """A loaded script: its functions, each called with files (or requests) and a context, whatever form they have in it."""

    def __init__(
        self, file_name: str, functions: dict[str, Function], how_to_add: str, self_test: ContextFunction | None = None
    ) -> None:
        self._file_name = file_name
        self._functions = functions
        self._how_to_add = how_to_add
        self.self_test = self_test

    def has(self, name: str) -> bool:
        return name in self._functions

    def function(self, name: str) -> Function:
        found = self._functions.get(name)
        if found is None:
            message = f"`{self._file_name}` has no `{name}`; add {self._how_to_add}"
            raise Failure("function_missing", message.format(name=name, legacy=_LEGACY.get(name)))
        return found


def load(path: str, context: Context) -> Script:
    """Imports the script and makes it ready. Raises what the script raises, or `Failure` if it is no script of ours."""
    file_name = os.path.basename(path)
    module = _import(path, file_name)
    model = getattr(module, "Model", None)
    plain = {name: getattr(module, name) for name in FUNCTIONS if callable(getattr(module, name, None))}
    if isinstance(model, type) and _is_ours(model, plain):
        instance = _instance(model, context)
        how_to_add = "`def {name}(self, files, ctx)` to its class `Model`"
        return Script(file_name, _methods(model, instance), how_to_add, _of_context(instance, "self_test"))
    if plain:
        setup = _of_context(module, "setup")
        if setup is not None:
            setup(context)
        return Script(file_name, _adapted(plain), "`def {name}(files, ctx)`", _of_context(module, "self_test"))
    legacy = getattr(module, "ML", None)
    if isinstance(legacy, type) and any(hasattr(legacy, name) for name in _LEGACY.values()):
        return Script(file_name, _from_legacy(legacy, context), "`def {legacy}(contents)` to its class `ML`")
    raise Failure(
        "load_failed",
        f"`{file_name}` has nothing to call: it needs a class `Model` with some of the methods train, input, output and "
        "output_batch, each `(self, files, ctx)`; or functions of these names, each `(files, ctx)`; or a class `ML` with "
        "handleTrainFile, handleInputFile and handleOutputFile, each `(contents)`",
    )


class _Loader(SourceFileLoader):
    """Always compiles: a cached module can be taken for current when a file of the same size was written in the same second."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)  # type: ignore[no-any-return, unused-ignore]


def _import(path: str, file_name: str) -> ModuleType:
    """Runs the script as the module its file is named for, so that pickle finds its classes again."""
    name = os.path.splitext(file_name)[0].replace(".", "_")
    if name in sys.modules or name in sys.stdlib_module_names or name == "dunnage":
        raise Failure("load_failed", f"a script named `{file_name}` would hide the module `{name}` of that name; rename it")
    sys.path.insert(0, os.path.dirname(path))
    sys.argv[:] = [path]
    loader = _Loader(name, path)
    spec = ModuleSpec(name, loader, origin=path)
    spec.has_location = True
    module = ModuleType(name)
    module.__file__ = path
    module.__spec__ = spec
    module.__loader__ = loader
    module.__package__ = ""
    sys.modules[name] = module
    loader.exec_module(module)
    return sys.modules[name]


def _is_ours(model: type, plain: dict[str, Any]) -> bool:
    """Whether `Model` is the script's form, rather than, say, the network that its plain functions use."""
    found = [name for name in FUNCTIONS if _has_method(model, name)]
    return bool(found) and not (plain and found == ["train"])


def _methods(model: type, instance: Any) -> dict[str, Function]:
    return _adapted({name: getattr(instance, name) for name in FUNCTIONS if _has_method(model, name)})


def _has_method(model: type, name: str) -> bool:
    found = getattr(model, name, None)
    # A network's own `train` switches its mode; it teaches nothing.
    inherited = str(getattr(found, "__module__", "")).partition(".")[0] == "torch"
    return callable(found) and not inherited


def _from_legacy(legacy: type, context: Context) -> dict[str, Function]:
    """The first wrappers' form. They called the class itself, so its functions may lack `self`."""
    initialise = vars(legacy).get("__init__")
    if isinstance(initialise, FunctionType) and not _Parameters(initialise).names:
        initialise()
        instance: Any = object.__new__(legacy)
    else:
        instance = _instance(legacy, context)
    return {
        name: _once_a_file(_legacy_handler(legacy, instance, handler), name, handler)
        for name, handler in _LEGACY.items()
        if hasattr(legacy, handler)
    }


def _legacy_handler(legacy: type, instance: object, name: str) -> Callable[[bytes], Any]:
    found = getattr(legacy, name)
    lacks_self = isinstance(found, FunctionType) and len(_Parameters(found).names) == 1
    handler: Callable[[bytes], Any] = found if lacks_self else getattr(instance, name)
    return handler


def _once_a_file(handler: Callable[[bytes], Any], name: str, handler_name: str) -> Function:
    def answer(files: list[Any], _context: Context) -> list[Any]:
        from ._vectors import as_list

        return [element for file in files for element in as_list(handler(file.read()), f"`{handler_name}`")]

    def run(files: list[Any], _context: Context) -> list[Any] | None:
        results = [handler(file.read()) for file in files]
        return None if all(result is None for result in results) else results

    return answer if name == "output" else run


def _instance(model: type, context: Context) -> Any:
    initialise: Any = getattr(model, "__init__")
    wanted = initialise is not object.__init__ and _Parameters(initialise).without_first().takes_context(0)
    return model(context) if wanted else model()


def _of_context(owner: Any, name: str) -> ContextFunction | None:
    """A function that is called with the context alone, or with nothing if it takes none; `None` where there is none."""
    function = getattr(owner, name, None)
    if not callable(function):
        return None
    return function if _Parameters(function).takes_context(0) else lambda _context: function()


def _adapted(functions: dict[str, Any]) -> dict[str, Function]:
    """The functions, those that take files only wrapped so that all can be called alike."""
    return {
        name: function if _Parameters(function).takes_context(1) else _without_context(function)
        for name, function in functions.items()
    }


def _without_context(function: Callable[[Any], Any]) -> Function:
    return lambda files, _context: function(files)


class _Parameters:
    """A function's positional parameters."""

    def __init__(self, function: Any) -> None:
        plain = getattr(function, "__func__", function)
        if isinstance(plain, FunctionType) and not hasattr(plain, "__wrapped__"):
            code = plain.__code__
            self.names = list(code.co_varnames[: code.co_argcount])
            self.required = code.co_argcount - len(plain.__defaults__ or ())
            self.any_number = bool(code.co_flags & 0x04)  # CO_VARARGS
            if plain is not function:
                self.without_first()
        else:
            self._by_signature(function)

    def _by_signature(self, function: Any) -> None:
        import inspect  # slow to import, and seldom needed

        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):  # written in C, without a signature
            parameters = []
        positional = [parameter for parameter in parameters if parameter.kind <= parameter.POSITIONAL_OR_KEYWORD]
        self.names = [parameter.name for parameter in positional]
        self.required = sum(parameter.default is parameter.empty for parameter in positional)
        self.any_number = not parameters or any(parameter.kind == parameter.VAR_POSITIONAL for parameter in parameters)

    def without_first(self) -> _Parameters:
        self.names, self.required = self.names[1:], max(0, self.required - 1)
        return self

    def takes_context(self, position: int) -> bool:
        """Whether the context belongs at `position`: where a value is required, or where the name says so."""
        if position < len(self.names):
            return position < self.required or self.names[position] in ("ctx", "context")
        return self.any_number and position > 0
