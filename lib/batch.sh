# shellcheck shell=bash
# A batch that the client's job works off (python3 -m batch). It ends the deployment with itself; before the time
# limit it submits the same jobs once more (chain.sh), which go on with it. Sourced after door.sh, the scheduler's file
# and chain.sh.
#
# Files, beside those of chain.sh:
#   jobs   also "NUMBER .idle 1": the one before had no answer
#   end    the batch has ended here, and the deployment with it: exit code, and why
# shellcheck disable=SC2034,SC2153,SC2154 # what job scripts read; what they and the other libraries set

BATCH_IDLE=0 # 1 if the one before had no answer
BATCH_CODE=  # of the batch's end, once that is known
HANDED_OVER= # the client's job that goes on with it

# begin_batch: after begin_chain.
begin_batch() {
  rm -f "$CHAIN_FOLDER/end" # of this job, if it was requeued
  BATCH_IDLE=$(chain_said "$CHAIN_JOB" .idle)
  CHAIN_REMEDY='; the same command goes on with the batch'
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
  leave "$code"
}

bytes_of() { stat -c %s "$1" 2>/dev/null || echo 0; }

# work_until_limit ARGUMENT...: runs the worker, and sets code.
work_until_limit() {
  local service=$SERVICE_PID worker
  say "works off $1, as job $CHAIN_JOB of the deployment"
  run_service PYTHONPATH="$APP" "$PYTHON" -m batch "$@" --until "$(($(now) + $(batch_seconds)))"
  worker=$SERVICE_PID SERVICE_PID=$service
  while runs "$worker"; do
    check_engine_job
    if gone_silently "$SERVED" "$3"; then fail "the job $SERVED_JOB has ended, and could not say so: its node has failed"; fi
    runs "$SERVICE_PID" || fail "the client service stopped by itself while the batch was worked off"
    sleep 0.5
  done
  wait "$worker"
  code=$?
  forget_child "$worker"
}

# batch_seconds: how long there is to work: until the limit of the client's or of the engine's job comes, which began
# before it, less the time that the next ones take to be submitted. Slurm tells long jobs up to two minutes before.
batch_seconds() {
  local end began margin=20
  end=$(job_end)
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
  elif [ "$CHAIN_JOB" -ge "$1" ]; then
    REASON="the batch is not done after $1 jobs, which is its max_jobs; $again"
  elif [ "$3" = 1 ] && [ "$BATCH_IDLE" = 1 ]; then
    REASON="two jobs in a row had no answer at all, so no third is submitted; look for the cause in their logs"
  else
    cancel_jobs ${JOBS[@]+"${JOBS[@]}"} # nobody asks them any more
    submit_next "$3"
    code=0 REASON="the batch goes on in job $HANDED_OVER ($((CHAIN_JOB + 1)) of at most $1)"
  fi
}

# submit_next IDLE: the client's job last, which needs to know the others. They begin when these here have ended.
submit_next() {
  local next=$((CHAIN_JOB + 1)) ended="${JOBS[*]-} $JOB_ID" service begun=()
  note_chain "$next" .idle "$1"
  for service in ${CHAIN_SERVICES[@]+"${CHAIN_SERVICES[@]}"}; do
    submit_one "$next" "$service" "$ended" ''
    case $service in monitoring) ;; *) begun+=("${SUCCESSORS[-1]}") ;; esac
  done
  submit_one "$next" client "$ended" "${begun[*]-}" --job "$next"
  if is_stopped; then fail "it was told to end: no job goes on with the batch"; fi
  HANDED_OVER=${SUCCESSORS[-1]}
}

# end_batch CODE: at each end of this job. If nobody goes on, all other jobs end, too; orch is told of it first.
end_batch() {
  local code=$1
  [ -z "$HANDED_OVER" ] || return 0
  case $code in
    143) code=130 ;;
    0) code=${BATCH_CODE:-5} ;; # at the time limit
  esac
  (write_file "$CHAIN_FOLDER/end" "$code" "$REASON")
  cancel_jobs ${SUCCESSORS[@]+"${SUCCESSORS[@]}"} ${JOBS[@]+"${JOBS[@]}"}
}
