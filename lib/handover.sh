# shellcheck shell=bash
# A deployment that outlives its jobs: its client's job has its successors submitted before its limit comes, hands
# requests over to the next one, and ends. What is to be done when, client/handover/ says, which runs beside the client
# service; what needs the scheduler is done here. Sourced after chain.sh and door.sh.
#
# Files of $PROXY_FOLDER:
#   want.submit     the next jobs are to be submitted; then "submitted" says: 0, or 1 and why not
#   want.expected   when the next one is to begin; then "expected" says it, in seconds since 1970, or nothing; and "over",
#                   which of the next jobs have ended, also without a word: cancelled in the queue, or with their node
#   want.release    the next Qdrant waits for the storage that ours has open, which is to end
#   want.relieve    the next one serves, and nobody asks our engine any more: it is to end
#   want.end        this job is to end: its successor serves
#   want.stop       the deployment is to end: its time has come
# and of $OUTPUT, beside those of chain.sh:
#   deployments/ID.chain/handover.json  how it stands
# shellcheck disable=SC2034,SC2153,SC2154,SC2329 # REASON; what the other libraries set; what serve calls

SUBMITTER=   # the process that submits
OTHERS=()    # what ends with this job, if nobody asks any more (idle.sh)
RELIEVER=    # the process that tells our other jobs to end
HANDED_OVER= # 1 once the next jobs serve
ASKER=       # the one that asks when the next job is to begin

# begin_handover ARGUMENT...: of client/handover; it is begun again if it ends.
begin_handover() {
  local service
  EACH_LOOK+=(look_at_handover)
  if [ "$CHAIN_JOB" = 1 ]; then # orch has submitted these
    # With the cluster that has taken them all, if it was named.
    note_chain 1 client "$JOB_ID${SERVED#"$SERVED_JOB"}"
    for service in "${!JOBS[@]}"; do note_chain 1 "$service" "${JOBS[$service]}"; done
  fi
  (
    while :; do
      "${RUN_IN[@]}" PYTHONPATH="$APP" "$PYTHON" -m client.handover --job "$CHAIN_JOB" --job-id "$JOB_ID" \
        --engine-job "$SERVED_JOB" --qdrant-job "${JOBS[qdrant]-}" --job-end "$(job_end)" --limit "$TIME_LIMIT" \
        --chain "$CHAIN_FOLDER" --output "$OUTPUT" --door "$PROXY_FOLDER" "$@"
      say "what hands the deployment over has ended with exit code $?, and is begun again"
      sleep 1
    done
  ) &
  CHILDREN+=($!)
}

look_at_handover() {
  if [ -n "$SUBMITTER" ] && ! runs "$SUBMITTER"; then
    forget_child "$SUBMITTER"
    SUBMITTER=
    mapfile -t -O "${#OTHERS[@]}" OTHERS < <(sed -n "s/^$((CHAIN_JOB + 1)) [a-z]* //p" "$CHAIN_FOLDER/jobs")
  fi
  if [ -n "$ASKER" ] && ! runs "$ASKER"; then
    forget_child "$ASKER"
    ASKER=
  fi
  if [ -z "$SUBMITTER" ] && wanted submit; then
    HANDED_OVER= # if they did serve, they have ended
    say_when_submitted &
    SUBMITTER=$!
    CHILDREN+=("$SUBMITTER")
  fi
  if [ -z "$ASKER" ] && wanted expected; then
    say_expected &
    ASKER=$!
    CHILDREN+=("$ASKER")
  fi
  if wanted release; then relieve "${JOBS[qdrant]}"; fi
  if wanted relieve; then
    HANDED_OVER=1
    know_jobs
    relieve ${JOBS[@]+"${JOBS[@]}"}
    submit_monitoring &
    CHILDREN+=($!)
  fi
  if wanted stop; then end_chain; fi
  if ! still_relieves && wanted end; then
    REASON="its successor serves"
    leave 0
  fi
}

wanted() { [ -e "$PROXY_FOLDER/want.$1" ] && rm -f "$PROXY_FOLDER/want.$1"; }

# end_if_succeeded WHY: why the engine has ended, when this job begins: it was queued again from a node that went down,
# and others serve by now.
end_if_succeeded() {
  [ "$1" = "its successor serves" ] || return 0
  HANDED_OVER=1 REASON=$1
  leave 0
}

# end_chain: the time until which it was wanted has come.
end_chain() {
  REASON="the time limit of the deployment was reached: it was wanted until then"
  know_jobs
  end_jobs "$REASON" ${JOBS[@]+"${JOBS[@]}"}
  leave 0
}

# relieve ID...: by a process of its own. scancel repeats what Slurm cannot do yet, for a minute if need be: with a job
# whose node was lost that is until it is queued again (which then finds itself what it was to be told).
relieve() {
  relieve_jobs "$@" &
  RELIEVER=$!
  CHILDREN+=("$RELIEVER")
}

# still_relieves: as long as this job has the time to wait for that.
still_relieves() {
  [ -n "$RELIEVER" ] && runs "$RELIEVER" && [ "$(now)" -lt $(($(job_end) - 10)) ]
}

# relieve_jobs ID...: those of them that have not ended. What has may be queued again, if its GPUs were taken from it, and
# would have some for nobody.
relieve_jobs() {
  local id there=()
  for id in "$@"; do
    if [ -e "$OUTPUT/logs/${id%%;*}.rc" ]; then cancel_jobs "$id"; else there+=("$id"); fi
  done
  note_why "its successor serves" ${there[@]+"${there[@]}"}
  tell_jobs ${there[@]+"${there[@]}"}
}

say_expected() {
  local id service over=()
  for service in client ${CHAIN_SERVICES[@]+"${CHAIN_SERVICES[@]}"}; do
    id=$(chain_said $((CHAIN_JOB + 1)) "$service")
    if [ -n "$id" ] && job_over "$id"; then over+=("$id"); fi
  done
  (write_file "$PROXY_FOLDER/over" ${over[@]+"${over[@]}"})
  id=$(chain_said $((CHAIN_JOB + 1)) "$ENGINE_SERVICE")
  (write_file "$PROXY_FOLDER/expected" "$(expected_start "$id")")
}

# say_when_submitted: in a process of its own, since the scheduler may be slow to answer.
say_when_submitted() {
  local why
  if why=$(submit_successors 2>&1 >/dev/null); then
    (write_file "$PROXY_FOLDER/submitted" 0)
  else
    : >"$PROXY_FOLDER/tried"
    (write_file "$PROXY_FOLDER/submitted" 1 "$(tail -n 1 <<<"${why#*: }")")
  fi
}

# submit_successors: what a try before has submitted, and has not ended, stays; the client's job is told the others, so
# that one which came before the newest of them is replaced.
submit_successors() {
  local next=$((CHAIN_JOB + 1)) service id newest begun=()
  for service in ${CHAIN_SERVICES[@]+"${CHAIN_SERVICES[@]}"}; do
    case $service in monitoring) continue ;; esac
    id=$(successor "$service") || exit
    if [ -z "$id" ]; then
      submit_beside "$next" "$service"
      id=${SUCCESSORS[-1]}
      note_chain "$next" .submitted "$(now)"
    fi
    begun+=("$id")
  done
  id=$(successor client) || exit
  newest=$(sed -n "s/^$next \([a-z]*\) .*/\1/p" "$CHAIN_FOLDER/jobs" | grep -v '^monitoring$' | tail -n 1)
  if [ -n "$id" ] && [ "$newest" != client ]; then
    cancel_jobs "$id"
    id=
  fi
  [ -n "$id" ] || submit_one "$next" client '' "${begun[*]-}" --job "$next"
  is_stopped || return 0
  cancel_jobs ${SUCCESSORS[@]+"${SUCCESSORS[@]}"}
  fail "it was told to end: no further job is submitted"
}

# submit_beside NUMBER SERVICE: to begin at once, beside ours; one Qdrant at a time has the storage (storage.sh).
submit_beside() {
  case $2 in
    qdrant) submit_one "$1" "$2" '' '' --after "${JOBS[qdrant]}" ;;
    *) submit_one "$1" "$2" '' '' ;;
  esac
}

# submit_monitoring: one at a time writes its database, so that it begins when the one before has ended. By then the next
# client's job has begun, and knows it only if it looks (know_jobs). Once, also if the next ones are submitted again.
submit_monitoring() {
  local id
  case " ${CHAIN_SERVICES[*]} " in *' monitoring '*) ;; *) return 0 ;; esac
  id=$(successor monitoring) || exit
  [ -z "$id" ] || return 0
  submit_one $((CHAIN_JOB + 1)) monitoring "${JOBS[monitoring]-}" ''
}

# successor SERVICE: prints the id of that job of the next ones, if there is one that has not ended. One that was
# submitted while nobody heard it is found by its name. False if the scheduler does not answer.
successor() {
  local id
  id=$(chain_said $((CHAIN_JOB + 1)) "$1")
  if [ -z "$id" ]; then
    [ -e "$PROXY_FOLDER/tried" ] || return 0
    id=$(unknown_job "$1") || fail "the scheduler does not answer"
    [ -n "$id" ] || return 0
    note_chain $((CHAIN_JOB + 1)) "$1" "$id"
  fi
  if ! job_over "$id"; then
    echo "$id"
  elif [ -e "$OUTPUT/logs/${id%%;*}.rc" ]; then
    cancel_jobs "$id" # it may have been requeued, and would have GPUs for nobody
  fi
}
