#!/usr/bin/env bash
# Builds the module that a free-threaded Python needs, beside the one for all other Pythons, which stays as it is:
# `tools/free-threaded-module.sh release|debug PYTHON`. Before 3.15 each version needs its own; one module serves all from then on.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly TARGET="${CARGO_TARGET_DIR:-target}"

main() {
  local profile="${1:?usage: tools/free-threaded-module.sh release|debug PYTHON}" python version suffix
  local options=(--locked --package dunnage-python --lib)
  python="$(command -v "${2:?usage: tools/free-threaded-module.sh release|debug PYTHON}")" || fail "there is no \`$2\`"
  [[ $python == /* ]] || python="$PWD/$python" # cargo runs it in other folders
  read -r version suffix < <(describe "$python") || fail "\`$2\` is no free-threaded Python; name one: make free-threaded PYTHON=python3.14t"
  case "$version" in
    3.13)
      echo "free-threaded-module: for tests only; CPython and the library pyo3 stand behind free threading from 3.14 on, not in $version" >&2
      export UNSAFE_PYO3_SKIP_VERSION_CHECK=1
      ;;
    3.14) ;;
    *) options+=(--features abi3t) ;;
  esac
  [[ $profile == debug ]] || options+=(--release)
  PYO3_PYTHON="$python" CARGO_TARGET_DIR="$TARGET/free-threaded" cargo build "${options[@]}"
  local built="$TARGET/free-threaded/$profile/libdunnage_python.so"
  load "$python" "$built" || fail "\`$2\` cannot load what was built for it"
  install_as "$TARGET/$profile/libdunnage_python$suffix" "$built"
}

# The version of a free-threaded Python, and how the names of modules end that it loads: of those for any version, where it knows of such.
describe() {
  "$1" - <<'PYTHON'
import sys
from importlib.machinery import EXTENSION_SUFFIXES

if "t" not in sys.abiflags:
    sys.exit(1)
suffix = ".abi3t.so" if ".abi3t.so" in EXTENSION_SUFFIXES else EXTENSION_SUFFIXES[0]
print("%d.%d" % sys.version_info[:2], suffix)
PYTHON
}

# Where pyo3 cannot run a Python it builds for others, and only warns.
load() {
  "$1" - "$2" <<'PYTHON'
import sys
from importlib.machinery import ExtensionFileLoader, ModuleSpec

loader = ExtensionFileLoader("_dunnage", sys.argv[1])
loader.exec_module(loader.create_module(ModuleSpec("_dunnage", loader, origin=sys.argv[1])))
sys.exit(getattr(sys, "_is_gil_enabled", lambda: False)())
PYTHON
}

# In one step, since a worker may be starting.
install_as() {
  mkdir -p "$(dirname "$1")"
  cp "$2" "$1.new"
  mv "$1.new" "$1"
  echo "free-threaded-module: $1"
}

fail() {
  echo "free-threaded-module: $1" >&2
  exit 1
}

main "$@"
