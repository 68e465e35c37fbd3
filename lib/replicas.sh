# shellcheck shell=bash
# Several replicas of an engine in one job. Sourced after service.sh, the scheduler's library and threads.sh.
#
# The job's own script begins itself on each of its nodes, and only watches. With one replica a node that is
# --replica; with several it is --node, which shares out the node's cores and GPUs (placement.sh), begins a
# --replica for each share, and begins one that ends again.
#
# Files of a replica are named as the job's own, by JOB.NUMBER in place of the job's id, those of a node by
# JOB.nodeRANK; and
#   logs/JOB.NUMBER.address   host:port, written once the replica serves
#   logs/JOB.NUMBER.share     where several are on a node: its host, CPUs and GPUs, a line each, as far as known
# shellcheck disable=SC2034 # what job scripts read

# shellcheck source=placement.sh
. "${BASH_SOURCE[0]%/*}/placement.sh"

SHARERS=1          # replicas that divide the cores that this one may run on
REPLICA_GPUS=      # those of this replica, if it has its own
RESTARTS=(1 10 60) # seconds that pass before a replica is begun again, one time after another
FORGIVEN_AFTER=600 # seconds that it served by which what was before does not count

# become_replica [NUMBER [SHARERS [GPUS]]]: what follows is this replica's, not the whole job's. Before
# service_begin.
become_replica() {
  JOB_ID=$JOB_ID.${1:-${RANK:?}} SHARERS=${2:-1} REPLICA_GPUS=${3-}
}

# become_node [RANK]: what follows is of one of the job's nodes. Before service_begin.
become_node() {
  JOB=$JOB_ID NODE=${1:-${RANK:?}}
  JOB_ID=$JOB.node$NODE
}

# publish_replica HOST:PORT
publish_replica() {
  write_file "$OUTPUT/logs/$JOB_ID.address" "$1"
  say "replica ${JOB_ID##*.} serves at $1"
}

# usual_port PORT: where this replica was before it ended, for those who know it by that; else one of its own.
usual_port() {
  local before
  if { read -r before <"$OUTPUT/logs/$JOB_ID.address"; } 2>/dev/null; then
    echo "${before##*:}"
  else
    echo $(($1 + ${JOB_ID##*.} % 100))
  fi
}

# --- the whole job -------------------------------------------------------------------------------

# run_replicas NODES PER_NODE SCRIPT: begins them, publishes where they are once all serve, and stays as long as
# they do.
run_replicas() {
  REPLICAS=$(($1 * $2))
  start_replicas "$@"
  await_replicas
  mapfile -t ADDRESSES < <(replica_addresses)
  publish_address "${ADDRESSES[@]}"
  if [ "$2" -gt 1 ]; then follow_replicas; fi
  wait "${CHILDREN[@]}"
  fail "$(last_replica)"
}

start_replicas() {
  local i mode=--replica
  for ((i = 0; i < REPLICAS; i++)); do
    TEMPORARY+=("$OUTPUT/logs/$JOB_ID.$i".{started,rc,address,share,image,seal,answer,loading})
  done
  for ((i = 0; i < $1; i++)); do TEMPORARY+=("$OUTPUT/logs/$JOB_ID.node$i".{started,rc,image}); done
  rm -f "${TEMPORARY[@]}" # of this job's run before it was requeued
  if [ "$2" -gt 1 ]; then mode=--node; fi
  run_on_nodes "$1" bash "$3" "$mode"
}

replicas_serve() {
  set -- "$OUTPUT/logs/$JOB_ID".*.address
  [ "$#" -eq "$REPLICAS" ]
}

# In the order of their numbers, so that each keeps its place.
replica_addresses() {
  local i
  for ((i = 0; i < REPLICAS; i++)); do cat "$OUTPUT/logs/$JOB_ID.$i.address"; done
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

# follow_replicas: where one that was begun again is another address, that is published; until all have ended.
follow_replicas() {
  local addresses
  while children_run; do
    sleep 1
    mapfile -t addresses < <(replica_addresses)
    if [ "${addresses[*]}" != "${ADDRESSES[*]}" ] && [ "${#addresses[@]}" -eq "$REPLICAS" ]; then
      ADDRESSES=("${addresses[@]}")
      publish_address "${ADDRESSES[@]}"
    fi
  done
}

children_run() {
  local child
  for child in "${CHILDREN[@]}"; do
    if runs "$child"; then return; fi
  done
  return 1
}

# The first reason that a replica left.
last_replica() {
  local file code reason place
  for file in "$OUTPUT/logs/$JOB_ID".*.rc; do
    [ -e "$file" ] || continue
    { read -r code && read -r reason; } <"$file"
    read -r place <"${file%.rc}.started"
    printf 'a replica on %s ended with exit code %s: %s' "$place" "$code" "$reason"
    return
  done
  printf 'the replicas could not be started; the words are in the log'
}

# --- one of its nodes ----------------------------------------------------------------------------

# keep_replicas SCRIPT PER_NODE GPUS VENDOR NODES_HERE: begins the replicas of this node, with GPUs devices each, and
# stays as long as one of them is to serve. NODES_HERE: so many nodes of the job are this machine.
keep_replicas() {
  local number all=$(($2 * $5)) keepers=()
  share_cores "$all"
  share_gpus "$all" "$3" "$4"
  for ((number = NODE * $2; number < (NODE + 1) * $2; number++)); do
    keep_replica "$1" "$number" "$4" "${CORE_SHARES[number%all]-}" "${GPU_SHARES[number%all]-}" &
    keepers+=($!)
  done
  CHILDREN+=("${keepers[@]}")
  wait "${keepers[@]}"
  fail "none of its replicas is left"
}

# keep_replica SCRIPT NUMBER VENDOR CPUS GPUS: as long as it is to serve. One that ends before all serve ends the job.
keep_replica() {
  local number=$2 began reason restarts=0
  local command=(env "ORCH_REPLICA=$JOB.$2" bash "$1" --replica "$2" "$SHARERS" "$5")
  if [ -n "$4" ]; then command=(taskset --cpu-list "$4" "${command[@]}"); fi
  if [ -n "$5" ]; then command=(only_gpus "$3" "$5" "${command[@]}"); fi
  write_file "$OUTPUT/logs/$JOB.$number.share" "$HOST" "$4" "$5"
  say "replica $number has ${4:+the CPUs }${4:-the cores of the job}${5:+ and the GPUs $5}"
  while :; do
    began=$SECONDS
    "${command[@]}" > >(label "$number") 2> >(label "$number" >&2)
    end_rest "$JOB.$number"
    until [ -e "$OUTPUT/${SERVICE}_ip_$JOB.txt" ]; do sleep 1; done # else the job ends, and this with it
    if [ $((SECONDS - began)) -ge "$FORGIVEN_AFTER" ]; then restarts=0; fi
    reason=$(sed -n 2p "$OUTPUT/logs/$JOB.$number.rc" 2>/dev/null)
    reason="replica $number on $HOST has ended${reason:+ ($reason)}"
    [ "$restarts" -lt ${#RESTARTS[@]} ] || break
    say "$reason, and is begun again in ${RESTARTS[restarts]} s"
    sleep "${RESTARTS[restarts]}"
    restarts=$((restarts + 1))
  done
  say "$reason, for the time $((restarts + 1)) in a row, and is not begun again"
}

# end_rest REPLICA: what its script has begun and, if it was killed, could not end: else an engine that nobody
# knows of keeps the GPUs, and the port. A scheduler sees to that only where nothing else of the job is left.
end_rest() {
  local left FOLDERS=()
  mapfile -t left < <(grep -lzxF "ORCH_REPLICA=$1" /proc/[0-9]*/environ 2>/dev/null | cut -d / -f 3)
  end_all ${left[@]+"${left[@]}"}
}

# label NUMBER: puts it before each line. It lasts until all who write have ended, whatever they are told.
label() {
  trap '' TERM INT
  exec sed -u "s/^/[$1] /"
}
