# shellcheck shell=bash
# An engine that is there only while somebody asks: the first request has its job submitted, and the job is ended when
# nobody has asked for so long. What runs in this job says what is wanted by files in DOOR (client/idle/); this script,
# which alone can submit, does it:
#   wake    a request waits
#   idle    nobody has asked for so long: why the job is ended
#   engine  this script's: the engine's job, or an empty line if there is none; below it why the last one has failed
# Sourced after door.sh and chain.sh: in `jobs` of that, as the deployment's first, orch finds the engine's job.
# shellcheck disable=SC2153,SC2154 # what job scripts and the other libraries set

ENGINE_JOB=    # as submit_script has it
ENGINE_LOOKS=0 # at it, since then

# begin_on_request FILE: what is told of the end beforehand, which goes with this job.
begin_on_request() {
  TEMPORARY+=("$1")
  tell_engine
  EACH_LOOK+=(keep_engine)
  AT_END+=(end_engine)
}

# start_waiting COMMAND...: where requests wait. It is begun again if it ends.
start_waiting() { keep_begun 'where requests wait for an engine' "$@"; }

# keep_engine: for EACH_LOOK.
keep_engine() {
  [ -z "$ENGINE_JOB" ] || note_end_of_engine
  if [ -e "$DOOR/idle" ]; then
    rest_engine
  elif [ -e "$DOOR/wake" ]; then
    wake_engine
  fi
}

wake_engine() {
  local id why=$DOOR/refused
  rm -f "$DOOR/wake"
  [ -z "$ENGINE_JOB" ] || return 0 # it is on its way
  if is_stopped; then return 0; fi
  if ! id=$(submit_script '' '' "$CHAIN_SCRIPTS.$ENGINE_SERVICE.sh" 2>"$why"); then
    tell_engine "the $ENGINE_TITLE job cannot be submitted from $HOST: $(tail -n 1 "$why")"
    return
  fi
  ENGINE_JOB=$id ENGINE_LOOKS=0
  note_chain 1 "$ENGINE_SERVICE" "$id"
  tell_engine
  say "the $ENGINE_TITLE job $id is submitted: a request waits"
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
    reason="exit code $code${reason:+: $reason}"
  else
    [ $((ENGINE_LOOKS += 1)) -ge 60 ] || return 0
    ENGINE_LOOKS=0
    job_over "$ENGINE_JOB" || return 0
    reason='it was cancelled, or its node has failed'
  fi
  cancel_jobs "$ENGINE_JOB" # it may have been requeued
  reason="the $ENGINE_TITLE job $ENGINE_JOB has ended ($reason)"
  ENGINE_JOB=
  tell_engine "$reason"
  say "$reason"
}

# tell_engine [WHY_THE_LAST_ONE_FAILED]
tell_engine() { write_file "$DOOR/engine" "${ENGINE_JOB%%;*}" "${1-}"; }

# end_engine: at the end of this job nobody asks it any more.
end_engine() { [ -z "$ENGINE_JOB" ] || cancel_jobs "$ENGINE_JOB"; }
