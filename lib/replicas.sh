# shellcheck shell=bash
# Several replicas of an engine in one job: the job's own script begins itself on each of its nodes, with
# --replica, and only watches them. Sourced after service.sh and the scheduler's library.
#
# Files of a replica are named as the job's own, by JOB.RANK in place of the job's id; and
#   logs/JOB.RANK.address   host:port, written once the replica serves
# shellcheck disable=SC2034 # what job scripts read

# become_replica [RANK]: what follows is this replica's, not the whole job's. Before service_begin.
become_replica() { JOB_ID=$JOB_ID.${1:-${RANK:?}}; }

# publish_replica HOST:PORT
publish_replica() { write_file "$OUTPUT/logs/$JOB_ID.address" "$1"; }

# run_replicas COUNT SCRIPT: begins them, publishes where they are once all serve, and stays as long as they do.
run_replicas() {
  local addresses
  REPLICAS=$1
  start_replicas "$2"
  await_replicas
  mapfile -t addresses < <(cat "$OUTPUT/logs/$JOB_ID".*.address)
  publish_address "${addresses[@]}"
  wait "${CHILDREN[@]}"
  fail "$(last_replica)"
}

start_replicas() {
  local rank
  for ((rank = 0; rank < REPLICAS; rank++)); do
    TEMPORARY+=("$OUTPUT/logs/$JOB_ID.$rank".{started,rc,address,image,seal,answer})
  done
  rm -f "${TEMPORARY[@]}" # of this job's run before it was requeued
  run_on_nodes "$REPLICAS" bash "$1" --replica
}

replicas_serve() {
  set -- "$OUTPUT/logs/$JOB_ID".*.address
  [ "$#" -eq "$REPLICAS" ]
}

# Until each replica has written its address; if one has ended, this job does.
await_replicas() {
  local child
  until replicas_serve; do
    for child in "${CHILDREN[@]}"; do
      kill -0 "$child" 2>/dev/null || fail "$(last_replica)"
    done
    compgen -G "$OUTPUT/logs/$JOB_ID.*.rc" >/dev/null && fail "$(last_replica)"
    sleep 0.1
  done
}

# The first reason that a replica left.
last_replica() {
  local file code reason host
  for file in "$OUTPUT/logs/$JOB_ID".*.rc; do
    [ -e "$file" ] || continue
    { read -r code && read -r reason; } <"$file"
    read -r host <"${file%.rc}.started"
    printf 'a replica on %s ended with exit code %s: %s' "$host" "$code" "$reason"
    return
  done
  printf 'the replicas could not be started; the words are in the log'
}
