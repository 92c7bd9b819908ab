#!/usr/bin/env bash
# Run a command in the self-contained environment: scripts/run.sh qdtrack doctor
#
# Its ROS graph is its own: this machine only, and a domain picked at random unless ROS_DOMAIN_ID is set, so that tests
# and demos of two people on one network or one machine never meet.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"
export ROS_DOMAIN_ID="${ROS_DOMAIN_ID:-$((RANDOM % 100 + 1))}"
exec "$@"
