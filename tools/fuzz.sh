#!/usr/bin/env bash
# Feeds the targets of `fuzz/` for `FUZZ_SECONDS` each (60 by default): all of them, or those that are named. Fails on the first
# input that is not taken well, leaves it in `fuzz/artifacts`, and says how to repeat it.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds="${FUZZ_SECONDS:-60}"

main() {
  command -v cargo-fuzz >/dev/null || install_cargo_fuzz
  choose_compiler
  local targets=("$@") target
  ((${#targets[@]})) || mapfile -t targets < <(basename --suffix=.rs --multiple fuzz/fuzz_targets/*.rs)
  for target in "${targets[@]}"; do
    echo "fuzz: $target, $seconds s"
    feed "$target" || found "$target"
  done
}

install_cargo_fuzz() {
  echo "fuzz: cargo install cargo-fuzz, which builds and runs the targets"
  cargo install cargo-fuzz --locked --quiet
}

# What the fuzzer needs of the compiler is not in its stable form, unless it is told that it is not stable.
choose_compiler() {
  if rustup run nightly rustc --version >/dev/null 2>&1; then
    cargo=(cargo +nightly)
    echo "fuzz: with the nightly compiler"
  else
    cargo=(cargo)
    export RUSTC_BOOTSTRAP=1
    echo "fuzz: with the stable compiler and RUSTC_BOOTSTRAP=1, as there is no nightly one"
  fi
}

# New inputs that reach further go to `fuzz/found`, and are where the next run begins, besides those that are kept in `fuzz/corpus`.
feed() {
  mkdir -p "fuzz/found/$1"
  repeat "$1" "fuzz/found/$1" "fuzz/corpus/$1" -- -max_total_time="$seconds" -dict="fuzz/dictionaries/$1" \
    -max_len=65536 -timeout=5 -rss_limit_mb=1024 -verbosity=0 -print_final_stats=1
}

# No sanitizer: what is fed has no unsafe code, and runs faster without one.
repeat() {
  "${cargo[@]}" fuzz run --dev --sanitizer none "$@"
}

found() {
  local input
  input="$(find "fuzz/artifacts/$1" -type f -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -n 1 | cut -d ' ' -f 2-)"
  echo "fuzz: \`$1\` failed; its input is \`${input:-missing}\`" >&2
  echo "fuzz: repeat it with \`${cargo[*]} fuzz run --dev --sanitizer none $1 $input\`; once it is mended, move it to \`fuzz/corpus/$1\`" >&2
  exit 1
}

main "$@"
