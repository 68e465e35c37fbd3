# shellcheck shell=bash
# What a job script learns from Slurm, of itself and of other jobs. Sourced after service.sh, which says
# what is to be in a file of this folder.
# shellcheck disable=SC2034 # read by the other libraries and by job scripts

JOB_ID=${SLURM_JOB_ID:-${ORCH_JOB_ID:-manual-$$}}
FULL_JOB_ID=$JOB_ID${SLURM_CLUSTER_NAME:+;$SLURM_CLUSTER_NAME}
JOB_END=${SLURM_JOB_END_TIME-} # since version 22.05
# One that another job has submitted goes by where that was submitted.
SUBMIT_HOST=${ORCH_SUBMIT_HOST:-${SLURM_SUBMIT_HOST-}}
RANK=${SLURM_PROCID-}
REQUEUED=${SLURM_RESTART_COUNT-}
JOB_GPUS=${SLURM_STEP_GPUS:-${SLURM_JOB_GPUS-}}

granted_cores() { printf '%s\n' "${SLURM_CPUS_PER_TASK-}" "${SLURM_CPUS_ON_NODE-}"; }

# One that dies leaves the others alone.
run_on_nodes() {
  srun --ntasks="$1" --ntasks-per-node=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
    --kill-on-bad-exit=0 --wait=0 "${@:2}" &
  CHILDREN+=($!)
}

# --- other jobs ----------------------------------------------------------------------------------

# An id is NUMBER, or NUMBER;CLUSTER if sbatch named the cluster that took it.
is_job_id() { [[ $1 =~ ^[0-9]+(\;.*)?$ ]]; }

# A job is asked for at the cluster that took it. Whatever a site's wrapper prints around the answer.
state_of_job() {
  local number=${1%%;*} cluster=''
  case $1 in *\;*) cluster=${1#*;} ;; esac
  command -v squeue >/dev/null || return
  ask_squeue "$number" ${cluster:+"--clusters=$cluster"} && return
  # By its name a cluster is found through the accounting, which a compute node need not reach.
  [ -n "$cluster" ] && on_our_cluster "$1" && ask_squeue "$number"
}

# ask_squeue NUMBER [OPTION]: see state_of_job.
ask_squeue() {
  local said state
  said=$(squeue --states=all --jobs="$1" --format='%A|%T' "${@:2}" 2>&1)
  state=$(sed -n "s/^ *$1|\([A-Z_]*\) *\$/\1/p" <<<"$said" | tail -n 1)
  case $state$said in
    '') return 1 ;;
    *'Invalid job id'* | *'JOBID|STATE'*) echo "${state:-unknown}" ;;
    *) [ -n "$state" ] && echo "$state" ;;
  esac
}

# That Slurm does not know a job is no proof. A controller which has counted on beyond a job's number has
# had it, and forgets it some minutes after its end. One that has not is another cluster's, or has lost its
# memory: the job may run on.
job_has_ended() {
  case $(state_of_job "$1") in
    CANCELLED | COMPLETED | FAILED | TIMEOUT | NODE_FAIL | OUT_OF_MEMORY | PREEMPTED | DEADLINE | BOOT_FAIL) ;;
    unknown) on_our_cluster "$1" && [[ ${JOB_ID%%.*} =~ ^[0-9]+$ ]] && [ "${JOB_ID%%.*}" -gt "${1%%;*}" ] ;;
    *) return 1 ;;
  esac
}

# on_our_cluster ID: if no cluster was named, it is the one that is asked by default.
on_our_cluster() {
  case $1 in *\;*) [ "${1#*;}" = "${SLURM_CLUSTER_NAME-}" ] ;; esac
}

list_jobs() {
  local id asks numbers=''
  for id in "$@"; do
    if is_job_id "$id"; then numbers+=,${id%%;*}; fi
  done
  [ -n "$numbers" ] || return
  asks=$(cluster_option "$*")
  squeue --noheader --states=all --jobs="${numbers#,}" ${asks:+"$asks"} --format='%A|%T|%S|%e|%N|%r' 2>/dev/null |
    grep -E '^[0-9]+\|[A-Z_]+\|'
}

cancel_jobs() {
  local id asks
  for id in "$@"; do
    asks=$(cluster_option "$id")
    scancel ${asks:+"$asks"} "${id%%;*}" 2>/dev/null
  done
}

# The batch script alone has the signal, which is none by which Slurm takes a job for cancelled.
tell_jobs() {
  local id asks
  for id in "$@"; do
    asks=$(cluster_option "$id")
    scancel ${asks:+"$asks"} --batch --signal=TERM "${id%%;*}" 2>/dev/null
  done
}

# By his number, since squeue knows --me since version 20.02; whatever a site's wrapper prints around the answer.
jobs_named() {
  local asks said
  asks=$(cluster_option "${SERVED-}")
  said=$(squeue ${asks:+"$asks"} --user="$UID" --noheader --name="$1" --format=%A 2>/dev/null) || return
  sed -n 's/^ *\([0-9][0-9]*\) *$/\1/p' <<<"$said"
}

expected_start() {
  local asks said
  asks=$(cluster_option "$1")
  said=$(squeue ${asks:+"$asks"} --noheader --start --jobs="${1%%;*}" --format=%S 2>/dev/null | grep -m 1 '^[0-9]') &&
    date -d "$said" +%s
}

# cluster_option IDS: as an option, the cluster that has taken them, if sbatch has named one.
cluster_option() {
  local rest=${1#*;}
  case $1 in *\;*) printf -- '--clusters=%s' "${rest%% *}" ;; esac
}

# Slurm's variables of this job say nothing of that one, and would change what sbatch asks for. A script may name several
# clusters: it goes to that of the jobs that it waits for, or of the engine that this job serves (SERVED), since jobs
# depend on each other within one alone.
submit_script() {
  local name id asks said clean=() which=''
  for name in $(compgen -e SLURM_) $(compgen -e SBATCH_); do
    case $name in SLURM_CONF | SLURM_CONF_SERVER | SLURM_JWT | SLURM_SACK_*) ;; *) clean+=(-u "$name") ;; esac
  done
  for id in $1; do which+=",afterany:${id%%;*}"; done
  for id in $2; do which+=",after:${id%%;*}"; done
  asks=$(cluster_option "$1 $2 ${SERVED-}")
  said=$(env ${clean[@]+"${clean[@]}"} ORCH_SUBMIT_HOST="$SUBMIT_HOST" \
    sbatch --parsable ${asks:+"$asks"} ${which:+"--dependency=${which#,}"} "${@:3}") || return
  # Whatever a site's wrapper prints around the answer.
  grep -E '^[0-9]+(;.*)?$' <<<"$said" | tail -n 1
}
