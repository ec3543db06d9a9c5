#!/bin/sh
# Makes a cluster in a volume that has none, and becomes its server.
set -eu
export PATH="/usr/lib/postgresql/15/bin:$PATH"
cluster=/data/cluster

# Made elsewhere and renamed, so that half a cluster is never taken for one.
if [ ! -e "$cluster" ]; then
  rm -rf "$cluster.new"
  printf '%s\n' "$DATABASE_PASSWORD" >/tmp/password
  initdb --pgdata="$cluster.new" --username=dunnage --pwfile=/tmp/password --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
  rm /tmp/password
  echo 'host all all all scram-sha-256' >>"$cluster.new/pg_hba.conf"
  mv "$cluster.new" "$cluster"
fi
exec postgres -D "$cluster" -c listen_addresses='*' -c unix_socket_directories=/tmp
