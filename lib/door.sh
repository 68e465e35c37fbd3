# shellcheck shell=bash
# The door of a client service: HAProxy (door.cfg) at its published port, which asks for one of the deployment's
# tokens, in front of the service on a socket that nobody else reaches. Sourced after haproxy.sh, which says what
# job scripts set.
#
# Files:
#   deployments/ID/user.token         what its owner sends
#   deployments/ID/user.header        the same, as curl reads it (-H @FILE)
#   deployments/ID/tokens/            of others, by their names: client/named_tokens.py tells HAProxy of them
#   deployments/scrape.token          what Prometheus sends to any deployment of this output directory; orch has made it
# shellcheck disable=SC2034,SC2153,SC2329 # what job scripts read; SERVICE; what start_on_port calls

INTERNAL_TOKEN=   # the file of what the deployment's own parts send
SERVICE_AT=       # the service's socket, as gunicorn has it
START_SECONDS=120 # what the door asks has so long to start
DOOR=             # the folder of HAProxy's sockets

# make_tokens DEPLOYMENT: without security there are none, and the door lets everybody in.
make_tokens() {
  local folder=$OUTPUT/deployments/$1 scrape=$OUTPUT/deployments/scrape.token token name
  require_haproxy
  for name in users sessions scrapers secrets in_flight per_minute handover; do
    (umask 077 && : >"$PROXY_FOLDER/$name") || fail "cannot write into $PROXY_FOLDER"
  done
  mkfifo -m 600 "$PROXY_FOLDER/ended" || fail "cannot write into $PROXY_FOLDER"
  USAGE_FILE=$folder/usage.json
  AT_END+=(end_usage)
  [ "$SECURITY" != none ] || return 0
  INTERNAL_TOKEN=$folder/internal.token
  token_file "$INTERNAL_TOKEN"
  token_file "$folder/user.token"
  [ -s "$scrape" ] || fail "there is no $scrape; deploy again, which makes it"
  { printf '%s owner\n' "$(digest "$folder/user.token")" &&
    printf '%s deployment\n' "$(digest "$INTERNAL_TOKEN")"; } >"$PROXY_FOLDER/users" ||
    fail "cannot write into $PROXY_FOLDER"
  accept scrapers "$scrape"
  read -r token <"$INTERNAL_TOKEN"
  (umask 077 && printf 'engine %s\n' "$token" >"$PROXY_FOLDER/secrets") || fail "cannot write into $PROXY_FOLDER"
  read -r token <"$folder/user.token"
  (umask 077 && printf 'Authorization: Bearer %s\n' "$token" >"$folder/user.header") ||
    fail "cannot write $folder/user.header; make room in that file system"
}

# What each name has used is kept; see client/usage.py.
end_usage() { [ -n "${HANDED_OVER-}" ] || forget_half_written "$USAGE_FILE"; }

# start_behind_door DEFAULT_PORT FUNCTION NAME=VALUE...: FUNCTION starts the service at SERVICE_AT. The variables are
# HAProxy's. Sets PORT, and SERVICE_PID to the service's.
start_behind_door() {
  local service open=0
  if [ "$SECURITY" = none ]; then open=1; fi
  SERVICE_AT=unix:$PROXY_FOLDER/service DOOR=$PROXY_FOLDER
  DOOR_IS_TOLD=("OPEN=$open" "${@:3}")
  start_door() {
    # Its log is a pipe that it holds open itself: what it reports waits there for the service.
    run_haproxy door.cfg SHARED=0 ENGINE=none OLLAMA_API=0 ON_REQUEST=0 HEALTH=/ NEXT_NAME=none "${DOOR_IS_TOLD[@]}" \
      1<>"$PROXY_FOLDER/ended"
  }
  "$2"
  service=$SERVICE_PID
  start_on_port "$1" start_door
  LISTENER_PID=$SERVICE_PID
  end_with "$LISTENER_PID" "$service" &
  CHILDREN+=($!)
  SERVICE_PID=$service
  await_socket service
}

# await_socket NAME: until what the door asks there listens. Before that, nobody is told of the door.
await_socket() {
  local end=$((SECONDS + START_SECONDS))
  until [ -S "$PROXY_FOLDER/$1" ]; do
    kill -0 "$SERVICE_PID" 2>/dev/null || stopped_while_starting "$SERVICE"
    [ "$SECONDS" -lt "$end" ] || fail "nothing listens at the door's socket $1 after $START_SECONDS s; see above for why it does not start"
    sleep 0.05
  done
}

# start_translation COMMAND...: the APIs of OpenAI and Anthropic in front of the engines. It is begun again if it ends.
# It takes as long to start as the service: so it is begun first, and awaited once that is there.
start_translation() {
  keep_begun 'what answers the APIs of OpenAI and Anthropic' "$@" --listen "unix:$PROXY_FOLDER/translation" \
    --engine "unix:$PROXY_FOLDER/engines" --report "$PROXY_FOLDER/ended"
}

# keep_begun WHAT COMMAND...
keep_begun() {
  (
    while :; do
      "${RUN_IN[@]}" "${@:2}"
      say "$1 has ended with exit code $?, and is begun again"
      sleep 1
    done
  ) &
  CHILDREN+=($!)
}
