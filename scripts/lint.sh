#!/usr/bin/env bash
# Every static check, with the tools of requirements-dev.lock. All of them run; any finding fails.
set -uo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "${ROOT}" || exit

FAILED=()

main() {
  local files=()
  mapfile -t files < <(shell_files)
  check ruff-check .venv/bin/ruff check --quiet .
  check ruff-format .venv/bin/ruff format --quiet --diff .
  check mypy .venv/bin/python -m mypy
  # SC1091: files of the system that a script sources exist on some machines only.
  check shellcheck "$(shellcheck_program)" --external-sources --exclude SC1091 "${files[@]}"
  check shfmt .venv/bin/shfmt -i 2 -ci -d "${files[@]}"
  [[ ${#FAILED[@]} -eq 0 ]] || die "Checks failed: ${FAILED[*]} (findings above)."
  echo "Checks passed: ruff, mypy, shellcheck and shfmt (${#files[@]} shell scripts)."
}

check() {
  local name="$1"
  shift
  "$@" || FAILED+=("${name}")
}

shellcheck_program() { if [[ -x .venv/bin/shellcheck ]]; then echo .venv/bin/shellcheck; else echo shellcheck; fi; }

# By suffix or by first line: some shell scripts have no suffix. Folders that do not exist are no error.
shell_files() {
  find . -maxdepth 1 -name '*.sh'
  find lib scripts .ci tests benchmarks -type f \
    \( -name '*.sh' -o ! -name '*.*' \) -print 2>/dev/null | while read -r file; do
    if [[ ${file} == *.sh ]] || head -n 1 "${file}" | grep -qE '^#!.*[/ ](ba)?sh'; then
      echo "${file}"
    fi
  done
}

main
