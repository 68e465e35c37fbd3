# shellcheck shell=bash
# The jobs of a deployment that follow one another: the client's job submits the scripts of all services once more.
# batch.sh and handover.sh say when. Sourced after service.sh and the scheduler's file.
#
# Why the same scripts, and not orch.py: sbatch is on all compute nodes where squeue is, orch's Python need not be.
#
# Files, in deployments/ID.chain/ of the output directory:
#   jobs   lines "NUMBER SERVICE JOB_ID": the jobs that are the deployment's NUMBER-th (2, 3, …), the last line of a
#          service counts; and "NUMBER .WORD VALUE": what else is known of those; VALUE "-": it is true no more
#   stop   orch has written it: no further job is submitted
# shellcheck disable=SC2034,SC2154 # what the other libraries and job scripts read, and what they set

CHAIN_FOLDER=
CHAIN_JOB=1       # which one of the deployment's jobs this is
CHAIN_SCRIPTS=    # their path, without .SERVICE.sh
CHAIN_SERVICES=() # the others, in the order in which they are to be submitted
CHAIN_REMEDY=     # what is said after why a job cannot be submitted
SUCCESSORS=()     # jobs that were submitted
declare -A JOBS   # of the other services, by these

# begin_chain FOLDER [NUMBER]: NUMBER: which job of the deployment this is.
begin_chain() {
  CHAIN_FOLDER=$1 CHAIN_JOB=${2:-1}
  mkdir -p "$CHAIN_FOLDER" || fail "cannot make $CHAIN_FOLDER; make room in that file system"
  know_jobs
}

# know_jobs: takes JOBS from `jobs`, to which others may come after this one has begun.
know_jobs() {
  local number service id
  while read -r number service id; do
    [ "$number" = "$CHAIN_JOB" ] || continue
    case $service in .* | client) ;; *) JOBS[$service]=$id ;; esac
  done < <(cat "$CHAIN_FOLDER/jobs" 2>/dev/null)
}

# chain_said NUMBER SERVICE|.WORD: prints what the last such line has; nothing if there is none.
chain_said() {
  local number what value said=
  while read -r number what value; do
    if [ "$number $what" = "$1 $2" ]; then said=${value#-}; fi
  done < <(cat "$CHAIN_FOLDER/jobs" 2>/dev/null)
  echo "$said"
}

# note_chain NUMBER SERVICE|.WORD VALUE
note_chain() {
  printf '%s %s %s\n' "$@" >>"$CHAIN_FOLDER/jobs" || fail "cannot write $CHAIN_FOLDER/jobs; make room there"
}

# submit_one NUMBER SERVICE ENDED BEGUN [ARGUMENT...]: ENDED and BEGUN as submit_script has them. It is the last of
# SUCCESSORS then.
submit_one() {
  local id why
  if is_stopped; then fail "it was told to end: no further job is submitted"; fi
  why=$PROXY_FOLDER/submission
  id=$(submit_script "$3" "$4" "$CHAIN_SCRIPTS.$2.sh" "${@:5}" 2>"$why") && [ -n "$id" ] ||
    fail "the next $2 job cannot be submitted from $HOST: $(tail -n 1 "$why")$CHAIN_REMEDY"
  SUCCESSORS+=("$id")
  note_chain "$1" "$2" "$id"
}

# is_stopped: a network file system is asked anew what is in the folder.
is_stopped() {
  ls "$CHAIN_FOLDER" >/dev/null
  [ -e "$CHAIN_FOLDER/stop" ]
}

# unknown_job SERVICE: prints the number of a job of that name which `jobs` does not have.
unknown_job() {
  local number ours found
  ours=" $(sed -n 's/^[0-9]* [a-z_.]* \([A-Za-z0-9]*\).*/\1/p' "$CHAIN_FOLDER/jobs" 2>/dev/null | tr '\n' ' ')"
  found=$(jobs_named "${CHAIN_SCRIPTS##*/}.$1") || return
  for number in $found; do
    case $ours in *" $number "*) ;; *) echo "$number" && return ;; esac
  done
}
