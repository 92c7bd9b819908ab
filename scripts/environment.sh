# Where the self-contained environment lies and what a command in it needs; sourced by the other scripts.
# shellcheck shell=bash

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${QDTRACK_VENV:-$ROOT/.venv}"
[[ "$VENV" == /* ]] || VENV="$ROOT/$VENV"

# A sourced ROS install would put its own rclpy and libraries before those of the environment.
if [[ -n "${ROS_DISTRO:-}${AMENT_PREFIX_PATH:-}${COLCON_PREFIX_PATH:-}" ]]; then
  unset ROS_DISTRO ROS_VERSION ROS_PYTHON_VERSION COLCON_PREFIX_PATH CMAKE_PREFIX_PATH PYTHONPATH LD_LIBRARY_PATH
fi
unset PYTHONHOME

export AMENT_PREFIX_PATH="$VENV" PATH="$VENV/bin:$PATH" PYTHONNOUSERSITE=1
export RMW_IMPLEMENTATION=rmw_fastrtps_cpp
# Without it, Fast DDS loses most large images between processes (the file says why).
export FASTDDS_DEFAULT_PROFILES_FILE="${FASTDDS_DEFAULT_PROFILES_FILE:-$ROOT/config/fastdds_profile.xml}"
