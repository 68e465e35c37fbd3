# shellcheck shell=bash
# Where a model is loaded from; and, if the recipe asks for it, a copy of its files on the node's own disk. Sourced
# after service.sh.
#
# A large model that is mapped from a parallel file system is read page by page. Copied first, it is read once, from its
# beginning to its end. Jobs of one user on one node copy it once, and the last of them removes it.
#
# Files, all in orch-models.UID of that disk, a folder that nobody else enters, in which nothing is written again:
#   KEY/        a model's files, whole from the moment that it is there; and .digests, a line each
#   KEY.part/   while they are copied
#   KEY.lock    the kernel's lock on it goes with its job, however that ends: shared by those who use it, exclusive of the
#               one who copies or removes it. What nobody has a lock on is left of a job that was killed.
# KEY is made of digests, where files are named by them, else of paths, sizes and times; or it is a job's own, which keeps
# the folder for it.
#
#   logs/ID.loading  "NAME VALUE", a line each, for records (hpc/deployments/loading.py)
# shellcheck disable=SC2034 # what job scripts read

STAGING=            # the folder; empty if nothing is to be copied
STAGING_IN=()       # options that show it to a container
STAGED=             # where the copy of what was staged last is
declare -A LOCKS=() # descriptors by keys
LOADING=()          # what is known of how the model is loaded

# begin_staging DISK: DISK is a folder, or the name of a variable that says it, as $NAME.
begin_staging() {
  local disk=$1 name
  if [[ $disk == \$* ]]; then
    name=${disk#\$}
    disk=${!name-}
    [ -n "$disk" ] || [ "$name" != TMPDIR ] || disk=/tmp
    [ -n "$disk" ] || fail "$(uname -n) has no variable \$$name, which the site profile names as the node's own disk (local_disk)"
  fi
  require_command flock "install util-linux on it, or leave staging out"
  STAGING=$disk/orch-models.$(id -u)
  STAGING_IN=(--bind "$STAGING:$STAGING:ro")
  AT_END+=(end_staging)
  lock "job.$JOB_ID" -s
  [ "$(stat -f -c %T "$STAGING")" != tmpfs ] || say "WARNING: $disk is no disk but memory of $(uname -n), which the copy of the model takes, too"
}

# stage WHAT ROOT FILE...: copies the FILEs of ROOT, of the model WHAT, unless another job has; sets STAGED to the folder in
# which they are.
stage() {
  local what=$1 root=$2 key
  shift 2
  key=$(key_of "$root" "$@") || fail "cannot read $what in $root"
  while :; do
    lock "$key" -s
    [ ! -d "$STAGING/$key" ] || break
    # Never waits for it: who has come between us is to have the lock on what he copied for as long as he lives.
    if lock "$key" -x; then
      [ -d "$STAGING/$key" ] || copy_model "$key" "$what" "$root" "$@"
    else
      sleep "0.$((RANDOM % 10))"
    fi
  done
  STAGED=$STAGING/$key
  loading staged "$STAGED"
  loading sha256 "$(digest_of "$STAGED")"
}

# stage_file WHAT PATH: and the other parts of a GGUF file in several; sets STAGED to the file.
stage_file() {
  local PARTS
  parts_of "$2"
  stage "$1" "${2%/*}" "${PARTS[@]}"
  STAGED=$STAGED/${2##*/}
}

# parts_of PATH: sets PARTS to the names of a GGUF file and, if it is the first of several, of the others.
parts_of() {
  local name=${1##*/} part
  PARTS=("$name")
  [[ $name =~ ^(.*)-00001-of-([0-9]{5})\.gguf$ ]] || return 0
  PARTS=()
  for part in "${1%/*}/${BASH_REMATCH[1]}"-?????-of-"${BASH_REMATCH[2]}".gguf; do PARTS+=("${part##*/}"); done
}

# bytes_of_file PATH: of all its parts.
bytes_of_file() {
  local PARTS
  parts_of "$1"
  bytes_of "${1%/*}" "${PARTS[@]}"
}

# bytes_of_weights FOLDER: of those files that are loaded: Mistral's models have all of them a second time, in a layout of
# their own.
bytes_of_weights() {
  local path files=() others=()
  for path in "$1"/*.safetensors; do
    case ${path##*/} in consolidated*) others+=("${path##*/}") ;; *) files+=("${path##*/}") ;; esac
  done
  [ "${#files[@]}" -gt 0 ] || files=(${others[@]+"${others[@]}"})
  bytes_of "$1" "${files[@]}"
}

# stage_folder WHAT PATH: all files of a folder but weights in other formats than safetensors, and what is hidden; sets
# STAGED to its copy.
stage_folder() {
  local files other
  other=(-name '*.bin' -o -name '*.pth' -o -name '*.pt' -o -name '*.gguf' -o -name '*.onnx' -o -name '*.h5' -o -name '*.msgpack')
  mapfile -d '' -t files < <(cd "$2" && find -L . -type f ! -path '*/.*' ! \( "${other[@]}" \) -printf '%P\0' | sort -z)
  stage "$1" "$2" "${files[@]}"
}

# key_of ROOT FILE...
key_of() {
  local root=$1 file digest
  shift
  digest=$(for file in "$@"; do
    if [[ $file =~ ^sha256-[0-9a-f]{64}$ ]]; then
      echo "$file"
    else
      stat -L -c '%n %s %.9Y' "$root/$file" || exit
    fi
  done | sha256sum) || return
  echo "${digest%% *}"
}

# --- locks ---------------------------------------------------------------------------------------

# lock KEY -s|-x: has the lock on KEY: shared, for which it waits as long as somebody copies; or exclusive, if that is to
# be had at once, else none.
lock() {
  local path=$STAGING/$1.lock fd tries=100
  while :; do
    if [ -z "${LOCKS[$1]-}" ]; then
      make_staging
      # The last one to end removes the folder, which may be just now.
      if ! { exec {fd}>>"$path"; } 2>/dev/null; then
        [ $((tries -= 1)) -gt 0 ] || fail "cannot write into $STAGING on $(uname -n)"
        continue
      fi
      LOCKS[$1]=$fd
    fi
    fd=${LOCKS[$1]}
    if ! flock --nonblock "$2" "$fd"; then
      [ "$2" = -s ] || return
      say "waits for another job, which copies the same model to $STAGING"
      aside flock "$2" "$fd"
    fi
    [ ! "$path" -ef "/proc/self/fd/$fd" ] || return 0
    unlock "$1" # its file was removed meanwhile
  done
}

unlock() {
  local fd=${LOCKS[$1]}
  exec {fd}>&-
  unset "LOCKS[$1]"
}

make_staging() {
  mkdir -m 700 "$STAGING" 2>/dev/null
  if [ -L "$STAGING" ] || [ ! -d "$STAGING" ] || [ ! -O "$STAGING" ]; then
    fail "cannot have the folder $STAGING on $(uname -n) for models: ${STAGING%/*} is missing or not to be written, or somebody else has that name; set local_disk in the site profile, or leave staging out"
  fi
  chmod 700 "$STAGING"
}

# remove_unused: what nobody has a lock on.
remove_unused() {
  local path key fd
  for path in "$STAGING"/*.lock; do
    key=${path##*/} key=${key%.lock}
    [ -z "${LOCKS[$key]-}" ] || continue
    { exec {fd}<"$path"; } 2>/dev/null || continue
    remove_key "$key" "$fd"
    exec {fd}<&-
  done
}

# remove_key KEY FD: if nobody has a lock on it but by the descriptor. Its lock goes last.
remove_key() {
  local path=$STAGING/$1.lock
  flock --nonblock -x "$2" && [ "$path" -ef "/proc/self/fd/$2" ] || return 0
  rm -rf "${STAGING:?}/$1" "$STAGING/$1.part"
  rm -f "$path"
}

# By our own descriptors, since one of our processes that is about to end may still have them.
end_staging() {
  local key
  for key in "${!LOCKS[@]}"; do
    remove_key "$key" "${LOCKS[$key]}"
    unlock "$key"
  done
  remove_unused
  rmdir "$STAGING" 2>/dev/null
}

# --- the copy ------------------------------------------------------------------------------------

# copy_model KEY WHAT ROOT FILE...
copy_model() {
  local key=$1 what=$2 root=$3 part=$STAGING/$1.part total free begin pid said=$OUTPUT/logs/$JOB_ID.copy
  shift 3
  remove_unused
  rm -rf "$part"
  total=$(bytes_of "$root" "$@")
  free=$(df -P -B1 "$STAGING" | awk 'NR == 2 { print $4 }')
  [ "$total" -le "$free" ] ||
    fail "no room for $what in ${STAGING%/*} on $(uname -n): it has $(in_gib "$total") GiB, and $(in_gib "$free") GiB are free there; set another local_disk in the site profile, or staging to \"none\""
  say "copying $(in_gib "$total") GiB of $what to $STAGING"
  TEMPORARY+=("$said")
  begin=$(now_ms)
  copy_files "$part" "$root" "$@" 2>"$said" &
  pid=$!
  CHILDREN+=("$pid")
  follow_copy "$pid" "$part" "$total" "$begin"
  wait "$pid" || fail "cannot copy $what to $STAGING on $(uname -n): $(tail -n 1 "$said")"
  forget_child "$pid"
  mv "$part" "$STAGING/$key" || fail "cannot write into $STAGING on $(uname -n)"
  loading copied_bytes "$total"
  loading copy_seconds "$(seconds_since "$begin")"
  say "copied $(progress_of "$total" "$total" "$begin")"
}

# copy_files TARGET ROOT FILE...: with the digest of each, which must be the one by which it is named, if it is named so.
copy_files() {
  local target=$1 root=$2 file digest
  shift 2
  mkdir "$target" || return
  for file in "$@"; do
    mkdir -p "$(dirname "$target/$file")" || return
    digest=$(tee "$target/$file" <"$root/$file" | sha256sum) || return
    digest=${digest%% *}
    if [[ $file =~ ^sha256-[0-9a-f]{64}$ && $file != "sha256-$digest" ]]; then
      echo "$root/$file is damaged: its digest is $digest; fetch or copy the model again" >&2
      return 1
    fi
    printf '%s  %s\n' "$digest" "$file" >>"$target/.digests" || return
  done
}

# digest_of FOLDER: that of its one file; of several, that of the list of theirs.
digest_of() {
  local lines digest
  mapfile -t lines <"$1/.digests"
  digest=${lines[0]}
  [ "${#lines[@]}" -eq 1 ] || digest=$(sha256sum <"$1/.digests")
  echo "${digest%% *}"
}

# follow_copy PID FOLDER TOTAL BEGIN: says every 10 s how far it is.
follow_copy() {
  local done_bytes shown=$SECONDS
  while runs "$1"; do
    sleep 0.2
    [ $((SECONDS - shown)) -ge 10 ] || continue
    shown=$SECONDS
    done_bytes=$(du -sb "$2" 2>/dev/null | cut -f 1)
    say "copying: $(progress_of "${done_bytes:-0}" "$3" "$4")"
  done
}

# progress_of BYTES TOTAL BEGIN: "3.2 of 14.0 GiB, 812 MB/s, 14 s left"
progress_of() {
  awk -v done="$1" -v total="$2" -v ms="$(($(now_ms) - $3))" 'BEGIN {
    rate = done / (ms > 0 ? ms : 1) * 1000
    printf "%.1f of %.1f GiB, %.0f MB/s", done / 2^30, total / 2^30, rate / 1e6
    if (done < total && rate > 0) printf ", %.0f s left", (total - done) / rate
  }'
}

# bytes_of ROOT FILE...
bytes_of() { (cd "$1" && stat -L -c %s -- "${@:2}") | awk '{ n += $1 } END { printf "%.0f", n }'; }

in_gib() { awk -v bytes="$1" 'BEGIN { printf "%.2f", bytes / 2^30 }'; }

# --- what is written down ------------------------------------------------------------------------

now_ms() { date +%s%3N; }

seconds_since() { in_seconds $(($(now_ms) - $1)); }

in_seconds() { printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)); }

# loading NAME VALUE: known of how the model is loaded.
loading() { LOADING+=("$1 $2"); }

note_loading() { write_file "$OUTPUT/logs/$JOB_ID.loading" "${LOADING[@]}"; }
