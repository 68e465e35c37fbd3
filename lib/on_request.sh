# shellcheck shell=bash
# An engine that is there only while somebody asks: the first request has its job submitted, and the job is ended when
# nobody has asked for so long. What runs in this job says what is wanted by files in DOOR (client/idle/); this script,
# which alone can submit, does it:
#   wake    a request waits
#   idle    nobody has asked for so long: why the job is ended
#   engine  this script's: the engine's job, or an empty line if there is none; below it why the last one has failed
#   expected  likewise: when a job that waits in the queue is to begin, in seconds since 1970, if the scheduler says it
# and of the processes that ask the scheduler, which may be slow:
#   asked   "submitted", "refused" or "over", and below it the job, or why not
#   unheard the last one was refused, as far as was heard: the scheduler may have taken it all the same
# Sourced after door.sh, idle.sh and chain.sh: in `jobs` of that, as the deployment's first, orch finds the engine's job.
# shellcheck disable=SC2034,SC2153,SC2154 # what job scripts and the other libraries set

ENGINE_JOB=    # as submit_script has it
ENGINE_ASKER=  # the process that submits it, or asks how it is
ENGINE_LOOKS=0 # until that is asked again

# begin_on_request FILE: what is told of the end beforehand, which goes with this job. If this job ran before, on a node
# that went down, the engine's job that it submitted there may run still.
begin_on_request() {
  IDLE_FILE=$1 # for forget_idle
  ENGINE_JOB=${JOBS[$ENGINE_SERVICE]-}
  [ ! -e "$OUTPUT/logs/${ENGINE_JOB%%;*}.rc" ] || ENGINE_JOB=
  tell_engine
  EACH_LOOK+=(keep_engine)
  AT_END+=(end_engine forget_idle)
}

# start_waiting COMMAND...: where requests wait. It is begun again if it ends.
start_waiting() { keep_begun 'where requests wait for an engine' "$@"; }

# keep_engine: for EACH_LOOK.
keep_engine() {
  if [ -n "$ENGINE_ASKER" ] && ! runs "$ENGINE_ASKER"; then
    forget_child "$ENGINE_ASKER"
    ENGINE_ASKER=
    take_up_answer
  fi
  [ -z "$ENGINE_JOB" ] || note_end_of_engine
  if [ -e "$DOOR/idle" ]; then
    rest_engine
  elif [ -e "$DOOR/wake" ]; then
    wake_engine
  fi
}

# in_background FUNCTION: as ENGINE_ASKER.
in_background() {
  "$1" &
  ENGINE_ASKER=$!
  CHILDREN+=("$ENGINE_ASKER")
}

wake_engine() {
  if [ -n "$ENGINE_JOB" ]; then
    rm -f "$DOOR/wake" # it is on its way
  elif [ -z "$ENGINE_ASKER" ]; then
    rm -f "$DOOR/wake"
    is_stopped || in_background submit_engine
  fi
}

submit_engine() {
  local id='' why=$DOOR/refused
  if [ -e "$DOOR/unheard" ] && ! id=$(unknown_job "$ENGINE_SERVICE"); then
    write_file "$DOOR/asked" refused 'the scheduler does not answer'
  elif [ -n "$id" ] || id=$(submit_script '' '' "$CHAIN_SCRIPTS.$ENGINE_SERVICE.sh" 2>"$why"); then
    rm -f "$DOOR/unheard"
    write_file "$DOOR/asked" submitted "$id"
  else
    : >"$DOOR/unheard"
    write_file "$DOOR/asked" refused "$(tail -n 1 "$why")"
  fi
}

ask_of_engine() {
  if job_over "$ENGINE_JOB"; then
    write_file "$DOOR/asked" over "$ENGINE_JOB"
  elif [ ! -e "$OUTPUT/logs/${ENGINE_JOB%%;*}.started" ]; then
    write_file "$DOOR/expected" "$(expected_start "$ENGINE_JOB")"
  fi
}

take_up_answer() {
  local what='' value=''
  { read -r what && read -r value; } 2>/dev/null <"$DOOR/asked"
  rm -f "$DOOR/asked"
  case $what in
    submitted)
      ENGINE_JOB=$value ENGINE_LOOKS=10 # it has begun by then, or its start may be known
      note_chain 1 "$ENGINE_SERVICE" "$value"
      tell_engine
      say "the $ENGINE_TITLE job $value is submitted: a request waits"
      ;;
    refused) tell_engine "the $ENGINE_TITLE job cannot be submitted from $HOST: $value" ;;
    over) if [ "$value" = "$ENGINE_JOB" ]; then engine_failed 'it was cancelled, or its node has failed'; fi ;;
  esac
}

rest_engine() {
  local why
  read -r why <"$DOOR/idle"
  say "the $ENGINE_TITLE job $ENGINE_JOB is ended: $why"
  end_jobs "$why" ${ENGINE_JOB:+"$ENGINE_JOB"}
  ENGINE_JOB=
  tell_engine
  rm -f "$DOOR/idle"
}

# note_end_of_engine: by its own file; one that was cancelled in the queue has none, so that the scheduler is asked,
# too: twice a minute.
note_end_of_engine() {
  local code='' reason='' file=$OUTPUT/logs/${ENGINE_JOB%%;*}.rc
  if [ -e "$file" ]; then
    { read -r code && read -r reason; } <"$file"
    engine_failed "exit code $code${reason:+: $reason}"
  elif [ $((ENGINE_LOOKS -= 1)) -le 0 ] && [ -z "$ENGINE_ASKER" ]; then
    ENGINE_LOOKS=60
    in_background ask_of_engine
  fi
}

# engine_failed WHY
engine_failed() {
  local why="the $ENGINE_TITLE job $ENGINE_JOB has ended ($1)"
  cancel_jobs "$ENGINE_JOB" # it may have been requeued
  ENGINE_JOB=
  tell_engine "$why"
  say "$why"
}

# tell_engine [WHY_THE_LAST_ONE_FAILED]
tell_engine() {
  rm -f "$DOOR/expected"
  write_file "$DOOR/engine" "${ENGINE_JOB%%;*}" "${1-}"
}

# end_engine: at the end of this job nobody asks it any more; one may be about to be submitted, or be there unheard.
end_engine() {
  if [ -n "$ENGINE_JOB" ]; then
    cancel_jobs "$ENGINE_JOB"
  elif [ -n "$ENGINE_ASKER" ] || [ -e "$DOOR/unheard" ]; then
    mapfile -t ENGINE_JOBS < <(jobs_named "${CHAIN_SCRIPTS##*/}.$ENGINE_SERVICE")
    cancel_jobs ${ENGINE_JOBS[@]+"${ENGINE_JOBS[@]}"}
  fi
}
