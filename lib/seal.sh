# shellcheck shell=bash
# Nobody but who has the deployment's internal token reaches the engine of this job. Sourced after service.sh
# and haproxy.sh, which says what job scripts set.
#
# Engines have no login, and what listens on a node is reached by everybody on the network and on the node. So
# the engine gets a user and a network namespace of its own, for which nobody need be root. There it is alone
# with HAProxy (seal.cfg), which has the one socket that leads in. On a node that does not allow this, HAProxy
# asks for the token all the same, but others of that node reach the engine on loopback.
#
# Files:
#   logs/ID.seal     "sealed", or why not
#   logs/ID.answer   what the engine has answered this script last
#
# Job scripts set, too
#   READ READ_BELOW ASK  what may be asked of the engine (seal.cfg)
#   HEALTH               the path that it answers once it serves
#   PROXIES              by which it reaches a registry: NAME=VALUE...
# shellcheck disable=SC2034,SC2329 # what job scripts read, and what start_on_port calls

IN_SEAL=()  # what runs a command in the engine's network
TOKEN_FILE= # where the token is
ENGINE_AT=  # where the engine listens: host:port in its network
ANSWER=     # what it has answered last

# begin_seal DEPLOYMENT: makes the engine's network. Without one a job of the level `required` ends.
begin_seal() {
  local why=sealed
  TEMPORARY+=("$OUTPUT/logs/$JOB_ID.answer")
  [ "$SECURITY" != none ] || return 0
  TOKEN_FILE=$OUTPUT/deployments/$1/internal.token
  if ! hold_network; then
    why=$(tail -n 1 "$PROXY_FOLDER/why")
    not_sealed "${why:=unshare failed}"
  fi
  write_file "$OUTPUT/logs/$JOB_ID.seal" "$why"
}

# tell_listener: what HAProxy is to know of who may ask the engine, and what.
tell_listener() {
  require_haproxy
  token_file "$TOKEN_FILE"
  accept tokens "$TOKEN_FILE"
  list read ${READ[@]+"${READ[@]}"}
  list read_below ${READ_BELOW[@]+"${READ_BELOW[@]}"}
  list ask ${ASK[@]+"${ASK[@]}"}
}

# list NAME LINE...: writes the file that seal.cfg reads.
list() {
  local line
  for line in "${@:2}"; do printf '%s\n' "$line"; done >"$PROXY_FOLDER/$1" ||
    fail "cannot write $PROXY_FOLDER/$1; make room there"
}

# hold_network: makes a network that a process holds.
hold_network() {
  local word='' pid
  mkfifo "$PROXY_FOLDER/up" || return
  # Where some systems have ip, and an ordinary user does not look.
  PATH=$PATH:/usr/sbin:/sbin unshare --user --map-root-user --net \
    bash -c 'ip link set lo up && echo up && exec sleep infinity >/dev/null 2>&1' >"$PROXY_FOLDER/up" 2>"$PROXY_FOLDER/why" &
  pid=$!
  read -r word <"$PROXY_FOLDER/up"
  [ "$word" = up ] || return
  CHILDREN+=("$pid")
  IN_SEAL=(nsenter --target "$pid" --user --net --preserve-credentials --)
}

sealed() { [ ${#IN_SEAL[@]} -gt 0 ]; }

# not_sealed WHY
not_sealed() {
  [ "$SECURITY" != required ] ||
    fail "$HOST gives its users no network of their own ($1), so that others there would reach the engine; ask for user namespaces on it, or accept that: \"security\": \"token\" in recipe or site profile"
  say "WARNING: others on $HOST reach the engine on loopback, since it gives its users no network of their own ($1)"
}

# start_guarded DEFAULT_PORT FUNCTION: FUNCTION starts the engine at ENGINE_AT, or if that is empty at BIND:PORT. Sets
# PORT to where who has the token may ask it, and SERVICE_PID to the engine's.
start_guarded() {
  local engine bind=$BIND
  if [ "$SECURITY" = none ]; then
    start_on_port "$1" "$2"
    ENGINE_AT=127.0.0.1:$PORT
    await_engine
    return
  fi
  if sealed; then
    ENGINE_AT=127.0.0.1:11434
    PROXIES=("HTTPS_PROXY=$WAY_OUT" NO_PROXY=)
    start_sealed "$2"
  else
    BIND=127.0.0.1
    other_port
    start_on_port "$PORT" "$2"
    ENGINE_AT=127.0.0.1:$PORT BIND=$bind
  fi
  engine=$SERVICE_PID
  tell_listener # while the engine starts, which nobody reaches yet
  start_on_port "$1" start_listener
  if sealed; then hand_listener_over; fi
  rm -rf "$PROXY_FOLDER" # it has been read; who is killed from now on leaves nothing on the node
  LISTENER_PID=$SERVICE_PID
  end_with "$LISTENER_PID" "$engine" &
  CHILDREN+=($!)
  SERVICE_PID=$engine
  await_engine
}

# await_engine: until it says that it serves.
await_engine() {
  until ask_engine GET "$HEALTH" '' 2>/dev/null; do
    kill -0 "$SERVICE_PID" 2>/dev/null || stopped_while_starting "$SERVICE"
    sleep 0.05
  done
}

# start_sealed FUNCTION
start_sealed() {
  local both=("${IN_SEAL[@]}" "${RUN_IN[@]}")
  local RUN_IN=("${both[@]}")
  "$1"
}

# in_seal COMMAND...: runs it where the engine is.
in_seal() { ${IN_SEAL[@]+"${IN_SEAL[@]}"} "$@"; }

start_listener() { run_haproxy seal.cfg ENGINE_AT="$ENGINE_AT"; }

# hand_listener_over: the one so far has bound the port, and reaches nothing from here. Another one, in the
# engine's network, is given its socket.
hand_listener_over() {
  local before=$SERVICE_PID LISTEN_IN=("${IN_SEAL[@]}")
  run_haproxy seal.cfg ENGINE_AT="$ENGINE_AT" -- -x "$PROXY_FOLDER/handover"
  wait_for_port || stopped_while_starting HAProxy
  kill -TERM "$before"
  wait "$before" 2>/dev/null
  forget_child "$before"
}

# ask_engine METHOD PATH BODY: as http, past the listener; sets ANSWER. In the background: a shell that waits
# for a command learns of no signal, and an engine may let us wait for ever.
ask_engine() {
  local code pid
  engine_http "$@" >"$OUTPUT/logs/$JOB_ID.answer" &
  pid=$!
  CHILDREN+=("$pid")
  wait "$pid"
  code=$?
  forget_child "$pid"
  ANSWER=$(<"$OUTPUT/logs/$JOB_ID.answer")
  return "$code"
}

# engine_http METHOD PATH BODY: prints the answer.
engine_http() {
  if sealed; then
    # shellcheck disable=SC2016 # the inner shell's
    BASH_ENV='' exec "${IN_SEAL[@]}" bash -c '. "$1"; PORT=$2; http "${@:3}"' bash \
      "${BASH_SOURCE[0]%/*}/service.sh" "${ENGINE_AT##*:}" "$@"
  fi
  PORT=${ENGINE_AT##*:}
  http "$@"
}

# --- a way out, for fetching a model ---------------------------------------------------------------

# WAY_OUT: what the engine takes for a proxy. It leads somewhere as long as it is open.
WAY_OUT=http://127.0.0.1:3128

# open_way_out [NAME=VALUE...] PYTHON: from the engine's network by HAProxy to a socket, from that to the world.
open_way_out() {
  local LISTEN_IN=(${IN_SEAL[@]+"${IN_SEAL[@]}"}) SERVICE_PID pid
  sealed || return 0
  # By the same name: PROXY_IN shows that to a container.
  { mkdir -m 700 "$PROXY_FOLDER" && cp "${BASH_SOURCE[0]%/*}/way_out.py" "$PROXY_FOLDER"; } ||
    fail "cannot write into $PROXY_FOLDER"
  "${PROXY_IN[@]}" "$@" "$PROXY_FOLDER/way_out.py" "$PROXY_FOLDER/way_out" &
  WAY_OUT_PIDS=("$!")
  CHILDREN+=("$!")
  run_haproxy way_out.cfg
  WAY_OUT_PIDS+=("$SERVICE_PID")
  until [ -S "$PROXY_FOLDER/way_out" ] && BASH_ENV='' in_seal bash -c ': <>/dev/tcp/127.0.0.1/3128' 2>/dev/null; do
    for pid in "${WAY_OUT_PIDS[@]}"; do
      kill -0 "$pid" 2>/dev/null || stopped_while_starting 'what leads out to fetch a model'
    done
    sleep 0.05
  done
}

close_way_out() {
  local pid
  sealed || return 0
  for pid in "${WAY_OUT_PIDS[@]}"; do
    kill -TERM "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    forget_child "$pid"
  done
  rm -rf "$PROXY_FOLDER"
}
