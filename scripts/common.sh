# shellcheck shell=bash
# What the set-up scripts share. Sourced, never run.

# shellcheck disable=SC2034 # used by the scripts that source this file
unset CDPATH # with it, cd prints, and may go elsewhere
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
CACHE="${ORCH_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/orch}"

die() {
  printf '%s\n' "$*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

can_apt() { [[ ${EUID} -eq 0 ]] && have apt-get; }

# apt_install PACKAGE...: the package lists of a fresh machine are empty, hence the second try.
apt_install() {
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
  local install=("${apt[@]}" install -y --no-install-recommends "$@")
  printf 'Installing system packages: %s\n' "$*"
  "${install[@]}" >/dev/null 2>&1 && return
  "${apt[@]}" update >/dev/null || return
  "${install[@]}" >/dev/null
}

readonly POLICY=/usr/sbin/policy-rc.d # asked by Debian's packages before they start anything

# forbid_starts: until this shell ends; a policy that the machine has already is left as it is.
forbid_starts() {
  [[ ! -e ${POLICY} ]] || return 0
  trap 'rm -f "${POLICY}"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"${POLICY}"
  chmod 755 "${POLICY}"
}

# stay_off SERVICE...: the policy keeps packages from starting a service, not from enabling it.
stay_off() {
  if have systemctl; then systemctl --quiet disable "$@" 2>/dev/null || true; fi
}

# lock FILE: wait for and hold a lock until this script ends. Where there is no flock (macOS), or the
# file system cannot lock (some Lustre mounts), go on without: callers make results appear by rename.
lock() {
  have flock || return 0
  mkdir -p "$(dirname "$1")"
  exec 9>"$1"
  local rc=0
  flock -n -E 75 9 2>/dev/null || rc=$?
  if [[ ${rc} -eq 75 ]]; then
    echo 'Waiting for another run of the same step to finish ...'
    flock 9
  fi
}
