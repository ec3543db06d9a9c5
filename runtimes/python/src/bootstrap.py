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
if "t" in sys.abiflags:
    sys.exit("dunnage-python: a CPython with its global lock is needed, but this is a free-threaded one, " + here)

from importlib.machinery import ExtensionFileLoader, ModuleSpec

loader = ExtensionFileLoader("_dunnage", sys.argv[1])
module = loader.create_module(ModuleSpec("_dunnage", loader, origin=sys.argv[1]))
loader.exec_module(module)
sys.modules["_dunnage"] = module
module.serve()
