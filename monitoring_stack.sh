#!/bin/bash
#SBATCH --job-name=monitoring_stack
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=2G
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --output=monitoring_stack_%j.out
# Prometheus (port 9090) and Grafana (3000) for all deployments of an output directory; orch.py starts
# its own with each deployment. By hand:
#
#   sbatch [-A ACCOUNT] [-p PARTITION] monitoring_stack.sh [options]     without Slurm: bash …
#
# Its log says how to see both from home, and where Grafana's password is.
# Options: --site NAME (a profile in sites/), --output-dir DIR (default: output). What is given to
# sbatch goes before the lines above.
set -euo pipefail

# Slurm runs a copy of this file, from its own spool directory.
unset CDPATH
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")}"
if [ ! -e scripts/by_hand.sh ]; then
  echo "monitoring_stack.sh: there is no scripts/by_hand.sh in $PWD; submit from the project's folder" >&2
  exit 2
fi
exec scripts/by_hand.sh prometheus,grafana "$@"
