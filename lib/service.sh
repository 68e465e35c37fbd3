# shellcheck shell=bash
# What every job script sources: start a service, publish its address, leave nothing behind.
#
# Files of a job, all under the output directory and named after the job's id:
#   logs/ID.started            the job runs (first line: its host)
#   <service>_ip_ID.txt        host:port, written once the service answers
#   prometheus_assets/…_ID.json  what Prometheus is to scrape; see monitoring.sh
#   logs/ID.gpus               the GPUs that it has, and their driver
#   logs/ID.image              the image that it runs in (see containers.sh)
#   logs/ID.seal               how its engine is kept from others (see seal.sh)
#   logs/ID.prepared           its Qdrant waits for the one before it (see storage.sh)
#   logs/ID.told               another job of the deployment has told it to end: why
#   logs/ID.rc                 the job has ended (first line: exit code, second: why)
#
# After this file comes scheduler/NAME.sh, of the scheduler that runs the job (`library` of its kind, see
# hpc/scheduler/kind.py). That sets
#   JOB_ID       what the job's files are named after
#   FULL_JOB_ID  by what other jobs ask for it: NUMBER;CLUSTER if there are clusters
#   JOB_END      when its time limit ends, in seconds since 1970; empty if the scheduler does not say
#   SUBMIT_HOST  where it was submitted; empty if that is this machine
#   RANK         which one this is of what run_on_nodes has begun; empty if it is told by an argument
#   REQUEUED     not empty if the job ran before, on a node that went down or was taken from it
#   JOB_GPUS     the job's GPUs on this node, 0,1 or so, if the scheduler says it; else empty
# and has these functions:
#   granted_cores               prints the cores of the job's tasks, as the scheduler says; the least counts
#   run_on_nodes N COMMAND...   begins COMMAND on each of the job's N nodes, as CHILDREN
#   is_job_id ID                whether a job is this scheduler's
#   state_of_job ID             prints its state, in Slurm's words; "unknown" if the scheduler does not know
#                               the job; false if it does not answer
#   job_has_ended ID            whether the scheduler has seen it end
#   cancel_jobs ID...           asks for their end; those that have ended do not matter
#   list_jobs ID...             prints a line "NUMBER|STATE|BEGINS|ENDS|NODES|REASON" for each that the scheduler knows,
#                               times as 2026-12-24T08:00:00; false if there is nobody to ask, or no answer
#   tell_jobs ID...             the same, but how they end is for them to say: they are not cancelled
#   jobs_named NAME             prints the ids of the user's jobs of that name that have not ended
#   expected_start ID           prints when a job that waits is to begin, in seconds since 1970; nothing if not known
#   submit_script ENDED BEGUN SCRIPT [ARGUMENT...]
#                               submits it and prints the job's id, to begin once the jobs of the one list (of ids with
#                               blanks between them) have ended, and those of the other have begun; false if it is
#                               refused, with the reason on stderr

# What a site has its batch shells read first ($BASH_ENV) is not to change what is written here. Its traps
# the job scripts reset themselves: bash puts those back at the end of a sourced file.
set +eCf
shopt -u failglob nullglob nocasematch nocaseglob extdebug expand_aliases
unalias -a
IFS=$' \t\n'
unset CDPATH

read -r HOST </proc/sys/kernel/hostname # the environment may have another machine's
REASON=
CHILDREN=()
PUBLISHED=()  # files that say that the service is there
STARTED_WITH= # what a service is given that may keep it from starting
EACH_LOOK=()  # functions that are called about twice a second while the service lives; they wait for nothing
AT_END=()     # functions that are called, with the exit code, when the service has ended, before that is removed
WHY_STOPPED=  # a function that prints why it has stopped, as far as that is known
TEMPORARY=()  # what is of no use to anybody when this ends
FOLDERS=()    # of this node, likewise
LISTENER_PID= # HAProxy's, if that is at the service's port
RUN_IN=(env)  # what runs a service's command, in front of NAME=VALUE... COMMAND; see enter_image

# service_begin NAME OUTPUT_DIR TIME_LIMIT_SECONDS
service_begin() {
  # shellcheck disable=SC2034 # monitoring.sh reads JOB_SERVICE: SERVICE is another beside the job's own
  SERVICE=$1 JOB_SERVICE=$1 OUTPUT=$2 TIME_LIMIT=$3
  # What this job left when it ran before and was requeued from a node that went down.
  rm -f "$OUTPUT/logs/$JOB_ID".{rc,started,image,seal,answer,loading,prepared} "$OUTPUT/${SERVICE}_ip_$JOB_ID.txt"
  trap 'finish $?' EXIT
  trap 'on_signal 143' TERM
  trap 'on_signal 130' INT
  clean_environment
  write_file "$OUTPUT/logs/$JOB_ID.started" "$HOST"
  say "job $JOB_ID runs on $HOST"
  remove_abandoned
  end_if_told
}

# end_if_told: when it ran before, on a node that nobody reached, it could not be told to end.
end_if_told() {
  local told=$OUTPUT/logs/$JOB_ID.told
  [ -e "$told" ] || return 0
  TEMPORARY+=("$told")
  if [ -n "${REQUEUED-}" ]; then
    read -r REASON <"$told"
    leave 0
  fi
  rm -f "$told" # of another job, which had this number
}

# A scheduler may hand the submitter's environment to the job. These variables would change what the
# services do without a trace in the recipe.
clean_environment() {
  local name
  for name in $(compgen -v OLLAMA_) PYTHONPATH PYTHONHOME PYTHONSTARTUP GUNICORN_CMD_ARGS; do
    unset "$name"
  done
}

say() { printf '%(%T)T %s: %s\n' -1 "$SERVICE" "$*"; }

# leave CODE: ends the job. bash cleans up (finish) once: a signal that comes when it has begun to end, and before
# finish() keeps signals off, would end it there and then, as if somebody had killed it.
leave() {
  trap '' TERM INT
  exit "$1"
}

# fail SENTENCE: ends the job; orch shows the sentence to the user.
fail() {
  REASON=$*
  printf '%s: %s\n' "$SERVICE" "$REASON" >&2
  leave 1
}

# write_file PATH LINE...: a reader sees all of it or nothing. Jobs on several nodes, whose processes may have the
# same number, may write the same at once.
write_file() {
  local path=$1 temporary why
  shift
  temporary=${path%/*}/.${path##*/}.${JOB_ID-}.$$
  TEMPORARY+=("$temporary") # a signal to all of the job ends mv, too, and then us before the next line
  if ! why=$({ printf '%s\n' "$@" >"$temporary"; } 2>&1) || ! mv -f "$temporary" "$path" 2>/dev/null; then
    rm -f "$temporary"
    fail "cannot write $path${why:+: ${why##*: }}; make room in that file system, or check its permissions"
  fi
}

# forget_written PATH: removes a file that Python of ours writes, and what it was writing there when it was ended; see
# write_whole() in contracts/files.py.
forget_written() {
  rm -f "$1"
  forget_half_written "$1"
}

forget_half_written() { rm -f "${1%/*}/.${1##*/}".????????????????????????????????; }

# random_word LENGTH: sets WORD to letters and digits that nobody guesses.
random_word() {
  local LC_ALL=C some # C: by bytes
  WORD=
  while [ "${#WORD}" -lt "$1" ]; do
    IFS= read -r -N 128 some </dev/urandom
    WORD+=${some//[!A-Za-z0-9]/}
  done
  WORD=${WORD:0:$1}
}

# --- ends ----------------------------------------------------------------------------------------

on_signal() {
  local code=$1
  REASON="it was told to end: cancelled, or its time limit was reached"
  # The end that every deployment comes to is no failure. --signal comes a minute or two ahead.
  if [ "$SECONDS" -ge $((TIME_LIMIT - 150)) ] && [ "$TIME_LIMIT" -ge 600 ]; then
    REASON="the time limit was reached"
    code=0
  fi
  # What the deployment's own jobs end is none, either; see end_jobs.
  if read -r REASON <"$OUTPUT/logs/$JOB_ID.told"; then
    TEMPORARY+=("$OUTPUT/logs/$JOB_ID.told")
    code=0
  fi 2>/dev/null
  leave "$code"
}

finish() {
  local code=$1 at_end result=$OUTPUT/logs/$JOB_ID.rc
  trap '' TERM INT # cleaning up is not to be interrupted; SIGKILL follows soon enough
  trap - EXIT
  if taken_over; then
    PUBLISHED=() AT_END=() TEMPORARY=() result=
    REASON="it was requeued while nobody reached $HOST, and runs elsewhere"
  fi
  unpublish
  stop_children
  unpublish # what one of them was about to write
  for at_end in ${AT_END[@]+"${AT_END[@]}"}; do "$at_end" "$code"; done
  rm -rf ${TEMPORARY[@]+"${TEMPORARY[@]}"} ${FOLDERS[@]+"${FOLDERS[@]}"}
  say "ends with exit code $code${REASON:+: $REASON}"
  [ -z "$result" ] || write_file "$result" "$code" "$REASON"
  exit "$code"
}

# taken_over: whether the scheduler gave this node up, and began the job again on another one, whose files have the same
# names. What runs here is ended once the node is there again.
taken_over() {
  local host
  { read -r host <"$OUTPUT/logs/$JOB_ID.started"; } 2>/dev/null && [ "$host" != "$HOST" ]
}

unpublish() { rm -f ${PUBLISHED[@]+"${PUBLISHED[@]}"}; } # so written, an empty array is no error in bash < 4.4

# All of a service's processes are told at once, as scancel does it, and have time to write down what they
# have: a load generator its results.
stop_children() {
  local pid all=()
  for pid in ${CHILDREN[@]+"${CHILDREN[@]}"}; do mapfile -t -O "${#all[@]}" all < <(descendants "$pid"); done
  mapfile -t -O "${#all[@]}" all < <(orphans)
  end_all ${all[@]+"${all[@]}"}
}

end_all() {
  # 20 s by the clock, since each look takes long on a busy node: SIGKILL comes 30 s after SIGTERM (KillWait), and
  # something is left to do.
  local pid looks=0 end=$((SECONDS + 20))
  [ "$#" -gt 0 ] || return 0
  kill -TERM "$@" 2>/dev/null
  for pid in "$@"; do
    while runs "$pid" && [ "$SECONDS" -lt "$end" ]; do
      sleep 0.1
      # They have been told, and SIGKILL may come to us before they have ended.
      if [ $((looks += 1)) = 5 ]; then rm -rf ${FOLDERS[@]+"${FOLDERS[@]}"}; fi
    done
    kill -KILL "$pid" 2>/dev/null
  done
}

# runs PID: one that has ended is there until its parent, perhaps init, asks for it.
runs() {
  local stat
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null && [[ ${stat##*) } != [ZX]* ]]
}

# forget_child PID: it has ended, and somebody else's process may come to have its number.
forget_child() {
  local pid others=()
  for pid in "${CHILDREN[@]}"; do [ "$pid" = "$1" ] || others+=("$pid"); done
  CHILDREN=(${others[@]+"${others[@]}"})
}

# aside COMMAND...: in the background, so that a signal is heeded at once.
aside() {
  local pid code
  "$@" &
  pid=$!
  CHILDREN+=("$pid")
  wait "$pid"
  code=$?
  forget_child "$pid"
  return "$code"
}

# take_lock FD: waits for the lock of the file that is open there; false where there is none: no flock on this node, or a
# file system without locks.
take_lock() { command -v flock >/dev/null && aside flock "$1" 2>/dev/null; }

# --- starting ------------------------------------------------------------------------------------

# make_folder: sets FOLDER, of this node, which nobody else enters, and which goes with the job. Who is killed, as all are on a
# node that was given up and is there again, removes nothing: so the kernel's lock on `held` says that somebody of the job
# is left. It is there under its name once it is locked, with the name of the node, since TMPDIR may be a shared folder.
make_folder() {
  local lock
  # Its name is kept first: the job may be told to end as soon as it is there.
  random_word 10
  FOLDER=$(place_of_folders)/orch.$WORD
  FOLDERS+=("$FOLDER")
  mkdir -m 700 "$FOLDER" || fail "cannot make a folder in ${FOLDER%/*} on $HOST; make room there"
  if command -v flock >/dev/null && { exec {lock}>"$FOLDER/.held"; } 2>/dev/null; then
    echo "$HOST" >&"$lock" && flock --nonblock "$lock" && mv "$FOLDER/.held" "$FOLDER/held"
  fi 2>/dev/null
}

# place_of_folders: prints where they are made: in TMPDIR, if the names of sockets there are no longer than HAProxy takes
# (97 bytes), and have nothing in them by which it, or a container's --bind, would end them.
place_of_folders() {
  local LC_ALL=C place=${TMPDIR:-/tmp} # C: by bytes
  if [ "${#place}" -gt 64 ] || [[ $place == *[,:\(\)\'\"\\]* ]]; then place=/tmp; fi
  printf '%s\n' "$place"
}

# remove_abandoned: the folders of our killed jobs on this node.
remove_abandoned() {
  local folder host lock
  for folder in "$(place_of_folders)"/orch.??????????; do
    if [ -O "$folder" ] && [ ! -L "$folder" ] && read -r host <"$folder/held" && [ "$host" = "$HOST" ] &&
      exec {lock}<"$folder/held"; then
      if flock --nonblock "$lock"; then rm -rf "$folder"; fi
      exec {lock}<&-
    fi
  done 2>/dev/null
}

# load_modules LINE...: `module load` of each line, by a shell of its own (see load_modules.sh); what that
# made of the environment is taken over.
load_modules() {
  local folder ours
  make_folder
  folder=$FOLDER
  ours=$(comm -23 <(compgen -v | sort) <(compgen -e | sort))
  ORCH_OURS=${ours//$'\n'/ } bash "${BASH_SOURCE[0]%/*}/load_modules.sh" "$folder/environment" "$@" \
    >"$folder/said" 2>&1 </dev/null &
  CHILDREN+=($!)
  wait "$!"
  forget_child "$!"
  cat "$folder/said" >&2
  check_modules "$folder" "$@"
  # shellcheck source=/dev/null
  . "$folder/environment"
  rm -rf "$folder"
}

# check_modules FOLDER LINE...: ends the job if one could not be loaded. Old module functions say
# so, and return 0.
check_modules() {
  local folder=$1 loaded line errors what
  shift
  line=$(tail -n 1 "$folder/environment" 2>/dev/null)
  [ "$line" != '# none' ] || fail "the site asks for modules, but $HOST has no 'module'"
  errors=$(grep -E 'ERROR:|[Uu]nable to locate a modulefile|detected the following error' "$folder/said")
  if [ "$line" != '# all' ]; then
    what=/etc/profile
    case $line in '# load '*) what="module load ${line#\# load }" ;; esac
    fail "$what failed on $HOST${errors:+: ${errors##*$'\n'}}; see 'module avail'"
  fi
  [ -n "$errors" ] || return 0
  loaded=$(sed -n 's/^export LOADEDMODULES="\(.*\)"$/\1/p' "$folder/environment")
  for line in "$@"; do
    all_loaded "$loaded" "$line" || fail "module load $line failed on $HOST: ${errors##*$'\n'}"
  done
}

# all_loaded LOADED LINE: whether each module of a line is in the list a:b:c, by its name or with a version.
all_loaded() {
  local word words
  read -ra words <<<"$2"
  for word in "${words[@]}"; do
    case $word in -*) continue ;; esac
    case :$1: in *":$word:"* | *":${word%/}/"*) ;; *) return 1 ;; esac
  done
}

# require_command NAME REMEDY
require_command() {
  command -v "$1" >/dev/null || fail "there is no $1 on $HOST's PATH; $2"
}

# require_port DEFAULT: sets PORT to a port that nobody on this host listens on.
require_port() {
  PORT=$1
  if port_taken "$PORT"; then other_port; fi
}

# other_port: sets PORT to a free one that is not of those which outgoing connections get: such a one is
# in use at any moment.
other_port() {
  local low high first=10000
  read -r low high </proc/sys/net/ipv4/ip_local_port_range 2>/dev/null || low=32768 high=60999
  if [ $((low - first)) -lt 1000 ]; then first=$((high + 1)) low=65536; fi
  if [ $((low - first)) -lt 1000 ]; then first=20000; fi
  while :; do
    PORT=$((first + (RANDOM * 32768 + RANDOM) % (low - first)))
    port_used "$PORT" || return 0
  done
}

# sockets PORT [STATE]: sets INODES to those of the sockets that have it as theirs, whoever's they are; false if
# there is none. Bash alone: we ask time and again, while what is to start needs the cores.
sockets() {
  local port file line lines fields
  printf -v port ':%04X ' "$1"
  INODES=()
  for file in /proc/net/tcp{,6}; do
    { mapfile -t lines <"$file"; } 2>/dev/null || continue
    for line in "${lines[@]}"; do
      [[ $line == *"$port"* ]] || continue
      read -ra fields <<<"$line"
      if [[ "${fields[1]} " == *"$port" && ${fields[3]} == "${2-${fields[3]}}" ]]; then INODES+=("${fields[9]}"); fi
    done
  done
  [ "${#INODES[@]}" -gt 0 ]
}

port_taken() { sockets "$1" 0A; }

# Also by a connection, that stands or has just ended.
port_used() { sockets "$1"; }

# run_service [NAME=VALUE...] COMMAND...: starts it in the background and sets SERVICE_PID.
run_service() {
  "${RUN_IN[@]}" "$@" &
  SERVICE_PID=$!
  CHILDREN+=("$SERVICE_PID")
}

# descendants PID: and PID itself
descendants() {
  local list child children
  echo "$1"
  for list in "/proc/$1/task/"*/children; do
    children=()
    { read -ra children <"$list"; } 2>/dev/null
    for child in ${children[@]+"${children[@]}"}; do descendants "$child"; done
  done
}

# orphans: the processes of our group whose parent has ended, such as the load generator of a client service
# that was killed. They are ended with the script, and they have something to write down.
orphans() {
  local path stat fields pid
  local -A parents=()
  for path in /proc/[0-9]*/stat; do
    { read -r stat <"$path"; } 2>/dev/null || continue
    read -ra fields <<<"${stat##*) }" # state, parent, group
    [ "${fields[2]}" != "$$" ] || parents[${stat%% *}]=${fields[1]}
  done
  for pid in "${!parents[@]}"; do
    [ "$pid" = "$$" ] || [ -n "${parents[${parents[$pid]}]-}" ] || echo "$pid"
  done
}

# Whether it is our service that has one of INODES: somebody else may have been quicker.
service_has_socket() {
  local inode pid
  for pid in $(descendants "$SERVICE_PID"); do
    for inode in "${INODES[@]}"; do
      [ -z "$(find "/proc/$pid/fd" -lname "socket:\\[$inode\\]" -print -quit 2>/dev/null)" ] || return 0
    done
  done
  return 1
}

# wait_for_port: true once our service listens on PORT, false if it has ended, or goes on although
# somebody else has had the port for longer than a service needs to notice.
wait_for_port() {
  local patience=200
  while :; do
    if port_taken "$PORT"; then
      if service_has_socket; then return; fi
      if [ $((patience -= 1)) -le 0 ]; then
        kill -TERM "$SERVICE_PID"
        return 1
      fi
    fi
    kill -0 "$SERVICE_PID" 2>/dev/null || return 1
    sleep 0.05
  done
}

# start_on_port DEFAULT FUNCTION: FUNCTION starts the service on PORT. Somebody may take the port
# between our look and the service's bind: then another one is tried.
start_on_port() {
  local try
  require_port "$1"
  for try in 1 2 3; do
    "$2"
    wait_for_port && return
    say "did not start on port $PORT (try $try)"
    # Twice: who has bound it, and kept ours from it, need not be seen at once on a busy node.
    port_used "$PORT" || { sleep 0.5 && port_used "$PORT"; } || break # the port was not the cause
    other_port
  done
  stopped_while_starting "$SERVICE"
}

# stopped_while_starting PROGRAM
stopped_while_starting() {
  local why
  why=$(why_it_stopped)
  fail "$1 stopped while starting on $HOST${STARTED_WITH:+ with $STARTED_WITH}${why:+: $why}; its own words are above in its log"
}

why_it_stopped() { if [ -n "$WHY_STOPPED" ]; then "$WHY_STOPPED"; fi; }

# serve: as long as the service lives.
serve() {
  local look
  while [ "${#EACH_LOOK[@]}" -gt 0 ] && runs "$SERVICE_PID"; do
    for look in "${EACH_LOOK[@]}"; do "$look"; done
    sleep 0.5
  done
  wait "$SERVICE_PID"
  local code=$?
  # First of all, so that who asks learns it from the port, and asks another one.
  [ -z "$LISTENER_PID" ] || kill -TERM "$LISTENER_PID" 2>/dev/null
  REASON=$(why_it_stopped)
  REASON="the service stopped by itself with exit code $code${REASON:+: $REASON}"
  leave $((code == 0 ? 1 : code))
}

# --- addresses -----------------------------------------------------------------------------------

# find_address [INTERFACE]: sets ADDRESS to the one by which other hosts reach this one: the
# interface's, else the one that routes to the host that submitted the job.
find_address() {
  local peer
  ADDRESS=
  if [ -n "${1-}" ]; then
    ADDRESS=$(ip -4 -o addr show dev "$1" 2>/dev/null | awk '{ sub("/.*", "", $4); print $4; exit }')
    [ -n "$ADDRESS" ] || fail "$HOST has no address on interface $1, which the site names"
    return
  fi
  peer=$(getent ahostsv4 "$SUBMIT_HOST" 2>/dev/null | awk '{ print $1; exit }')
  case $peer in '' | 127.*) ;; *)
    ADDRESS=$(ip -4 route get "$peer" 2>/dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p')
    ;;
  esac
  [ -n "$ADDRESS" ] || ADDRESS=$(hostname -I 2>/dev/null | awk '{ print $1 }')
  [ -n "$ADDRESS" ] || ADDRESS=$HOST
}

# publish_address HOST:PORT...
publish_address() {
  local path=$OUTPUT/${SERVICE}_ip_$JOB_ID.txt
  if taken_over; then leave 0; fi # what asks is to go on to the one that runs elsewhere
  PUBLISHED+=("$path")
  write_file "$path" "$@"
  say "published $*"
}

# --- other jobs ----------------------------------------------------------------------------------

# job_over ID: whether it has been seen to end.
job_over() {
  [ -e "$OUTPUT/logs/${1%%;*}.rc" ] || ask_scheduler job_has_ended "$1"
}

# end_jobs WHY ID...: others of this deployment, with exit code 0.
end_jobs() {
  note_why "$@"
  cancel_jobs "${@:2}"
}

# note_why WHY ID...: those that are told to end by this deployment end with exit code 0, and say why.
note_why() {
  local id
  for id in "${@:2}"; do (write_file "$OUTPUT/logs/${id%%;*}.told" "$1"); done
}

# gone_silently ID FILE: whether a job has ended that could not say so, since its node has failed. The scheduler is
# asked if FILE has not grown for a minute, and once in each further one.
SILENT_SINCE='' BYTES_BEFORE=
gone_silently() {
  local bytes
  bytes=$(stat -c %s "$2" 2>/dev/null)
  if [ -z "$SILENT_SINCE" ] || [ "$bytes" != "$BYTES_BEFORE" ]; then BYTES_BEFORE=$bytes SILENT_SINCE=$SECONDS; fi
  [ $((SECONDS - SILENT_SINCE)) -ge 60 ] || return
  SILENT_SINCE=$SECONDS
  ask_scheduler job_has_ended "$1"
}

# job_state ID: see state_of_job.
job_state() { ask_scheduler state_of_job "$1"; }

# ask_scheduler FUNCTION ID: of the library whose job it is. Jobs of several schedulers may share an output
# directory; another's library speaks in a shell of its own.
ask_scheduler() {
  local library
  if is_job_id "$2"; then
    "$@"
    return
  fi
  for library in "${BASH_SOURCE[0]%/*}"/scheduler/*.sh; do
    # shellcheck source=/dev/null
    (. "$library" && is_job_id "$2" && "$@") && return
  done
  return 1
}

# job_end: when this job's time limit ends, in seconds since 1970.
job_end() { echo "${JOB_END:-$(($(now) - SECONDS + TIME_LIMIT))}"; }

# now: in seconds since 1970
now() { printf '%(%s)T' -1; }

# --- what there is -------------------------------------------------------------------------------

# note_gpus: logs/ID.gpus, a line "name, driver version" for each GPU that the job has, for records.
note_gpus() {
  local path=$OUTPUT/logs/$JOB_ID.gpus gpus
  gpus=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null) || gpus=$(amd_names)
  [ -z "$gpus" ] || write_file "$path" "$gpus"
}

# amd_names: the same lines by ROCm's amd-smi, which shows all of the node. It is Python, and takes a second or more.
amd_names() {
  PATH=$PATH:/opt/rocm/bin timeout 30 amd-smi static --asic --driver --json 2>/dev/null |
    grep -oE '"(market_name|version|driver_version)": *"[^"]*"' |
    sed -nE -e '/^"market_name/{s/^[^:]*: *"(.*)"$/\1/;h;d;}' -e 's/^[^:]*: *"(.*)"$/, \1/;H;x;s/\n//;p'
}

# --- HTTP to the service of this job -------------------------------------------------------------

# http METHOD PATH BODY [HEADER]: prints the answer's body; true for a status of 2xx. Bash alone: compute
# nodes need not have curl, and no proxy gets in between.
http() {
  local LC_ALL=C line status= # C: lengths in bytes
  exec 9<>"/dev/tcp/127.0.0.1/$PORT" || return 1
  printf '%s %s HTTP/1.0\r\nHost: localhost\r\nAccept-Encoding: identity\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s' \
    "$1" "$2" "${#3}" "${4:+$4$'\r\n'}" "$3" >&9
  while [[ -z $status || $status == HTTP/1.?\ 1?? || $status == HTTP/1.?\ 1??\ * ]]; do # the final one
    IFS= read -r status <&9 || break
    status=${status%$'\r'} line=$status
    while [ -n "$line" ] && IFS= read -r line <&9; do line=${line%$'\r'}; done
  done
  cat <&9
  exec 9>&-
  [[ $status == HTTP/1.?\ 2?? || $status == HTTP/1.?\ 2??\ * ]]
}
