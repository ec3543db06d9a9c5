"""Imports the package `dunnage` from the sources inside the extension module, before any copy that is installed."""

import sys
from importlib.machinery import ModuleSpec

PACKAGE = "dunnage"


class Importer:
    """A finder and loader. It keeps the sources, so that tracebacks can show lines of them."""

    def __init__(self, sources):
        self._sources = sources

    def find_spec(self, name, path=None, target=None):
        if name not in self._sources:
            return None
        return ModuleSpec(name, self, origin=self._file_name(name), is_package=name == PACKAGE)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        name = module.__spec__.name
        exec(compile(self._sources[name], self._file_name(name), "exec", dont_inherit=True), module.__dict__)

    def get_source(self, name):
        return self._sources.get(name)

    def is_package(self, name):
        return name == PACKAGE

    def _file_name(self, name):
        tail = name.partition(".")[2] or "__init__"
        return f"<dunnage>/{tail}.py"


def install(sources):
    sys.meta_path.insert(0, Importer(sources))
