#!/usr/bin/env bash
# Runs a command with a Docker engine: the machine's own where that answers, and otherwise Debian's, which is started for the
# command, keeps all it has in a folder that goes with it, and leaves the machine's network as it was. `docker` is then Debian's,
# too, for others may want plugins to build with.
# Exits with 69 and says why where no engine can be started.
set -euo pipefail

# How long an engine may take to answer.
readonly START_SECS=60
readonly UNAVAILABLE=69

main() {
  (($#)) || fail "usage: tools/with-engine.sh COMMAND…"
  export DOCKER_BUILDKIT=1
  if docker version >/dev/null 2>&1; then
    exec "$@"
  fi
  can_start
  # There can be one such engine at a time, for the bridge and the rules have fixed names.
  exec {lock}>/var/lock/dunnage-engine
  flock "$lock"
  # Short, since the path of a socket has less than 108 bytes.
  engine="$(mktemp --directory /var/tmp/dunnage-engine.XXXX)"
  remember_network
  trap clean_up EXIT
  trap 'exit 130' INT TERM
  start
  "$@" {lock}>&-
}

can_start() {
  ((EUID == 0)) || unavailable "no engine answers, and only root can start one"
  local program
  for program in /usr/sbin/dockerd /usr/bin/docker iptables ip; do
    command -v "$program" >/dev/null ||
      unavailable "no engine answers, and \`$program\` is missing to start one; install it by \`tools/setup.sh images\`"
  done
}

start() {
  mkdir "$engine/bin"
  ln -s /usr/bin/docker "$engine/bin/docker"
  export PATH="$engine/bin:$PATH" DOCKER_HOST="unix://$engine/socket"
  echo "engine: starting Debian's docker in $engine"
  /usr/sbin/dockerd --data-root "$engine/data" --exec-root "$engine/exec" --pidfile "$engine/pid" --host "$DOCKER_HOST" \
    >"$engine/log" 2>&1 {lock}>&- &
  dockerd=$!
  local deadline=$((SECONDS + START_SECS))
  until docker version >/dev/null 2>&1; do
    if ((SECONDS > deadline)) || ! kill -0 "$dockerd" 2>/dev/null; then
      tail -n 5 "$engine/log" >&2
      unavailable "Debian's engine does not start; the end of its log is above"
    fi
    sleep 0.2
  done
}

remember_network() {
  forwarding="$(cat /proc/sys/net/ipv4/ip_forward)"
  policy="$(iptables --list-rules FORWARD | sed --quiet 's/^-P FORWARD //p')"
}

clean_up() {
  local code=$?
  trap - EXIT
  if [[ -n "${dockerd:-}" ]] && kill -0 "$dockerd" 2>/dev/null; then
    docker ps --all --quiet | xargs --no-run-if-empty docker rm --force --volumes >/dev/null
    docker network prune --force >/dev/null
    kill "$dockerd"
    wait "$dockerd" || echo "engine: it ended with $?" >&2
  fi
  restore_network
  rm --recursive --force "$engine"
  exit "$code"
}

# The engine sets a policy, adds rules and chains, and makes a bridge; it takes none of them away.
restore_network() {
  iptables-save | grep --invert-match --ignore-case docker | iptables-restore
  iptables --policy FORWARD "$policy"
  echo "$forwarding" >/proc/sys/net/ipv4/ip_forward
  ! ip link show docker0 >/dev/null 2>&1 || ip link delete docker0
}

unavailable() {
  echo "engine: $1" >&2
  exit "$UNAVAILABLE"
}

fail() {
  echo "$1" >&2
  exit 2
}

main "$@"
# Bash reads on in a file that was changed meanwhile, but not behind this.
exit
