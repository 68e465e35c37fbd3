# shellcheck shell=bash
# A batch that the client's job works off (python3 -m batch). It ends the deployment with itself; before the time
# limit it submits the same jobs once more, which go on with it. Sourced after door.sh and the scheduler's file.
#
# Why the same scripts, and not orch.py: sbatch is on all compute nodes where squeue is, orch's Python need not be.
#
# Files, in deployments/ID.batch/ of the output directory:
#   jobs   lines "NUMBER SERVICE JOB_ID": the jobs that are the deployment's from its job NUMBER (2, 3, …) on.
#          "NUMBER idle 1": the one before had no answer
#   stop   orch has written it: no further job is submitted
#   end    the batch has ended here, and the deployment with it: exit code, and why
# shellcheck disable=SC2034,SC2153,SC2154 # what job scripts read; what they and the other libraries set

BATCH_JOB=1     # which one of the deployment's jobs this is
BATCH_IDLE=0    # 1 if the one before had no answer
BATCH_CODE=     # of the batch's end, once that is known
SUCCESSORS=()   # jobs that were submitted
HANDED_OVER=    # the last of them, once all are
declare -A JOBS # of the other services, by these

# begin_batch FOLDER [NUMBER]: takes from `jobs` which job of the deployment this is, and sets JOBS.
begin_batch() {
  local number service id
  BATCH_FOLDER=$1 BATCH_JOB=${2:-1}
  mkdir -p "$BATCH_FOLDER" || fail "cannot make $BATCH_FOLDER; make room in that file system"
  rm -f "$BATCH_FOLDER/end" # of this job, if it was requeued
  while read -r number service id; do
    [ "$number" = "$BATCH_JOB" ] || continue
    case $service in
      idle) BATCH_IDLE=$id ;;
      client) ;; # this one
      *) JOBS[$service]=$id ;;
    esac
  done < <(cat "$BATCH_FOLDER/jobs" 2>/dev/null)
  AT_END+=(end_batch)
}

# work_off MAX_JOBS CONTINUE INPUT OUTPUT OPTION...: in place of `serve`. JOBS has the services in the order in which
# they are to be submitted.
work_off() {
  local most=$1 continue=$2 input=$3 output=$4 before code=5
  before=$(bytes_of "$output")
  if [ "$(batch_seconds)" -gt 0 ]; then work_until_limit "$input" --out "$output" "${@:5}"; fi
  case $code in
    0) BATCH_CODE=0 REASON="the batch is worked off" ;;
    4) REASON="some lines of the batch have failed in the end; they are in $output.errors.jsonl" ;;
    5) go_on "$most" "$continue" $(($(bytes_of "$output") == before)) ;;
    *) REASON="the batch has ended with exit code $code; its own words are above in its log" ;;
  esac
  exit "$code"
}

bytes_of() { stat -c %s "$1" 2>/dev/null || echo 0; }

# work_until_limit ARGUMENT...: runs the worker, and sets code.
work_until_limit() {
  local service=$SERVICE_PID worker
  say "works off $1, as job $BATCH_JOB of the deployment"
  run_service PYTHONPATH="$APP" "$PYTHON" -m batch "$@" --until "$(($(now) + $(batch_seconds)))"
  worker=$SERVICE_PID SERVICE_PID=$service
  while runs "$worker"; do
    check_engine_job
    runs "$SERVICE_PID" || fail "the client service stopped by itself while the batch was worked off"
    sleep 0.5
  done
  wait "$worker"
  code=$?
  forget_child "$worker"
}

now() { printf '%(%s)T' -1; }

# batch_seconds: how long there is to work: until the limit of the client's or of the engine's job comes, which began
# before it, less the time that the next ones take to be submitted. Slurm tells long jobs up to two minutes before.
batch_seconds() {
  local end=${JOB_END:-$(($(now) - SECONDS + TIME_LIMIT))} began margin=20
  if [ "$TIME_LIMIT" -ge 600 ]; then margin=150; fi
  began=$(stat -c %Y "$OUTPUT/logs/$SERVED_JOB.started" 2>/dev/null) || began=$end
  if [ $((began + TIME_LIMIT)) -lt "$end" ]; then end=$((began + TIME_LIMIT)); fi
  echo $((end - margin - $(now)))
}

# --- the jobs that go on with it -----------------------------------------------------------------

# go_on MAX_JOBS CONTINUE IDLE: submits them, and sets code; or says why not.
go_on() {
  local again='the same command goes on with it'
  if [ "$2" = 0 ]; then
    REASON="the time limit comes before the end of the batch; $again"
  elif [ "$BATCH_JOB" -ge "$1" ]; then
    REASON="the batch is not done after $1 jobs, which is its max_jobs; $again"
  elif [ "$3" = 1 ] && [ "$BATCH_IDLE" = 1 ]; then
    REASON="two jobs in a row had no answer at all, so no third is submitted; look for the cause in their logs"
  else
    cancel_jobs ${JOBS[@]+"${JOBS[@]}"} # nobody asks them any more
    submit_next $((BATCH_JOB + 1)) "$3"
    code=0 REASON="the batch goes on in job $HANDED_OVER ($((BATCH_JOB + 1)) of at most $1)"
  fi
}

# submit_next NUMBER IDLE: the client's job last, which needs to know the others.
submit_next() {
  local service ids=()
  note_job "$1" idle "$2"
  for service in ${BATCH_SERVICES[@]+"${BATCH_SERVICES[@]}"}; do
    submit_one "$1" "$service" ''
    case $service in monitoring) ;; *) ids+=("${SUCCESSORS[-1]}") ;; esac
  done
  submit_one "$1" client "${ids[*]-}" --job "$1"
  if is_stopped; then fail "it was told to end: no job goes on with the batch"; fi
  HANDED_OVER=${SUCCESSORS[-1]}
}

# submit_one NUMBER SERVICE BEGUN_BEFORE [ARGUMENT...]
submit_one() {
  local id why
  if is_stopped; then fail "it was told to end: no job goes on with the batch"; fi
  why=$BATCH_FOLDER/.submitted.$JOB_ID
  TEMPORARY+=("$why")
  id=$(submit_script "${JOBS[*]-} $JOB_ID" "$3" "${BATCH_SCRIPTS}.$2.sh" "${@:4}" 2>"$why") ||
    fail "the next $2 job cannot be submitted from $HOST: $(tail -n 1 "$why"); the same command goes on with the batch"
  SUCCESSORS+=("$id")
  note_job "$1" "$2" "$id"
}

note_job() {
  printf '%s %s %s\n' "$@" >>"$BATCH_FOLDER/jobs" || fail "cannot write $BATCH_FOLDER/jobs; make room there"
}

# is_stopped: a network file system is asked anew what is in the folder.
is_stopped() {
  ls "$BATCH_FOLDER" >/dev/null
  [ -e "$BATCH_FOLDER/stop" ]
}

# end_batch CODE: at each end of this job. If nobody goes on, all other jobs end, too; orch is told of it first.
end_batch() {
  local code=$1
  [ -z "$HANDED_OVER" ] || return 0
  case $code in
    143) code=130 ;;
    0) code=${BATCH_CODE:-5} ;; # at the time limit
  esac
  (write_file "$BATCH_FOLDER/end" "$code" "$REASON")
  cancel_jobs ${SUCCESSORS[@]+"${SUCCESSORS[@]}"} ${JOBS[@]+"${JOBS[@]}"}
}
