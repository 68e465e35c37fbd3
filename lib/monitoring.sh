# shellcheck shell=bash
# What runs beside a service so that Prometheus sees it. Sourced after service.sh if the deployment
# has monitoring; job scripts set SECURITY (haproxy.sh). None of it is needed by the service: what does
# not start is said in the log, and Prometheus shows its target as down.
#
# Files, all under the output directory and named after the job's id:
#   prometheus_assets/KIND_targets_ID.json  a target, in the format of Prometheus's file_sd

# register_target KIND HOST:PORT [SCHEME]: for Prometheus to scrape. JOB_ID is JOB.NUMBER for a replica, JOB.nodeRANK
# for what several of them have beside them; a replica with GPUs of its own has those as REPLICA_GPUS.
register_target() {
  local rank=${JOB_ID#"${JOB_ID%%.*}"} label labels=
  case $rank in .node*) rank= ;; esac
  for label in "deployment $DEPLOYMENT" "service $JOB_SERVICE" "job_id ${JOB_ID%%.*}" \
    "node $HOST" "replica ${rank#.}" ${REPLICA_GPUS:+"gpu $REPLICA_GPUS"}; do
    labels+="${labels:+, }\"${label%% *}\": \"${label#* }\""
  done
  if [ $# -gt 2 ]; then labels+=", \"__scheme__\": \"$3\""; fi
  write_file "$(target_file "$1")" "[{\"targets\": [\"$2\"], \"labels\": {$labels}}]"
}

target_file() { printf '%s/prometheus_assets/%s_targets_%s.json' "$OUTPUT" "$1" "$JOB_ID"; }

# beside KIND DEFAULT_PORT START [GET_READY...]: runs a service beside the job's own, in a shell of its
# own, so that its end is not the job's. See serve_beside.
beside() {
  local kind=$1
  PUBLISHED+=("$(target_file "$kind")" "$OUTPUT/${kind}_ip_$JOB_ID.txt")
  (serve_beside "$@") &
  CHILDREN+=($!)
}

# serve_beside KIND DEFAULT_PORT START [GET_READY...]: calls GET_READY, has START start a service on
# DEFAULT_PORT or another free one, calls KIND_runs, and stays as long as the service does. It ends
# the shell that it is called in. Replicas share out all cores of a job, so that none is left over for what
# watches them: that yields instead. Not to the last (19): on cores that an engine's threads never leave, a
# scrape would come too late.
serve_beside() {
  # shellcheck disable=SC2034 # service.sh's functions read SERVICE
  SERVICE=$1 CHILDREN=() TEMPORARY=()
  trap 'trap "" TERM INT; rm -rf ${TEMPORARY[@]+"${TEMPORARY[@]}"}' EXIT
  trap 'exit 143' TERM
  trap 'exit 130' INT
  renice -n 10 -p "$BASHPID" >/dev/null 2>&1
  if [ $# -gt 3 ]; then "${@:4}"; fi
  start_on_port "$2" "$3"
  "${1}_runs"
  wait "$SERVICE_PID"
  fail "stopped by itself with exit code $?"
}

# first_program NAME...: sets PROGRAM to the first of them that there is where services run.
first_program() {
  local name
  for name in "$@"; do
    # shellcheck disable=SC2016 # the inner shell's, which may be in an image
    if "${RUN_IN[@]}" sh -c 'command -v "$1"' sh "$name" >/dev/null 2>&1; then
      PROGRAM=$name
      return
    fi
  done
  fail "there is no $(printf ' or %s' "$@" | cut -c 5-) where it is to run on $HOST"
}

# ask_for_login OPTION FILE: sets LOGIN to what makes a program ask for the monitoring's login, which orch has
# written (hpc/deployments/login.py).
ask_for_login() {
  local file=$OUTPUT/deployments/$2
  LOGIN=()
  [ "$SECURITY" != none ] || return 0
  [ -s "$file" ] || fail "there is no $file, by which others are kept out; deploy again, which makes it"
  LOGIN=("$1=$file")
}

# --- the exporters of a node ---------------------------------------------------------------------

# What Prometheus and our dashboards ask for: each further collector is paid for at each scrape.
NODE_COLLECTORS=(cpu diskstats filesystem loadavg meminfo netdev pressure stat time uname)

start_node() {
  local name collectors=()
  ask_for_login --web.config.file scrape.users
  for name in "${NODE_COLLECTORS[@]}"; do collectors+=("--collector.$name"); done
  run_service GOMAXPROCS=1 "$PROGRAM" --web.listen-address="$BIND:$PORT" --web.disable-exporter-metrics \
    --collector.disable-defaults "${collectors[@]}" --log.level=error ${LOGIN[@]+"${LOGIN[@]}"}
}

node_runs() { register_target node "$ADDRESS:$PORT"; }
