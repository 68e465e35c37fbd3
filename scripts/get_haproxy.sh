#!/usr/bin/env bash
# Puts HAProxy at .tools/bin/haproxy: job scripts look there and on PATH. One that the machine has is used
# as it is; as root on Debian or Ubuntu it is their package; else it is built from source, about a minute
# on 2 cores, once per type of machine, as the result is cached.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/building.sh
source "$(dirname "${BASH_SOURCE[0]}")/building.sh"
cd "${ROOT}"

readonly VERSION=3.0.11 # of a branch with fixes until 2029
readonly SHA256=a133e2d550c5fd9a849b5c7ab17bb945bcdad209ca140d41f45ebf31943ae783
# Debian's index says the checksum; an archive that has another one is passed over.
readonly SOURCES=(
  "https://www.haproxy.org/download/${VERSION%.*}/src/haproxy-${VERSION}.tar.gz"
  "https://deb.debian.org/debian/pool/main/h/haproxy/haproxy_${VERSION}.orig.tar.gz"
)
readonly TARGET=.tools/bin/haproxy
# Where packages put it, and where `make install` does: not on the PATH of an ordinary user of Debian.
readonly FOLDERS=(/usr/sbin /usr/local/sbin)
readonly OWN_WAY='or ask for HAProxy 2.4 or newer (a package or module named haproxy)'
readonly NONE='there is none on PATH'
# What -v and -vv begin with; before 2.4 it was HA-Proxy.
readonly VERSION_LINE='^HA-?Proxy version (([0-9]+)\.([0-9]+)[^ ]*)'

main() {
  if use_found; then return; fi
  local id
  id="haproxy-${VERSION}-$(system_fingerprint)"
  if is_ready "${id}"; then return; fi
  [[ "$(uname -s)" == Linux ]] ||
    die "HAProxy: ${UNFIT}, and it is built here for Linux only: install HAProxy 2.4 or newer."
  lock_cache haproxy HAProxy
  # One that is there, though it will not do, is somebody's: the package stays as it is.
  if [[ ${UNFIT} == "${NONE}" ]] && can_apt && install_package && use_found; then return; fi
  [[ -x "${CACHE}/${id}/haproxy" ]] || build "${id}"
  publish "${id}"
  echo "HAProxy: ${TARGET} (version ${VERSION}, built here)."
}

# use_found: true where the machine has one that will do; else UNFIT says what is wrong with what it has.
use_found() {
  local program reason
  UNFIT="${NONE}"
  while read -r program; do
    reason="$(unfit "${program}")"
    if [[ -z ${reason} ]]; then
      use "${program}"
      return
    fi
    UNFIT="${reason}"
  done < <(found)
  return 1
}

found() {
  local folder
  type -P haproxy || true
  for folder in "${FOLDERS[@]}"; do
    if [[ -x ${folder}/haproxy ]]; then echo "${folder}/haproxy"; fi
  done
}

# unfit PROGRAM: what is wrong with it, if anything is. OpenSSL is for TLS and for the converter sha2.
unfit() {
  local said
  said="$("$1" -vv 2>/dev/null)" || true
  if [[ ! ${said} =~ ${VERSION_LINE} ]]; then
    echo "$1 does not say its version"
  elif ((BASH_REMATCH[2] * 100 + BASH_REMATCH[3] < 204)); then
    echo "$1 is version ${BASH_REMATCH[1]}, older than 2.4"
  elif [[ ! ${said} =~ [[:space:]]\+OPENSSL[[:space:]] ]]; then
    echo "$1 is built without OpenSSL"
  fi
}

use() {
  local how='is used as it is'
  if [[ $1 != "$(type -P haproxy)" ]]; then
    link "$1"
    how+=", as ${TARGET}"
  fi
  echo "HAProxy: $1 (version $(version_of "$1")) ${how}."
}

version_of() { if [[ "$("$1" -v)" =~ ${VERSION_LINE} ]]; then echo "${BASH_REMATCH[1]}"; fi; }

link() {
  mkdir -p "$(dirname "${TARGET}")"
  rm -f "${TARGET}.id" # what was built is there no more
  ln -sfn "$1" "${TARGET}.tmp"
  mv -f "${TARGET}.tmp" "${TARGET}"
}

# In a shell of its own: what forbids starts goes with it.
install_package() (
  forbid_starts && apt_install haproxy && stay_off haproxy
)

# What is built uses this system's C library and OpenSSL; another one may find the same home directory.
system_fingerprint() {
  { uname -m && grep -E '^(ID|VERSION_ID)=' /etc/os-release; } 2>/dev/null | cksum | cut -d ' ' -f 1 || true
}

build() {
  need_compiler
  begin_work
  fetch
  local log="${CACHE}/$1.log"
  echo "Building HAProxy ${VERSION} (about a minute on 2 cores; log: ${log})"
  with_progress "${log}" compile ||
    die "HAProxy ${VERSION} could not be built; the last lines of ${log} are above: mend what they name, ${OWN_WAY}."
  keep "$1" "${WORK}/source/haproxy"
}

need_compiler() {
  local missing=()
  have gcc || missing+=(gcc libc6-dev)
  have make || missing+=(make)
  has_openssl || missing+=(libssl-dev)
  have curl || missing+=(curl)
  install_for_build HAProxy "HAProxy: ${UNFIT}, and it cannot be built because ${missing[*]-} (Debian's package names; libssl-dev is openssl-devel elsewhere) cannot be found: have it installed as root, ${OWN_WAY}." ${missing[@]+"${missing[@]}"}
}

has_openssl() { bare gcc -E -x c -include openssl/ssl.h /dev/null >/dev/null 2>&1; }

# bare COMMAND...: with nothing else of the environment, which has settings for other programs: a module's
# CPATH would lead to an OpenSSL that is missing when HAProxy runs, and make reads DEBUG and the like.
bare() { env -i PATH="${PATH}" LD_LIBRARY_PATH="${LD_LIBRARY_PATH:-}" "$@"; }

# fetch: the source into WORK, from whoever has the file whose checksum we know.
fetch() {
  local archive="${WORK}/source.tar.gz" source reason reasons=()
  local sources=("${SOURCES[@]}")
  if [[ -n ${ORCH_HAPROXY_SOURCE:-} ]]; then sources=("${ORCH_HAPROXY_SOURCE}"); fi
  for source in "${sources[@]}"; do
    echo "Getting HAProxy ${VERSION} from ${source} ..."
    if reason="$(fetch_from "${source}" "${archive}" 2>&1)"; then
      mkdir "${WORK}/source"
      tar -xzf "${archive}" -C "${WORK}/source" --strip-components=1
      return
    fi
    reasons+=("${source}: ${reason%%$'\n'*};")
  done
  reason="${reasons[*]}"
  die "HAProxy: ${UNFIT}, and the source of ${VERSION} cannot be had (${reason%;}): name the archive with ORCH_HAPROXY_SOURCE=/path/or/URL, ${OWN_WAY}."
}

# fetch_from SOURCE FILE: where it fails it prints why.
fetch_from() {
  case "$1" in
    *://*) curl --fail --silent --show-error --location --connect-timeout 20 --max-time 300 --output "$2" "$1" ;;
    *) cp "$1" "$2" ;;
  esac || return
  local sum
  sum="$(sha256sum <"$2")" || return
  [[ ${sum%% *} == "${SHA256}" ]] || {
    echo "its sha256 is ${sum%% *}, not ${SHA256}"
    return 1
  }
}

# Nothing that needs further headers (PCRE2, Lua); Prometheus' metrics need none.
compile() {
  bare make -C "${WORK}/source" -j 4 CC=gcc TARGET=linux-glibc USE_OPENSSL=1 USE_PROMEX=1 haproxy || return
  local reason
  reason="$(unfit "${WORK}/source/haproxy")"
  [[ -z ${reason} ]] || {
    echo "${reason}"
    return 1
  }
}

main "$@"
