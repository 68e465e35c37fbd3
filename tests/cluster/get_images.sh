#!/usr/bin/env bash
# Container images for the tests, without a registry: prints the paths of base.sif, ollama.sif and
# monitoring.sif, which it builds where they are not in the cache.  Root, on a machine where `testcluster install` has run.
#
# A file in the cache is named by a checksum of all that went into it, appears whole, and never changes.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/common.sh
source "${HERE}/../../scripts/common.sh"
# shellcheck source=tests/cluster/mirror.sh
source "${HERE}/mirror.sh"

# The images are built as a user would build them, but compressed little: most of a build is that.
BUILDER=hpcuser
DEFINITIONS=${HERE}/images

main() {
  local ollama=${1:-${ROOT}/.tools/bin/ollama} base
  [[ ${EUID} -eq 0 ]] || die "the test images cannot be built as $(id -un): run this as root"
  have apptainer || die "there is no apptainer to build images with: run '${HERE}/testcluster install' first"
  [[ -x ${ollama} ]] || die "there is no Ollama at ${ollama} to make an image of: run scripts/get_ollama.sh first"
  lock "${CACHE}/images.lock"
  base=$(image base)
  build "${base}" base MIRROR="$(mirror)"
  build "$(image ollama "${base}" "${ollama}")" ollama BASE="${base}" OLLAMA="${ollama}"
  build_monitoring "${base}"
}

build_monitoring() {
  local name programs=()
  for name in prometheus prometheus-pushgateway prometheus-node-exporter; do
    programs+=("$(command -v "${name}")") || die "there is no ${name}: run scripts/get_system_packages.sh first"
  done
  build "$(image monitoring "$1" "${programs[@]}")" monitoring BASE="$1" PROMETHEUS="${programs[0]}" \
    PUSHGATEWAY="${programs[1]}" NODE_EXPORTER="${programs[2]}"
}

# image NAME [FILE...]: its path in the cache; FILEs go into it.
image() {
  local sum
  sum=$(sha256sum "${DEFINITIONS}/$1.def" "${@:2}" | awk '{ print $1 }' | sha256sum)
  echo "${CACHE}/$1-${sum:0:12}.sif"
}

# build TARGET NAME ARGUMENT...: and print TARGET.
build() {
  local target=$1 name=$2 arguments=()
  if [[ ! -e ${target} ]]; then
    WORK=$(mktemp -d)
    trap 'rm -rf "${WORK}"' EXIT
    bring_inputs "${@:3}"
    if ! run_apptainer "${name}.def" "${arguments[@]}" >"${WORK}/log" 2>&1; then
      tail -n 20 "${WORK}/log" >&2
      die "the image ${name}.sif cannot be built; Apptainer's words are above"
    fi
    install -m 644 "${WORK}/image.sif" "${target}.part"
    mv "${target}.part" "${target}"
    rm -rf "${WORK}"
  fi
  echo "${target}"
}

# bring_inputs NAME=VALUE...: the builder can read neither the cache nor the project for certain.
bring_inputs() {
  local pair value
  install -m 644 "${DEFINITIONS}/${name}.def" "${WORK}"
  for pair in "$@"; do
    value=${pair#*=}
    if [[ -f ${value} ]]; then
      install -m 755 "${value}" "${WORK}"
      value=${WORK}/${value##*/}
    fi
    arguments+=(--build-arg "${pair%%=*}=${value}")
  done
  chown -R "${BUILDER}:" "${WORK}"
}

run_apptainer() {
  cd "${WORK}" &&
    runuser -u "${BUILDER}" -- env -i HOME="${WORK}" APPTAINER_TMPDIR="${WORK}" \
      APPTAINER_MKSQUASHFS_ARGS='-Xcompression-level 1' \
      PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
      apptainer build --disable-cache "${@:2}" image.sif "$1"
}

main "$@"
