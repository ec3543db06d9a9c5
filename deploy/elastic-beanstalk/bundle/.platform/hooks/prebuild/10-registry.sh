#!/bin/bash
# Lets Docker pull the image from the account's registry, with the role of the instance.
set -euo pipefail

setting() {
  /opt/elasticbeanstalk/bin/get-config environment --key "$1"
}

image="$(setting MODEL_IMAGE)"
aws ecr get-login-password --region "$(setting MODEL_REGION)" | docker login --username AWS --password-stdin "${image%%/*}"
