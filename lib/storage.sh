# shellcheck shell=bash
# The files of a collection, which one Qdrant at a time may have open: two would destroy them. Sourced after service.sh
# and the scheduler's file.
#
# Files of $STORAGE:
#   job    whose it is. It goes with that job, however that ends: of a job that is over it says nothing
#   .lock  held by whoever reads and writes `job`
# and in the output directory:
#   logs/ID.prepared  a job that follows another one lacks nothing but the storage
# shellcheck disable=SC2153,SC2154 # what job scripts and the other libraries set

# claim_storage [BEFORE]: the job BEFORE this one is waited for, as long as it has the storage; nobody else is.
claim_storage() {
  local before=${1-} looks=0
  mkdir -p "$STORAGE"/{storage,snapshots} || fail "cannot make $STORAGE"
  if [ -n "$before" ]; then
    TEMPORARY+=("$OUTPUT/logs/$JOB_ID.prepared")
    write_file "$OUTPUT/logs/$JOB_ID.prepared" "$before"
  fi
  exec 7>>"$STORAGE/.lock"
  until take_storage "$before" $((looks % 120)); do
    [ $((looks++)) -gt 0 ] || say "waits until job $before has closed $STORAGE"
    sleep 0.5
  done
  exec 7>&-
  TEMPORARY+=("$STORAGE/job")
}

# take_storage BEFORE LOOK: false while the job before has it. The lock is held until it is known: a job that is requeued
# asks for it, too, before it opens anything.
take_storage() {
  local owner=
  if command -v flock >/dev/null; then flock 7 2>/dev/null; fi
  { read -r owner <"$STORAGE/job"; } 2>/dev/null
  if [ -n "$owner" ] && [ "$owner" != "$FULL_JOB_ID" ]; then
    if [ "${owner%%;*}" = "${1%%;*}" ]; then
      has_left "$owner" "$2" || { unlock_storage && return 1; }
    elif ! job_over "$owner"; then
      fail "job ${owner%%;*} works on $STORAGE, as far as is known: stop its deployment, or take another collection; if it has ended, remove $STORAGE/job"
    fi
  fi
  write_file "$STORAGE/job" "$FULL_JOB_ID"
  unlock_storage
}

unlock_storage() { if command -v flock >/dev/null; then flock -u 7 2>/dev/null; fi || true; }

# has_left ID LOOK: whether a job will not touch the storage any more. One that could not say so, since its node has
# died, the scheduler knows, which is asked at each look 0; if it waits to begin anew it need not: its successor is here.
has_left() {
  [ ! -e "$OUTPUT/logs/${1%%;*}.rc" ] || return 0
  [ "$2" = 0 ] || return
  ! job_over "$1" || return 0
  case $(job_state "$1") in PENDING | REQUEUE* | SPECIAL_EXIT) cancel_jobs "$1" ;; *) return 1 ;; esac
}
