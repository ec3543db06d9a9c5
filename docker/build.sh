#!/usr/bin/env bash
# Builds images from the programs in target/PROFILE: `docker/build.sh release python lua full`.
# Needs an engine (tools/with-engine.sh). On one that has no Debian yet, Debian is made from its packages instead of being pulled.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly BASE=debian:bookworm-slim
readonly ROOT=target/images/bookworm.tar

main() {
  local profile="${1:?usage: docker/build.sh release|debug TARGET…}" target
  shift
  have_base
  for target; do
    echo "images: dunnage:$target"
    build "$target" "$profile"
  done
}

build() {
  local version revision
  version="$(sed --quiet 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)"
  revision="$(git rev-parse HEAD)"
  docker build --quiet --file docker/Dockerfile --target "$1" --tag "dunnage:$1" \
    --build-arg BINARIES=prebuilt --build-arg "PREBUILT=target/$2" \
    --build-arg "VERSION=$version" --build-arg "REVISION=$revision" . >/dev/null
}

have_base() {
  ! docker image inspect "$BASE" >/dev/null 2>&1 || return 0
  [[ -e "$ROOT" ]] || make_root
  docker import --change 'CMD ["bash"]' "$ROOT" "$BASE" >/dev/null
}

# What the image of that name has: the smallest Debian, without lists of packages, documentation and translations.
make_root() {
  local folder="$ROOT.new"
  echo "images: $ROOT, the base of all images, by debootstrap; this takes a minute or two"
  rm -rf "$folder"
  mkdir -p "$(dirname "$ROOT")"
  debootstrap --variant=minbase bookworm "$folder" >"$ROOT.log" || {
    tail "$ROOT.log" "$folder/debootstrap/debootstrap.log" >&2
    exit 1
  }
  cat >>"$folder/etc/apt/sources.list" <<'LIST'
deb http://deb.debian.org/debian bookworm-updates main
deb http://deb.debian.org/debian-security bookworm-security main
LIST
  rm -rf "$folder"/var/{cache/apt,lib/apt/lists}/* "$folder"/var/log/*.log "$folder"/usr/share/{man,info,locale}/*
  find "$folder/usr/share/doc" -type f ! -name copyright -delete
  tar --create --directory "$folder" --file "$ROOT.part" .
  mv "$ROOT.part" "$ROOT"
  rm -rf "$folder"
}

main "$@"
