# shellcheck shell=bash
# What a job script learns if there is no scheduler, and jobs are processes of this machine. Sourced after
# service.sh, which says what is to be in a file of this folder.
# shellcheck disable=SC2034 # read by the other libraries and by job scripts

JOB_ID=${ORCH_JOB_ID:-manual-$$} # the runner, or who prepares, has set it
FULL_JOB_ID=$JOB_ID
JOB_END=
SUBMIT_HOST=
RANK=
REQUEUED=
JOB_GPUS=

granted_cores() { :; }

# All of them on this machine, as this job, also if nobody has given it an id.
run_on_nodes() {
  local rank
  for ((rank = 0; rank < $1; rank++)); do
    ORCH_JOB_ID=$JOB_ID "${@:2}" "$rank" &
    CHILDREN+=($!)
  done
}

# --- other jobs ----------------------------------------------------------------------------------

is_job_id() { [[ $1 == local* ]]; }

# Nobody is asked: a job that ends says so itself, and none comes again.
state_of_job() { return 1; }

# Its runner keeps its state; see hpc/scheduler/local/runner.py.
job_has_ended() {
  local said
  said=$(cat "$OUTPUT/local_jobs/$1.json" 2>/dev/null) || return
  [[ $said != *'"state": "RUNNING"'* && $said != *'"state": "PENDING"'* ]] && return
  [[ $said =~ \"runner_pid\":\ ([0-9]+) ]] && ! runs "${BASH_REMATCH[1]}"
}

# Its runner has written all of it down: client/live/jobs.py reads that itself.
list_jobs() { return 1; }

# Its runner is told, once that has signed in.
cancel_jobs() {
  local id said looks=0
  for id in "$@"; do
    while said=$(cat "$OUTPUT/local_jobs/$id.json" 2>/dev/null) && [[ $said == *'"state": "PENDING"'* ]]; do
      [ $((looks += 1)) -lt 200 ] || break
      sleep 0.05
    done
    if [[ $said == *'"state": "RUNNING"'* && $said =~ \"runner_pid\":\ ([0-9]+) ]]; then
      kill -TERM "${BASH_REMATCH[1]}" 2>/dev/null
    fi
  done
}

# The script alone is told, not its runner, to which an end of its own is none that was asked for.
tell_jobs() {
  local id said
  for id in "$@"; do
    said=$(cat "$OUTPUT/local_jobs/$id.json" 2>/dev/null)
    if [[ $said == *'"state": "RUNNING"'* && $said =~ \"pid\":\ ([0-9]+) ]]; then
      kill -TERM "${BASH_REMATCH[1]}" 2>/dev/null
    fi
  done
}

# What is begun here is known.
jobs_named() { :; }

expected_start() { :; }

# By this project's own Python (HOST_PYTHON), which is here. What has begun before is not waited for: this machine
# begins all at once.
submit_script() {
  local id
  for id in $1; do
    [ "$id" = "$JOB_ID" ] || until job_over "$id"; do sleep 0.1; done
  done
  cd "${BASH_SOURCE[0]%/*}/../.." || return
  "$HOST_PYTHON" -m hpc.scheduler.local.submit "$OUTPUT" "$TIME_LIMIT" "${@:3}"
}
