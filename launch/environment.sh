# shellcheck shell=bash disable=SC2034
# Sourced by the launchers (bash 3.2 and later). `use_environment local|test|peers|lens4` sets PYTHON and exports what it needs:
#
#   1. INTERP_JAX_PYTHON, where it is set, is used as it is, and nothing is installed.
#   2. Else a finished environment under .environments/, found without starting any Python.
#   3. Else one is made there, with the newest Python on PATH that is able to.
#
# An environment's name says who it is for, the accelerator, and a checksum of its requirements files, the kind of machine and
# INTERP_JAX_BASE_PYTHON (which replaces the search on PATH). The file `complete`, written last, makes it count and holds the
# version of JAX; makers hold a kernel lock, which dies with them. So a half-made environment is made again, and first starts
# at the same time share one. A newer Python is taken up when the requirements change, or the directory is deleted.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 2
ENVIRONMENTS=$ROOT/.environments

use_environment() {
  local needs=jax requirements=requirements.txt accelerator environment
  case $1 in
    test) needs+=' pytest xdist ruff importlinter' requirements+=' requirements-dev.txt' ;;
    peers)
      needs+=' pytest xdist torch transformers'
      requirements+=' requirements-dev.txt third_party/peers/requirements.txt third_party/peers/requirements-alone.txt'
      ;;
    lens4) needs+=' torch transformer_lens' requirements+=' third_party/peers/requirements-lens4.txt' ;;
  esac
  if [ -n "${INTERP_JAX_PYTHON:-}" ]; then
    use_given_python "$needs" "$requirements"
  else
    accelerator=$(find_accelerator) || exit 2
    environment=$(environment_path "$1" "$accelerator" "$requirements") || exit 2
    is_complete "$environment" || (make_environment "$environment" "$accelerator" "$requirements") || exit $?
    PYTHON=$environment/bin/python
    JAX_VERSION=$(cat "$environment/complete")
  fi
  export_settings
}

say() { printf 'interp_jax: %s\n' "$*" >&2; }

refuse() {
  say "$@"
  exit 2
}

export_settings() {
  local processor
  processor=$({
    grep -m 4 -E '^(model name|flags|Features|CPU part)' /proc/cpuinfo || sysctl -n machdep.cpu.brand_string
    cat /proc/driver/nvidia/version
  } 2>/dev/null | cksum)
  export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
  # Compiled programs are kept between starts, apart for each kind of processor and driver: a home may be shared between
  # machines. So what a launcher chose where a job was submitted is chosen again where it runs; what a person chose is not.
  if [ "${JAX_COMPILATION_CACHE_DIR:-}" = "${INTERP_JAX_CACHE:-}" ]; then
    INTERP_JAX_CACHE="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/interp_jax/xla-$JAX_VERSION-${processor%% *}"
    export INTERP_JAX_CACHE JAX_COMPILATION_CACHE_DIR="$INTERP_JAX_CACHE"
  fi
  export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="${JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS:-0}"
  export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"
}

# --- 1. an environment that exists already

use_given_python() { # NEEDS REQUIREMENTS
  local python answer check
  check='import importlib.metadata as m, importlib.util as u, sys
missing = [name for name in sys.argv[1].split() if u.find_spec(name) is None]
print("lacks " + ", ".join(missing) if missing else "jax " + m.version("jax"))'
  python=$(command -v "$INTERP_JAX_PYTHON") || refuse "INTERP_JAX_PYTHON=$INTERP_JAX_PYTHON is no program that can be run"
  case $python in /*) ;; *) python=$PWD/$python ;; esac
  answer=$("$python" -c "$check" "$1" 2>/dev/null </dev/null) || answer=
  case $answer in
    'jax 0.'[0-9] | 'jax 0.'[0-9].*) refuse "INTERP_JAX_PYTHON=$python has $answer: jax 0.10 or later is needed" ;;
    'jax '*) PYTHON=$python JAX_VERSION=${answer#jax } ;;
    'lacks '*) refuse "INTERP_JAX_PYTHON=$python $answer: it has to hold what is listed in ${2// /, }" ;;
    *) refuse "INTERP_JAX_PYTHON=$python does not run: give the path of a Python that has jax" ;;
  esac
}

# --- 2. a finished environment

environment_path() { # NAME ACCELERATOR REQUIREMENTS
  local sum
  # shellcheck disable=SC2086  # a list of file names without spaces
  sum=$(cd "$ROOT" && { cat $3 && uname -sm && echo "${INTERP_JAX_BASE_PYTHON:-}"; } | cksum)
  echo "$ENVIRONMENTS/$1-$2-${sum%% *}"
}

is_complete() { [ -f "$1/complete" ] && [ -x "$1/bin/python" ]; }

# The build of JAX for this machine; INTERP_JAX_ACCELERATOR overrides (on a login node, say).
find_accelerator() {
  local driver
  case ${INTERP_JAX_ACCELERATOR:-} in
    '') ;;
    cpu | cuda12 | cuda13 | tpu) echo "$INTERP_JAX_ACCELERATOR" && return ;;
    *) refuse "INTERP_JAX_ACCELERATOR=$INTERP_JAX_ACCELERATOR is unknown: it can be cpu, cuda12, cuda13 or tpu" ;;
  esac
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null) || driver=
  case ${driver%%.*} in
    5[89][0-9] | [6-9][0-9][0-9]) echo cuda13 ;; # driver 580 is the first for CUDA 13
    [1-9]*) echo cuda12 ;;
    *) if has_tpu; then echo tpu; else echo cpu; fi ;;
  esac
}

# Whether one of Google's PCI devices is a TPU: its network cards carry the same vendor number.
has_tpu() {
  local vendor
  # shellcheck disable=SC2013  # a path of /sys has no spaces
  for vendor in $(grep -ls 0x1ae0 /sys/bus/pci/devices/*/vendor); do
    case $(cat "${vendor%vendor}device") in 0x0027 | 0x0056 | 0x005e | 0x006[23f] | 0x0076) return 0 ;; esac
  done
  return 1
}

# --- 3. a new environment

make_environment() { # ENVIRONMENT ACCELERATOR REQUIREMENTS; in a subshell, whose end gives the lock back
  local log=$1.log tab=$'\t' newline=$'\n' candidates newest minor python
  trap 'exit 130' INT
  { mkdir -p "$ENVIRONMENTS" && true >>"$1.lock"; } 2>/dev/null ||
    refuse "cannot write to $ENVIRONMENTS: make it writable, or set INTERP_JAX_PYTHON to a Python that has jax"
  candidates=$(working_pythons)
  [ -n "$candidates" ] || refuse "no working Python 3.11, 3.12 or 3.13 ${INTERP_JAX_BASE_PYTHON:-on PATH}:" \
    "install one, with venv and pip (apt install python3-venv, brew install python@3.13, or from python.org)"
  newest=${candidates%%"$newline"*}
  exec 9>>"$1.lock"
  wait_for_lock "${newest#*"$tab"}"
  is_complete "$1" && return
  while IFS=$tab read -r minor python; do
    rm -rf "$1"
    { "$python" -m venv "$1" && "$1/bin/python" -m pip --version; } >"$log" 2>&1 </dev/null || continue
    say "first use: making an environment with Python 3.$minor ($python), JAX for $2; 1 to 5 minutes"
    install_packages "$@" && say "environment ready after $SECONDS s" && return
    rm -rf "$1"
    refuse "pip could not install the packages (is there a network?); what it said is in $log"
  done <<<"$candidates"
  refuse "no Python 3.11, 3.12 or 3.13 here can make an environment with pip ($log says why):" \
    "install one with venv and pip (apt install python3-venv, brew install python@3.13, or from python.org)"
}

# Lines "minor version, tab, path" of the Pythons that run and are 64-bit CPython 3.11 to 3.13: newest first, else as on PATH.
working_pythons() {
  local python check='import os, sys
if sys.implementation.name == "cpython" and (3, 11) <= sys.version_info[:2] <= (3, 13) and sys.maxsize > 2**32:
    print(sys.version_info[1], sys.executable, os.path.realpath(sys.executable), sep="\t")'
  candidate_paths | while IFS= read -r python; do
    "$python" -c "$check" 2>/dev/null </dev/null
  done | sort -s -rn -k 1,1 | awk -F '\t' '!seen[$3]++ { print $1 "\t" $2 }'
}

candidate_paths() {
  local IFS=: directory name
  [ -n "${INTERP_JAX_BASE_PYTHON:-}" ] && echo "$INTERP_JAX_BASE_PYTHON" && return
  for directory in $PATH; do
    for name in python3.13 python3.12 python3.11 python3; do
      [ -x "$directory/$name" ] && echo "$directory/$name"
    done
  done
}

wait_for_lock() { # PYTHON; locks descriptor 9, which stays ours until the subshell ends. A file system may know no locks.
  "$1" -c 'import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("interp_jax: another start is making the environment; waiting for it", file=sys.stderr)
    fcntl.flock(9, fcntl.LOCK_EX)
except OSError:
    pass' >/dev/null
}

install_packages() { # ENVIRONMENT ACCELERATOR REQUIREMENTS; what *-alone.txt lists comes without what it asks for
  local packages=() alone=() file
  set -o pipefail
  for file in $3; do
    case $file in
      *-alone.txt) alone+=(-r "$ROOT/$file") ;;
      *) packages+=(-r "$ROOT/$file") ;;
    esac
  done
  [ "$2" = cpu ] || packages+=("jax[$2]")
  run_pip "$1" "${packages[@]}" || return 1
  [ -z "${alone[*]:-}" ] || run_pip "$1" --no-deps "${alone[@]}" || return 1
  "$1/bin/python" -c 'import importlib.metadata as m; print(m.version("jax"))' >"$1/jax_version" && mv "$1/jax_version" "$1/complete"
}

run_pip() { # ENVIRONMENT ARGUMENTS...
  PIP_USER=0 "$1/bin/python" -u -m pip --disable-pip-version-check install "${@:2}" 2>&1 </dev/null | tee -a "$1.log" | show_progress
}

# pip's latest line, in place, where a person is watching.
show_progress() {
  local line
  while IFS= read -r line; do
    [ ! -t 2 ] || printf '\r\033[K%.78s' "$line" >&2
  done
  [ ! -t 2 ] || printf '\r\033[K' >&2
}
