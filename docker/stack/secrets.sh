#!/bin/sh
# Prints new secrets for the stack, as an environment file: docker/stack/secrets.sh >docker/.env
set -eu

random() {
  od --address-radix=n --format=x1 --read-bytes="$1" /dev/urandom | tr -d ' \n'
}

echo "DATABASE_PASSWORD=$(random 24)"
echo "OBJECTS_KEY_ID=GK$(random 12)"
echo "OBJECTS_SECRET=$(random 32)"
