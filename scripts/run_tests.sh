#!/usr/bin/env bash
# All checks and tests, in groups. A group that fails does not keep the others from running; the end
# says of each how it went. Exit code 0 when all passed.
set -uo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "${ROOT}" || exit

readonly SYSTEM='System packages' PYTHON='Python environment' HAPROXY=HAProxy ENGINES='Engines and models'
readonly OLLAMA_LOG=.tools/get_ollama.out
readonly UNIT_LOG=.tools/test_unit.out CLUSTER_LOG=.tools/test_cluster.out LOCAL_LOG=.tools/test_local.out
declare -A OUTCOME=()
declare -A BESIDE=() # what runs beside the groups: process by log
SUMMARY=()
RUNNING=

main() {
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  rm -f "${UNIT_LOG}" "${CLUSTER_LOG}" "${LOCAL_LOG}"
  group "${SYSTEM}" '' scripts/get_system_packages.sh
  group "${PYTHON}" '' scripts/make_venv.sh --dev
  # The build takes minutes and needs nothing of the steps before it is used. Not at a lower priority: on
  # a machine that does something else, too, it would not come to its end.
  beside "${OLLAMA_LOG}" scripts/get_ollama.sh
  group "${HAPROXY}" '' scripts/get_haproxy.sh
  group 'Format, types, shell scripts' "${PYTHON}" scripts/lint.sh
  group 'Unit tests' "${PYTHON}" logged "${UNIT_LOG}" scripts/run_pytest.sh tests/unit
  group "${ENGINES}" "${PYTHON}" get_engines_and_models
  # Most of the cluster's time is waiting for Slurm; its hosts are its own.
  [[ -n $(failed_of "${SYSTEM}:${HAPROXY}:${ENGINES}") ]] || beside "${LOCAL_LOG}" scripts/run_pytest.sh tests/local
  group 'Tests on the Slurm test cluster' "${SYSTEM}:${HAPROXY}:${ENGINES}" \
    logged "${CLUSTER_LOG}" scripts/run_pytest.sh tests/cluster
  group 'Tests with processes on this machine' "${SYSTEM}:${HAPROXY}:${ENGINES}" joined "${LOCAL_LOG}"
  all_passed
}

# group NAME NEEDS COMMAND...: runs the command, unless one of the groups NEEDS (with : between their
# names) did not pass.
group() {
  local name="$1" lacking began=${SECONDS}
  printf '\n[%s]\n' "${name}"
  lacking="$(failed_of "$2")"
  if [[ -n ${lacking} ]]; then
    OUTCOME[${name}]='NOT RUN'
    note "${name}" "since this did not pass: ${lacking}"
    echo "Not run, since this did not pass: ${lacking}"
    return
  fi
  shift 2
  RUNNING="${name}"
  if "$@"; then OUTCOME[${name}]=passed; else OUTCOME[${name}]=FAILED; fi
  RUNNING=
  note "${name}" "$((SECONDS - began)) s"
}

# failed_of NAMES: those of the groups, with : between them, that did not pass.
failed_of() {
  local names=() failed=() name
  IFS=: read -ra names <<<"$1"
  for name in ${names[@]+"${names[@]}"}; do
    [[ ${OUTCOME[${name}]} == passed ]] || failed+=("${name}")
  done
  echo "${failed[*]+"${failed[*]}"}"
}

# note NAME REMARK: a line of the summary.
note() { SUMMARY+=("$(printf '%-38s %-8s %s' "$1" "${OUTCOME[$1]}" "$2")"); }

all_passed() {
  local name
  for name in "${!OUTCOME[@]}"; do [[ ${OUTCOME[${name}]} == passed ]] || return 1; done
}

# Whatever ends the run, also a signal, is followed by the summary.
finish() {
  local log
  for log in "${!BESIDE[@]}"; do kill "${BESIDE[${log}]}" 2>/dev/null && wait "${BESIDE[${log}]}"; done
  if [[ -n ${RUNNING} ]]; then
    OUTCOME[${RUNNING}]=FAILED
    note "${RUNNING}" 'interrupted; what comes after it was not begun'
  fi
  printf '\nSummary (%d s):\n' "${SECONDS}"
  printf '  %s\n' ${SUMMARY[@]+"${SUMMARY[@]}"}
  # Once more, since who reads only the end of a long log is to know them, too.
  grep -hsE '^(FAILED|ERROR) ' "${UNIT_LOG}" "${CLUSTER_LOG}" "${LOCAL_LOG}" | cut -c -300
}

# beside LOG COMMAND...: begins what runs beside the groups, until `joined LOG`.
beside() {
  mkdir -p .tools
  "${@:2}" >"$1" 2>&1 </dev/null &
  BESIDE[$1]=$!
}

# logged LOG COMMAND...: runs it, and keeps in LOG what it prints.
logged() {
  beside "$@"
  joined "$1"
}

# joined LOG: shows what that prints, from its start, and ends with it and with its exit code.
joined() {
  local rc=0 tail_pid
  tail -n +1 -f --pid="${BESIDE[$1]}" -s 0.2 "$1" &
  tail_pid=$!
  wait "${BESIDE[$1]}" || rc=$?
  unset "BESIDE[$1]"
  wait "${tail_pid}"
  return "${rc}"
}

get_engines_and_models() {
  joined "${OLLAMA_LOG}" && scripts/get_llamacpp.sh && env -u MAKEFLAGS make --no-print-directory model
}

main
