# shellcheck shell=bash
# Who is told that a deployment is ready, and that it has ended or failed: a command and a webhook, once each. Whoever
# cannot be told keeps nothing from going on. Sourced after door.sh, and chain.sh if there is that.
#
# Files:
#   deployments/ID.notify  who could not be told, a line each
# shellcheck disable=SC2153,SC2154 # what job scripts and the other libraries set

NOTIFY_S=10        # that a command, or a webhook, is waited for
NOTIFY_COMMAND=()  # and its arguments
NOTIFY_WEBHOOK=    # a URL
NOTIFY_PROXIES=()  # NAME=VALUE, on the way there
NOTIFY_DEPLOYMENT= # its id
NOTIFY_MODEL=      # its model
NOTIFY_ADDRESS=    # its URL, once that is known

# begin_notify DEPLOYMENT MODEL
begin_notify() {
  NOTIFY_DEPLOYMENT=$1 NOTIFY_MODEL=$2
  AT_END+=(notify_end)
}

# notify_ready URL: once the client service, which looks for the engines, says that they answer.
notify_ready() {
  NOTIFY_ADDRESS=$1
  (
    of_notify 60 --await "$DOOR" || exit
    notify ready
  ) &
  CHILDREN+=($!)
}

# notify_end CODE: at the end of the job, unless others go on with its work.
notify_end() {
  if [ -n "${HANDED_OVER-}" ] || another_serves "$1"; then return 0; fi
  case $1 in
    0 | 130 | 143) notify ended ;;
    *) notify failed ;;
  esac
}

# another_serves CODE: of jobs that follow one another, this one has ended before it served, or by itself, and the one
# before it is there, which has another one submitted in its place.
another_serves() {
  local before
  [ "${CHAIN_JOB-1}" -gt 1 ] || return 1 # at an exit a bare one is its code
  if [ -n "$(chain_said "$CHAIN_JOB" .serves)" ] && { [ "$1" = 0 ] || is_stopped; }; then return 1; fi
  before=$(chain_said $((CHAIN_JOB - 1)) client)
  [ -n "$before" ] && ! job_over "$before"
}

# Both at once: a job that is cancelled has 30 s to its end, for all that it does then (Slurm's KillWait).
notify() {
  local told=(ORCH_ID="$NOTIFY_DEPLOYMENT" ORCH_STATE="$1" ORCH_ADDRESS="$NOTIFY_ADDRESS" ORCH_MODEL="$NOTIFY_MODEL")
  local why code answer=
  told+=(ORCH_REASON="$REASON")
  if [ -n "$NOTIFY_WEBHOOK" ]; then
    exec {answer}< <(of_notify "$NOTIFY_S" "${told[@]}" ORCH_WEBHOOK="$NOTIFY_WEBHOOK" 2>&1 && echo told)
  fi
  if [ "${#NOTIFY_COMMAND[@]}" -gt 0 ]; then
    timeout -k 1 "$NOTIFY_S" env "${told[@]}" "${NOTIFY_COMMAND[@]}" </dev/null
    code=$?
    case $code in
      0) ;;
      124 | 137) not_told "$1" "the command ${NOTIFY_COMMAND[0]} did not end in $NOTIFY_S s" ;;
      *) not_told "$1" "the command ${NOTIFY_COMMAND[0]} has ended with exit code $code" ;;
    esac
  fi
  if [ -n "$answer" ]; then
    why=$(cat <&"$answer")
    exec {answer}<&-
    [ "${why##*$'\n'}" = told ] || not_told "$1" "the webhook: ${why:-it did not answer in $NOTIFY_S s}"
  fi
}

# of_notify SECONDS [NAME=VALUE...] [OPTION...]: runs client/notify.
of_notify() {
  local seconds=$1 variables=()
  shift
  while [ $# -gt 0 ] && [[ $1 != --* ]]; do
    variables+=("$1")
    shift
  done
  [ -n "${PYTHON-}" ] || return # the job has ended before it had one
  timeout -k 1 "$seconds" "${RUN_IN[@]}" ${NOTIFY_PROXIES[@]+"${NOTIFY_PROXIES[@]}"} \
    ${variables[@]+"${variables[@]}"} PYTHONPATH="$APP" "$PYTHON" -m client.notify "$@" </dev/null
}

# not_told STATE WHY
not_told() {
  say "not told that the deployment is $1: $2"
  printf '%s\n' "not told that it is $1: $2" >>"$OUTPUT/deployments/$NOTIFY_DEPLOYMENT.notify"
} 2>/dev/null
