#!/bin/bash
#SBATCH --job-name=orch
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=2G
#SBATCH --time=04:00:00
#SBATCH --output=slurm_orch_%j.out
# Runs orch.py in a job of its own, so that nobody has to stay logged in:
#
#   sbatch [-A ACCOUNT] [-p PARTITION] slurm_orch.sh [RECIPE.json [options of orch.py]]
#
# The default recipe is recipe_ex/inference_recipe.json. The deployment outlives this job: it ends
# at its own time limit, or with python3 orch.py --stop ID.
set -euo pipefail
unset CDPATH

# Slurm runs a copy of this file, from its own spool directory.
project=${SLURM_SUBMIT_DIR:-$(dirname "$0")}
if [ ! -e "$project/orch.py" ]; then
  command=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *Command=\([^ ]*\).*/\1/p')
  project=$(dirname "$command")
fi
if [ ! -e "$project/orch.py" ]; then
  echo "slurm_orch.sh: cannot find orch.py; submit from the project's folder" >&2
  exit 2
fi
cd "$project"

. lib/optional_module.sh Python

scripts/make_venv.sh
[ $# -gt 0 ] || set -- recipe_ex/inference_recipe.json

# This shell hands signals on: scancel and the time limit reach orch, which cancels its jobs.
exec .venv/bin/python -u orch.py "$@"
