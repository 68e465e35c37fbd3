# shellcheck shell=bash
# What the scheduler says of a deployment's jobs, for those who watch it live (client/live/): the service cannot ask
# it, as it may run in a container. Sourced after service.sh and the scheduler's file.
#
# Files, in deployments/ID.live/ of the output directory:
#   watched   the ids of the jobs, as long as somebody watches; the service writes and removes it
#   jobs      what the scheduler has said of them last: the lines of list_jobs

WATCH_EVERY_S=15 # so often the scheduler is asked at most
WATCH_FOLDER=
WATCH_AT=-$WATCH_EVERY_S
WATCH_PID=

# begin_watch DEPLOYMENT
begin_watch() {
  WATCH_FOLDER=$OUTPUT/deployments/$1.live
  (umask 077 && mkdir -p "$WATCH_FOLDER") || fail "cannot make $WATCH_FOLDER; make room in that file system"
  rm -f "$WATCH_FOLDER/watched" # of a job before this one
  EACH_LOOK+=(look_at_jobs)
  AT_END+=(end_watch)
}

end_watch() { [ -n "${HANDED_OVER-}" ] || forget_written "$WATCH_FOLDER/watched"; }

# A controller that is away is waited for by a process of its own.
look_at_jobs() {
  local ids
  [ $((SECONDS - WATCH_AT)) -ge "$WATCH_EVERY_S" ] && [ -e "$WATCH_FOLDER/watched" ] || return 0
  if [ -n "$WATCH_PID" ]; then
    ! runs "$WATCH_PID" || return 0
    forget_child "$WATCH_PID"
    WATCH_PID=
  fi
  read -ra ids 2>/dev/null <"$WATCH_FOLDER/watched" || return 0
  WATCH_AT=$SECONDS
  note_jobs "${ids[@]}" &
  WATCH_PID=$!
  CHILDREN+=("$WATCH_PID")
}

note_jobs() {
  local said
  said=$(list_jobs "$@") && write_file "$WATCH_FOLDER/jobs" "$said"
}
