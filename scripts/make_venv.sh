#!/usr/bin/env bash
# Makes .venv with exactly the packages of requirements.lock; with --dev also requirements-dev.lock.
# Usage: scripts/make_venv.sh [--dev]          PYTHON=/path/to/python3 chooses the interpreter.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "${ROOT}"

readonly VENV=.venv
# Modules of HPC sites set these; each of them makes pip install to, or import from, somewhere else.
unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_ROOT PIP_REQUIREMENT PIP_CONSTRAINT
export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
# In a shell where .venv is active, python3 is the very one that is to be replaced.
PATH="${PATH//"${ROOT}/${VENV}/bin:"/}"

main() {
  local locks=(requirements.lock)
  case "${1:-}" in
    '') ;;
    --dev) locks+=(requirements-dev.lock) ;;
    *) die "make_venv.sh: unknown argument '$1'; the only one is --dev." ;;
  esac
  if ready "${locks[@]}"; then return; fi
  lock .tools/venv.lock
  ready requirements.lock || create
  local file
  for file in "${locks[@]}"; do
    ready "${file}" || install "${file}"
  done
}

# ready LOCK...: true where .venv works and holds what these lock files say. The stamp names the folder
# because a copied environment still points to its old place.
ready() {
  local file
  for file in "$@"; do
    [[ "$(cat "$(stamp_file "${file}")" 2>/dev/null)" == "$(stamp "${file}")" ]] || return 1
  done
  # The system's Python may have been removed or replaced since.
  "${VENV}/bin/python" -c 'import rich' 2>/dev/null
}

stamp_file() { echo "${VENV}/.ready-$1"; }

stamp() { echo "$(cksum <"$1") ${ROOT}"; }

create() {
  local python
  python="$(find_python)" || {
    if [[ -n ${PYTHON:-} ]] || ! can_apt; then die "$(why_no_python)"; fi
    apt_install python3-venv || die 'Python is missing: apt-get could not install python3-venv (see above).'
    python="$(find_python)" || die "$(why_no_python)"
  }
  echo "Making ${VENV} with ${python} ($("${python}" --version 2>&1)) ..."
  rm -rf "${VENV}"
  "${python}" -m venv "${VENV}" ||
    die "Python environment: '${python} -m venv ${VENV}' failed (see above): choose another Python with PYTHON=/path/to/python3."
}

# install LOCK: the stamp comes last, so an interrupted installation is never taken for a whole one.
install() {
  echo "Installing the $(packages "$1") packages of $1 ..."
  "${VENV}/bin/python" -m pip install --quiet --require-hashes -r "$1" ||
    die "Python packages: pip could not install $1 (see above): run scripts/make_venv.sh where PyPI or a mirror of it can be reached (on a cluster, usually a login node)."
  stamp "$1" >"$(stamp_file "$1").tmp"
  mv "$(stamp_file "$1").tmp" "$(stamp_file "$1")"
}

# packages LOCK: how many there are; a lock names one twice where Python's version chooses between two.
packages() { awk -F == '/^[a-z]/ && !seen[$1]++ { n++ } END { print n }' "$1"; }

candidates() {
  if [[ -n ${PYTHON:-} ]]; then
    echo "${PYTHON}"
  else
    printf '%s\n' python3 python3.{14,13,12,11,10}
  fi
}

# Being on PATH proves nothing (pyenv's shims are there for versions that are not), hence the run.
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

# Debian and Ubuntu ship Python without ensurepip unless python3-venv is installed.
can_make_venv() { "$1" -c 'import venv, ensurepip' 2>/dev/null; }

find_python() {
  local python
  while read -r python; do
    if new_enough "${python}" && can_make_venv "${python}"; then
      command -v "${python}"
      return
    fi
  done < <(candidates)
  return 1
}

why_no_python() {
  local python
  while read -r python; do
    if new_enough "${python}"; then
      echo "Python environment: $(command -v "${python}") has no venv/ensurepip module: install it (Debian and Ubuntu: apt-get install python3-venv) or choose another Python with PYTHON=/path/to/python3."
      return
    fi
  done < <(candidates)
  local found
  found="$("${PYTHON:-python3}" --version 2>/dev/null)" || found='not there'
  echo "Python 3.10 or newer is needed and ${PYTHON:-python3} is ${found}: load or install one (on a cluster, for example: module load Python) or name it with PYTHON=/path/to/python3."
}

main "$@"
