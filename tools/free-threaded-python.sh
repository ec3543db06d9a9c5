#!/usr/bin/env bash
# Builds a free-threaded CPython, with numpy, into target/tools/free-threaded-python, for `make test-free-threaded`: no Debian has one.
# The source is Debian's own, of the first series named as an argument that its mirror gives; else 3.14, else 3.13.
# Takes about six minutes on two cores; a second run does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly FOLDER="$PWD/target/tools/free-threaded-python"
readonly WORK="$FOLDER.build"
readonly KEYS=/usr/share/keyrings/debian-archive-keyring.gpg

main() {
  local wanted=("$@")
  ((${#wanted[@]})) || wanted=(3.14 3.13)
  [[ ! -e $FOLDER/is-complete ]] || return 0
  tools/setup.sh free-threaded
  rm -rf "$WORK" "$FOLDER"
  fetch_one_of "${wanted[@]}"
  build
  install_numpy
  touch "$FOLDER/is-complete"
  rm -rf "$WORK"
}

# Unpacks the source of the first series that can be had.
fetch_one_of() {
  local series
  for series; do
    echo "free-threaded-python: the source of Python $series, from Debian"
    if fetch "$series"; then
      tar --extract --file "$WORK/python$series"_*.orig.tar.xz --directory "$WORK"
      return
    fi
    echo "free-threaded-python: there is no source of Python $series to be had; the reason is above" >&2
  done
  fail "none of the sources can be had: $*"
}

# Downloads a source package and checks its signature, leaving the machine's own lists of packages alone.
fetch() {
  mkdir -p "$WORK/lists/partial" "$WORK/cache/archives/partial"
  echo "deb-src [signed-by=$KEYS] http://deb.debian.org/debian $(suite_of "$1") main" >"$WORK/sources.list"
  private_apt update --quiet=2 && (cd "$WORK" && private_apt source --quiet=2 --download-only "python$1")
}

# The stable suite, which keeps its sources for years, where it has the series.
suite_of() {
  [[ $1 == 3.13 ]] && echo trixie || echo sid
}

private_apt() {
  apt-get -o Dir::Etc::sourcelist="$WORK/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::State::lists="$WORK/lists" -o Dir::Cache="$WORK/cache" -o APT::Sandbox::User=root "$@"
}

build() {
  local log="$FOLDER.log" source
  source="$(echo "$WORK"/Python-*)"
  echo "free-threaded-python: building ${source##*/}; the log is $log"
  (
    cd "$source"
    ./configure --prefix="$FOLDER" --disable-gil --disable-test-modules
    make --jobs="$(nproc)"
    make install
  ) >"$log" 2>&1 || {
    tail "$log" >&2
    rm -rf "$FOLDER"
    fail "the build failed; the end of its log is above"
  }
}

install_numpy() {
  "$FOLDER/bin/python3" -m pip install --quiet --disable-pip-version-check --only-binary :all: numpy ||
    echo "free-threaded-python: numpy has no wheel for it here; tests that need numpy will be passed over" >&2
}

fail() {
  echo "free-threaded-python: $1" >&2
  exit 1
}

main "$@"
