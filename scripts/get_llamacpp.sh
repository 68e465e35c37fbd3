#!/usr/bin/env bash
# Puts llama.cpp's server at .tools/bin/llama-server, from the packages of requirements-llamacpp.lock (127 MB,
# CPU only) in .tools/llamacpp. A llama-server on PATH is used as it is. It needs .venv (scripts/make_venv.sh).
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "${ROOT}"

readonly LOCK=requirements-llamacpp.lock FOLDER=.tools/llamacpp TARGET=.tools/bin/llama-server
readonly PYTHON_BIN=.venv/bin/python
# Modules of HPC sites set these; each of them makes pip install to, or import from, somewhere else.
unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_ROOT PIP_REQUIREMENT PIP_CONSTRAINT
export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

main() {
  if have llama-server; then
    echo "llama.cpp: $(command -v llama-server) is used as it is."
    return
  fi
  if ready; then return; fi
  [[ -x ${PYTHON_BIN} ]] || die 'llama.cpp: there is no .venv to install it with: run scripts/make_venv.sh first.'
  lock .tools/llamacpp.lock
  ready || install
}

# ready: the stamp names Python's version, too, for which the packages are.
ready() { [[ -x ${TARGET} && "$(cat "${FOLDER}/.ready" 2>/dev/null)" == "$(stamp)" ]]; }

stamp() { echo "$(cksum <"${LOCK}") $("${PYTHON_BIN}" --version 2>/dev/null)"; }

# install: the stamp comes last, so an interrupted installation is never taken for a whole one.
install() {
  echo "Installing the packages of ${LOCK} in ${FOLDER} ..."
  rm -rf "${FOLDER}" "${TARGET}"
  "${PYTHON_BIN}" -m pip install --quiet --require-hashes --target "${FOLDER}" -r "${LOCK}" ||
    die "llama.cpp: pip could not install ${LOCK} (see above): run scripts/get_llamacpp.sh where PyPI or a mirror of it can be reached, or install llama.cpp so that llama-server is on PATH."
  mkdir -p "${TARGET%/*}"
  cp -f scripts/llama_server.sh "${TARGET}.tmp"
  chmod 755 "${TARGET}.tmp"
  mv -f "${TARGET}.tmp" "${TARGET}"
  stamp >"${FOLDER}/.ready"
  echo "llama.cpp: ${TARGET} ($("${TARGET}" --version))."
}

main
