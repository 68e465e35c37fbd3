#!/usr/bin/env bash
# Makes .clients/NAME with exactly the packages of requirements-NAME.lock, for NAME `clients` and `aider`:
# what tests/clients tries (1 GB). It needs uv, which .venv has after scripts/make_venv.sh --dev.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "${ROOT}"

readonly ENVIRONMENTS=.clients UV=.venv/bin/uv

main() {
  lock "${ENVIRONMENTS}/lock"
  local name
  for name in clients aider; do
    ready "${name}" || make_one "${name}"
  done
}

# ready NAME: true where it works and holds what its lock says, in this folder.
ready() {
  [[ "$(cat "${ENVIRONMENTS}/$1/.ready" 2>/dev/null)" == "$(stamp "$1")" ]] &&
    "${ENVIRONMENTS}/$1/bin/python" -c '' 2>/dev/null
}

stamp() { echo "$(cksum <"requirements-$1.lock") ${ROOT}"; }

# make_one NAME: the stamp comes last, so an interrupted installation is never taken for a whole one.
make_one() {
  local folder="${ENVIRONMENTS}/$1"
  echo "Installing the packages of requirements-$1.lock in ${folder} ..."
  rm -rf "${folder}"
  "${UV}" venv --quiet --python .venv/bin/python "${folder}" ||
    die "${folder}: uv could not make it (see above): run scripts/make_venv.sh --dev first."
  "${UV}" pip install --quiet --require-hashes --python "${folder}/bin/python" -r "requirements-$1.lock" ||
    die "${folder}: uv could not install requirements-$1.lock (see above): run scripts/make_clients.sh where PyPI or a mirror of it can be reached."
  stamp "$1" >"${folder}/.ready"
}

main
