#!/usr/bin/env bash
# Makes a Debian machine with Rust and Python 3 ready to build (`tools/setup.sh build`), to test (`tools/setup.sh test`), for
# the demo with S3 (`tools/setup.sh s3`), to build a free-threaded Python (`tools/setup.sh free-threaded`), for images
# (`tools/setup.sh images`) and the stack of docker/compose.yaml (`tools/setup.sh stack`), to compare with other clients of S3
# (`tools/setup.sh bench-s3`), to compare with other servers and job queues (`tools/setup.sh bench`), or to simulate fleets
# (`tools/setup.sh scaling`).
# Installs only what is missing and says what and why, so a second run does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

main() {
  case "${1:-}" in
    build) ready_to_build ;;
    test) ready_to_build; ready_to_test ;;
    s3) ready_to_build; ready_to_test; install_garage ;;
    free-threaded) ready_to_build; ready_to_build_python ;;
    images) ready_to_build; ready_for_images ;;
    stack) ready_to_build; ready_for_images; DUNNAGE_GARAGE='' install_garage ;;
    bench-s3) ready_to_build; ready_to_compare_s3 ;;
    bench) ready_to_build; ready_to_compare ;;
    scaling) ready_to_simulate ;;
    *) fail "usage: tools/setup.sh build|test|s3|free-threaded|images|stack|bench-s3|bench|scaling" ;;
  esac
}

ready_to_build() {
  command -v cargo >/dev/null || fail "cargo is not on the PATH; install Rust 1.95 or newer, for example with rustup"
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "python3 must be Python 3.10 or newer"
  need_package gcc "compiles and links the C code of SQLite and LuaJIT"
  need_package make "builds LuaJIT"
  need_package libc6-dev "has the C library's headers"
  install_missing
}

ready_to_test() {
  need_package python3-venv "makes the .venv with the tests' Python packages"
  need_package lua-cjson "is the C module that the Lua runtime's tests load"
  need_package valgrind "counts instructions for \`make guard\`"
  install_missing
  install_servers
  need_rust_component rustfmt
  need_rust_component clippy
  make_venv
}

# What the standard library of Python is compiled with.
ready_to_build_python() {
  need_package debian-archive-keyring "has the keys that Debian's source packages are signed with"
  need_package xz-utils "unpacks Python's source"
  need_package libssl-dev "is what Python's ssl is compiled with, and pip needs that"
  need_package zlib1g-dev "is what Python's zlib is compiled with, and pip needs that"
  need_package libffi-dev "is what Python's ctypes is compiled with, which numpy imports"
  install_missing
}

missing=()

# Elsewhere than on Debian everything counts as installed.
is_installed() {
  ! command -v dpkg-query >/dev/null || [[ "$(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null)" == installed ]]
}

# Notes a Debian package to install, and why.
need_package() {
  if ! is_installed "$1"; then
    echo "setup: $1 is missing, which $2"
    missing+=("$1")
  fi
}

install_missing() {
  ((${#missing[@]})) || return 0
  echo "setup: apt-get install ${missing[*]}"
  as_root apt-get update --quiet=2
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}"
  missing=()
}

as_root() {
  if ((EUID)); then
    command -v sudo >/dev/null || fail "run as root: $*"
    sudo "$@"
  else
    "$@"
  fi
}

# The programs of servers that the tests start themselves. What Debian makes of these packages otherwise, a cluster and services
# of the machine's own, is neither made nor started.
install_servers() {
  if ! is_installed postgresql; then
    need_package postgresql-common "makes a database cluster with the package postgresql, unless it is told not to"
    without_services install_missing
    as_root sed --in-place 's/^#*create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
    need_package postgresql "has the database server that the tests start"
    without_services install_missing
  fi
  if ! is_installed pgbouncer; then
    need_package pgbouncer "is the connection pooler that the tests start in front of it"
    without_services install_missing
    ! command -v systemctl >/dev/null || as_root systemctl --quiet disable pgbouncer
  fi
}

# Runs a command during which the packages that are installed may start no services. A rule on that which the machine has
# already stays as it is.
without_services() {
  local policy=/usr/sbin/policy-rc.d
  if ((${#missing[@]} == 0)) || [[ -e $policy ]]; then
    "$@"
    return
  fi
  trap "as_root rm -f $policy" EXIT
  printf '#!/bin/sh\nexit 101\n' | as_root install --mode=755 /dev/stdin "$policy"
  "$@"
  as_root rm -f "$policy"
  trap - EXIT
}

# Where nobody has said which garage there is. Without optimization, which would take far longer to build.
install_garage() {
  local version=2.5.0 tools=target/tools
  [[ -z "${DUNNAGE_GARAGE:-}" ]] || return 0
  [[ "$("$tools/bin/garage" --version 2>/dev/null)" != *"$version"* ]] || return 0
  echo "setup: cargo install garage $version, an S3 server, into $tools; this takes about six minutes on two cores"
  CARGO_TARGET_DIR="$tools/build" cargo install garage --version "$version" --locked --debug --quiet --root "$tools"
  strip "$tools/bin/garage"
  rm -rf "$tools/build"
}

# Where no engine answers and none can be started. Other engines than Debian's bring what they need themselves.
ready_for_images() {
  ! docker version >/dev/null 2>&1 || return 0
  need_package docker.io "has the engine that builds and runs images"
  need_package iptables "is how the engine's network is set up, and taken down again"
  need_package iproute2 "takes the engine's bridge away"
  need_package debootstrap "makes the base of all images"
  need_package docker-compose "starts the stack of docker/compose.yaml"
  without_services install_missing
}

need_rust_component() {
  local subcommand="${1/rustfmt/fmt}"
  if ! cargo "$subcommand" --version >/dev/null 2>&1; then
    echo "setup: rustup component add $1, which \`cargo $subcommand\` needs"
    rustup component add "$1"
  fi
}

# Makes .venv anew whenever the pinned packages have changed; a copy of their list in it says for which it was made.
make_venv() {
  cmp --silent tools/requirements-test.txt .venv/requirements-test.txt && return
  echo "setup: .venv with the packages of tools/requirements-test.txt, which the Python tests use"
  rm -rf .venv
  python3 -m venv .venv
  .venv/bin/pip install --quiet --disable-pip-version-check --requirement tools/requirements-test.txt
  cp tools/requirements-test.txt .venv/requirements-test.txt
}

# The public clients of S3 that downloads are compared with.
ready_to_compare_s3() {
  need_package rclone "is one of the clients of S3 that downloads are compared with"
  install_missing
  make_bench_venv s3 python3
}

# No more than what draws plots.
ready_to_simulate() {
  need_package python3-venv "makes the virtualenv with what draws plots"
  install_missing
  make_bench_venv harness python3
}

# The other servers and job queues, each in a virtualenv of its own. One that cannot be installed is left out, and said so.
ready_to_compare() {
  need_package wrk "puts the servers under load"
  need_package apache2-utils "has ab, which sends a fixed number of jobs"
  need_package luajit "is what loops in Lua scripts are compared with"
  install_missing
  install_servers
  make_bench_venv harness python3
  local peer
  for peer in mosec robyn granian fastapi litserve bentoml mlserver pgqueuer; do
    make_bench_venv "$peer" python3 || echo "setup: $peer cannot be installed here; it is left out"
  done
  # It brings its own standard library, which has to fit the interpreter: the distribution's does.
  make_bench_venv triton /usr/bin/python3 || echo "setup: triton cannot be installed here; it is left out"
}

# Makes .venv-bench/NAME with an interpreter, anew whenever its pinned packages have changed.
make_bench_venv() {
  local name="$1" python="$2" list="bench/requirements/$1.txt" venv=".venv-bench/$1"
  cmp --silent "$list" "$venv/requirements.txt" && return
  echo "setup: $venv with the packages of $list"
  rm -rf "$venv"
  "$python" -m venv "$venv" &&
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$list" &&
    cp "$list" "$venv/requirements.txt"
}

fail() {
  echo "setup: $1" >&2
  exit 1
}

main "$@"
