#!/bin/bash
#SBATCH --job-name=prometheus_service
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=1G
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --output=prometheus_service_%j.out
# Prometheus alone (port 9090), for all deployments of an output directory. By hand:
#
#   sbatch [-A ACCOUNT] [-p PARTITION] prometheus_service.sh [options] [DATA_FOLDER]
#
# without Slurm: bash …. With a DATA_FOLDER (output/prometheus_data/JOB_ID) it shows what an earlier
# one has saved, and measures nothing.
# Options: --site NAME (a profile in sites/), --output-dir DIR (default: output). What is given to
# sbatch goes before the lines above.
set -euo pipefail

# Slurm runs a copy of this file, from its own spool directory.
unset CDPATH
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")}"
if [ ! -e scripts/by_hand.sh ]; then
  echo "prometheus_service.sh: there is no scripts/by_hand.sh in $PWD; submit from the project's folder" >&2
  exit 2
fi
exec scripts/by_hand.sh prometheus "$@"
