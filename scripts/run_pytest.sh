#!/usr/bin/env bash
# The tests in one folder, side by side where that pays.
# Usage: scripts/run_pytest.sh tests/unit|tests/local|tests/cluster|tests/clients [PYTEST OPTION...]
# PYTHON_BIN chooses the environment that has pytest (default: .venv/bin/python).
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "${ROOT}"

main() {
  local workers=()
  case "$1" in
    tests/unit) workers=(-n auto --maxprocesses 8) ;;
    # Each has a test cluster of its own. Most of these tests wait for Slurm. In their order: the first
    # ones put the cluster down, and all that is on it goes. Each is named: one that fails is known at once.
    tests/cluster) workers=(-n 2 --dist loadfile --no-loadscope-reorder -v) ;;
  esac
  # Tests call shellcheck and the like by name; python3 stays the system's.
  PATH="${PATH}:${ROOT}/.venv/bin" exec "${PYTHON_BIN:-.venv/bin/python}" -m pytest \
    ${workers[@]+"${workers[@]}"} --durations=12 "${@:2}" "$1"
}

main "$@"
