#!/bin/sh
# A job named slowstart-N is CONFIGURING for N seconds; a job named badstart fails in the prolog.
case "$SLURM_JOB_NAME" in
  slowstart-*) exec sleep "${SLURM_JOB_NAME#slowstart-}" ;;
  badstart) exit 1 ;;
esac
exit 0
