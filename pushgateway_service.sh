#!/bin/bash
#SBATCH --job-name=pushgateway_service
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=512M
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --output=pushgateway_service_%j.out
# A Pushgateway (port 9091), which Prometheus finds by itself. orch.py starts its own with each
# deployment. By hand:
#
#   sbatch [-A ACCOUNT] [-p PARTITION] pushgateway_service.sh [options]     without Slurm: bash …
# Options: --site NAME (a profile in sites/), --output-dir DIR (default: output). What is given to
# sbatch goes before the lines above.
set -euo pipefail

# Slurm runs a copy of this file, from its own spool directory.
unset CDPATH
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")}"
if [ ! -e scripts/by_hand.sh ]; then
  echo "pushgateway_service.sh: there is no scripts/by_hand.sh in $PWD; submit from the project's folder" >&2
  exit 2
fi
exec scripts/by_hand.sh pushgateway "$@"
