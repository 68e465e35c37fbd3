#!/usr/bin/env bash
# by_hand.sh PARTS [--site NAME] [--output-dir DIR] [ARGUMENT]: runs parts of the monitoring in this
# shell's job, or without Slurm as this process. ARGUMENT goes to the job script.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "${ROOT}"

options=("$1")
shift
while [[ ${1-} == --* ]]; do
  [[ $# -ge 2 ]] || die "$1 needs a value"
  options+=("$1" "$2")
  shift 2
done

# shellcheck source=lib/optional_module.sh
. lib/optional_module.sh Python

scripts/make_venv.sh
script=$(.venv/bin/python -m hpc.commands.stack "${options[@]}")
exec bash "${script}" "$@"
