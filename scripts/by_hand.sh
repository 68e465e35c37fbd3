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

# A batch shell is no login shell; on many clusters a recent Python is a module.
if ! type module >/dev/null 2>&1 && [[ -e /etc/profile.d/modules.sh ]]; then
  # shellcheck source=/dev/null
  . /etc/profile.d/modules.sh
fi
if type module >/dev/null 2>&1; then module load Python 2>/dev/null || true; fi

scripts/make_venv.sh
script=$(.venv/bin/python -m hpc.stack "${options[@]}")
exec bash "${script}" "$@"
