#!/usr/bin/env bash
# Prints the path of a free-threaded Python to test on: the one that DUNNAGE_TEST_FREE_THREADED_PYTHON names, whatever it is; else the
# newest on PATH; else FILE: `tools/free-threaded-find.sh FILE`. Prints nothing if there is none.
set -euo pipefail

main() {
  if [[ -n ${DUNNAGE_TEST_FREE_THREADED_PYTHON:-} ]]; then
    path_of "$DUNNAGE_TEST_FREE_THREADED_PYTHON" || echo "$DUNNAGE_TEST_FREE_THREADED_PYTHON"
    return
  fi
  local name
  for name in python3.15t python3.14t python3.13t "$1"; do
    if is_free_threaded "$name"; then
      path_of "$name"
      return
    fi
  done
}

# pyenv has programs on PATH for versions that are not chosen; they only say so.
is_free_threaded() {
  "$1" -c 'import sys; sys.exit("t" not in sys.abiflags)' >/dev/null 2>&1
}

path_of() {
  local path
  path="$(command -v "$1")" && realpath --no-symlinks "$path"
}

main "$@"
