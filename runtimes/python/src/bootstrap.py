# Run by the interpreter that the launcher chose, as `python -c`, with the path of the extension module as its argument.
# Up to the check, this has to be understood by every Python there ever was.
import sys

if sys.path[:1] == [""]:
    del sys.path[0]  # the working directory, in which anything may lie; the script's folder takes its place
here = "%s (%s)" % (sys.executable, sys.version.split()[0])
if sys.version_info < (3, 10):
    sys.exit("dunnage-python: Python 3.10 or later is needed, but this is " + here)
if sys.implementation.name != "cpython":
    sys.exit("dunnage-python: CPython is needed, but this is " + sys.implementation.name + ", " + here)

import os
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec


def of_free_threaded(path):
    """The module's build for an interpreter without a global lock: beside the one for all others, named as that interpreter says."""
    stem = path.rpartition(".")[0]
    # Some list `.abi3` as well, though no such module fits them.
    wanted = [stem + suffix for suffix in EXTENSION_SUFFIXES if suffix.startswith((".cpython-", ".abi3t"))]
    found = [file for file in wanted if os.path.isfile(file)]
    if not found:
        sys.exit(
            "dunnage-python: there is no module for %s, which is a free-threaded Python and needs one of its own: `%s`; "
            "make it in Dunnage's sources with `make free-threaded PYTHON=%s`" % (here, "` or `".join(wanted), sys.executable)
        )
    return found[0]


path = of_free_threaded(sys.argv[1]) if "t" in sys.abiflags else sys.argv[1]
loader = ExtensionFileLoader("_dunnage", path)
module = loader.create_module(ModuleSpec("_dunnage", loader, origin=path))
loader.exec_module(module)
sys.modules["_dunnage"] = module
module.serve()
