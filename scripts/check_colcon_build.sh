#!/usr/bin/env bash
# Check that colcon builds and installs the package as in a ROS workspace: plain, a second time, and with
# --symlink-install. Runs in the environment of `make setup` (see `make colcon`); vision_msgs, which has no wheel, is
# built beside. Needs a few minutes: the messages are built for every language and middleware.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

workspace="$(mktemp -d)"
trap 'rm -rf "$workspace"' EXIT

fail() {
  echo "colcon check: error: $*" >&2
  exit 1
}

build() { # source, folder to install into, more arguments for colcon
  local source="$1" base="$2"
  shift 2
  echo "colcon check: building $source into $base/ ${*:-}"
  (
    cd "$workspace"
    colcon --log-base log build --base-paths "$source" --build-base "build-$base" --install-base "$base" "$@" \
      --cmake-args -G Ninja -DPython3_EXECUTABLE="$(command -v python3)" >"$base.log" 2>&1
  ) || {
    tail -n 40 "$workspace/$base.log" >&2
    fail "colcon build failed"
  }
}

check() { # folder installed into
  local prefix="$workspace/$1/qdtrack_ros" file
  echo "colcon check: looking at $1/"
  for file in lib/qdtrack_ros/tracker_node share/qdtrack_ros/{package.xml,msg/Track.msg,config/tracker_node.yaml} \
    share/qdtrack_ros/{config/presets/pedestrian.yaml,launch/qdtrack.launch.py} \
    share/ament_index/resource_index/packages/qdtrack_ros; do
    [[ -e "$prefix/$file" ]] || fail "$file is not installed"
  done
  [[ -x "$prefix/lib/qdtrack_ros/tracker_node" ]] || fail "tracker_node is not executable"
  [[ "$(ls "$workspace/src/weights")" == "$(ls "$prefix/share/qdtrack_ros/weights")" ]] || fail "weights are missing"
  [[ ! -e "$prefix/share/qdtrack_ros/docs" ]] || fail "docs are installed"
  (
    cd /
    set +u
    # shellcheck source=/dev/null
    source "$workspace/$1/local_setup.bash"
    python3 - "$prefix" <<'PYTHON' || fail "the installed package does not work"
import sys

from ament_index_python.packages import get_package_share_directory
from rclpy.serialization import deserialize_message, serialize_message

import qdtrack_ros
import qdtrack_ros.msg
import qdtrack_ros.tracking

message = qdtrack_ros.msg.TrackArray(tracks=[qdtrack_ros.msg.Track(track_id=7)])
assert deserialize_message(serialize_message(message), type(message)) == message
for path in (qdtrack_ros.__file__, qdtrack_ros.msg.__file__, get_package_share_directory("qdtrack_ros")):
    assert path.startswith(sys.argv[1]), f"{path} is not below {sys.argv[1]}"
PYTHON
    # It refuses an argument that it does not know, by name: so it starts and reads its arguments.
    said="$("$prefix/lib/qdtrack_ros/tracker_node" --planted 2>&1 || true)"
    [[ "$said" == *--planted* ]] || fail "tracker_node does not start: $said"
  )
}

# What a user clones: all but what git ignores.
mkdir "$workspace/src"
git ls-files -z --cached --others --exclude-standard | xargs -0 -I{} sh -c '[ ! -e "$1" ] || printf "%s\0" "$1"' _ {} |
  tar --null -T - -c | tar -x -C "$workspace/src"

build src/interfaces/vision_msgs underlay
set +u
# shellcheck source=/dev/null
source "$workspace/underlay/local_setup.bash"
set -u
for arguments in "src install" "src install" "src linked --symlink-install" "src linked --symlink-install"; do
  read -ra words <<<"$arguments"
  build "${words[@]}"
  check "${words[1]}"
done
echo "colcon check: all is well"
