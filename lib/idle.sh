# shellcheck shell=bash
# The end of a deployment of which nobody asks anything. The client service sees who asks (client/idle/), and says in
# a file of this job, DOOR/idle, that nobody has asked for so long. Sourced after door.sh.
# shellcheck disable=SC2153,SC2154 # what the other libraries set

OTHERS=() # the deployment's other jobs, but those of chain.sh

# begin_idle FILE: what is told of the end beforehand goes with the job, unless others go on.
begin_idle() {
  IDLE_FILE=$1
  EACH_LOOK+=(end_when_idle)
  AT_END+=(forget_idle)
}

forget_idle() { [ -n "${HANDED_OVER-}" ] || forget_written "$IDLE_FILE"; }

# end_when_idle: for EACH_LOOK.
end_when_idle() {
  [ -e "$DOOR/idle" ] || return 0
  read -r REASON <"$DOOR/idle"
  if [ -n "${CHAIN_FOLDER-}" ]; then know_jobs; fi
  end_jobs "$REASON" ${OTHERS[@]+"${OTHERS[@]}"} ${JOBS[@]+"${JOBS[@]}"}
  leave 0
}
