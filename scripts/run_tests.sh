#!/usr/bin/env bash
# All checks and tests, one group after the other; the first group that fails ends the run.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "${ROOT}"

OLLAMA_PID=
readonly OLLAMA_LOG=.tools/get_ollama.out

main() {
  step 1 'System packages and Python environment'
  scripts/get_system_packages.sh
  scripts/make_venv.sh --dev
  start_ollama
  step 2 'Format, types, shell scripts'
  scripts/lint.sh
  step 3 'Unit tests'
  run_pytest tests/unit
  step 4 'Ollama and models'
  wait_for_ollama
  env -u MAKEFLAGS make --no-print-directory model
  step 5 'Tests with processes on this machine'
  run_pytest tests/local
  step 6 'Tests on the Slurm test cluster'
  run_pytest tests/cluster
}

# Tests call shellcheck and the like by name; python3 stays the system's.
run_pytest() { PATH="${PATH}:${ROOT}/.venv/bin" .venv/bin/python -m pytest "$@"; }

step() { printf '\n[%d/6] %s\n' "$1" "$2"; }

# The build takes minutes and needs nothing of the steps before it is used: it runs meanwhile, with
# what they leave of the processors.
start_ollama() {
  mkdir -p .tools
  trap stop_ollama EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  nice -n 19 scripts/get_ollama.sh >"${OLLAMA_LOG}" 2>&1 </dev/null &
  OLLAMA_PID=$!
}

stop_ollama() {
  if [[ -n ${OLLAMA_PID} ]]; then kill "${OLLAMA_PID}" 2>/dev/null || true; fi
}

wait_for_ollama() {
  local rc=0 tail_pid
  tail -n +1 -f --pid="${OLLAMA_PID}" -s 0.2 "${OLLAMA_LOG}" &
  tail_pid=$!
  wait "${OLLAMA_PID}" || rc=$?
  OLLAMA_PID=
  wait "${tail_pid}"
  return "${rc}"
}

main
