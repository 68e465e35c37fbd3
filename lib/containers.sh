# shellcheck shell=bash
# Services from container images: each image is made once for all jobs, and a service sees nothing of
# the host but what it needs. Sourced after service.sh, if the site's runtime is not `host`.
#
# Files, all in containers/ of the output directory:
#   NAME-STAMP.sif          an image, whole from the moment that it is there, and never written again
#   NAME-STAMP.sif.sha256   its digest, as `sha256sum --check` reads it
#   NAME.sif                a link to the newest of them
#   .NAME.lock              held while an image of that name is made
# and logs/ID.image: which image the job's service runs in

# use_image NAME STAMP SOURCE [DEFINITION PROJECT]: sets IMAGE to the image of SOURCE, a .sif file or a
# registry's address; or to what DEFINITION makes of it. STAMP says what goes into the image. Notes it.
use_image() {
  local name=$1 stamp=$2 source=$3
  CONTAINERS=$OUTPUT/containers
  require_command "$RUNTIME" "name its module in the site profile ('modules')"
  if [ $# = 3 ] && [[ $source == *.sif ]]; then
    IMAGE=$source
    [ -r "$IMAGE" ] || fail "cannot read the image $IMAGE, which the site profile names"
  else
    IMAGE=$CONTAINERS/$name-$stamp.sif
    [ -e "$IMAGE" ] || make_once "$@"
    link_image "$name"
  fi
  # What runs beside the service, in a shell of its own, has images of its own.
  if [ "$BASHPID" = $$ ]; then note_image; fi
}

# note_image: logs/ID.image, four lines for records: path, sha256 if it is written beside the image
# (an image has gigabytes, which are read for it once, when it is made), bytes, time of last change.
note_image() {
  local path digest=
  path=$(readlink -f "$IMAGE")
  read -r digest _ 2>/dev/null <"$path.sha256"
  [[ $digest =~ ^[0-9a-f]{64}$ ]] || digest=
  write_file "$OUTPUT/logs/$JOB_ID.image" \
    "$path" "$digest" "$(stat -c %s "$path")" "$(date -u -r "$path" +%FT%TZ)"
}

# The lock is the kernel's: it goes with whoever holds it, however that ends. What is fetching holds it
# as well, so that there is one at a time even if its script was killed.
make_once() {
  local locked=
  mkdir -p "$CONTAINERS" || fail "cannot make $CONTAINERS"
  exec 7>>"$CONTAINERS/.$1.lock" || fail "cannot write into $CONTAINERS"
  if command -v flock >/dev/null; then
    if flock --nonblock 7 2>/dev/null; then
      locked=1
    else
      say "waits for another job, which makes the image $1"
      take_lock 7 && locked=1
    fi
  fi
  [ -e "$IMAGE" ] || make_image "$@"
  exec 7>&-
}

make_image() {
  local name=$1 source=$3 partial=$CONTAINERS/.$1.$JOB_ID
  # Of one that was killed: with the lock nobody else is at it now.
  [ -z "$locked" ] || rm -rf "$CONTAINERS/.$name".*.{sif,sha256,tmp,log}
  TEMPORARY+=("$partial".{sif,sha256,tmp,log})
  mkdir -p "$partial.tmp"
  bring_pip_settings
  say "making the image $name from $source"
  fetch_image "$partial.sif" "${@:3}" >"$partial.log" 2>&1 &
  CHILDREN=($!)
  if ! wait "${CHILDREN[0]}"; then
    cat "$partial.log" >&2
    fail "$RUNTIME cannot make the image $name from $source: $(last_words "$partial.log")"
  fi
  CHILDREN=()
  # The digest first: where the image is, its digest is.
  { mv -f "$partial.sha256" "$IMAGE.sha256" && mv -f "$partial.sif" "$IMAGE"; } || fail "cannot write $IMAGE"
}

# What this site needs to reach a package index holds inside the build as well: its environment is not
# ours, and of our files it sees /tmp.
bring_pip_settings() {
  local name certificates=${PIP_CERT:-${SSL_CERT_FILE-}} prefix=${RUNTIME^^}ENV_
  for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST PIP_PROXY {http,https,no}_proxy; do
    if [ -n "${!name-}" ]; then export "$prefix$name=${!name}"; fi
  done
  [ -r "$certificates" ] || return 0
  random_word 10
  name=/tmp/orch-certificates.$WORD
  TEMPORARY+=("$name")
  (set -C && umask 077 && cat "$certificates" >"$name")
  export "${prefix}PIP_CERT=$name"
}

# fetch_image TARGET SOURCE [DEFINITION PROJECT], with its digest in a file beside it. Without the cache,
# which would be in the user's home.
fetch_image() {
  local target=$1 digest
  export {APPTAINER,SINGULARITY}_TMPDIR="${target%.sif}.tmp"
  if [ $# = 2 ]; then
    "$RUNTIME" pull --disable-cache "$target" "$2" || return
  else
    build_image "$@" || return
  fi
  digest=$(sha256sum <"$target") || return
  printf '%s  %s\n' "${digest%% *}" "${IMAGE##*/}" >"${target%.sif}.sha256"
}

build_image() {
  local bootstrap=${2%%://*} from=${2#*://}
  if [[ $2 == *.sif ]]; then bootstrap=localimage; fi
  cd "$4" || return
  "$RUNTIME" build --disable-cache \
    --build-arg BOOTSTRAP="$bootstrap" --build-arg FROM="$from" "$1" "$3"
}

# The last complaint that is not Apptainer's own summary of it.
last_words() {
  local complaints
  complaints=$(sed 's/\x1b\[[0-9;]*m//g' "$1" | grep -E 'FATAL|ERROR|[Ee]rror')
  { grep -v 'While performing build' <<<"$complaints" || echo "$complaints"; } | tail -n 1
}

# link_image NAME: for people, under the name without a stamp.
link_image() {
  local link=$CONTAINERS/$1.sif temporary=$CONTAINERS/.$1.link.$$
  [ "$link" -ef "$IMAGE" ] && return
  ln -sfn "${IMAGE##*/}" "$temporary" 2>/dev/null && mv -fT "$temporary" "$link" 2>/dev/null
  rm -f "$temporary"
}

# enter_image [OPTION...]: from here on run_service runs its command in IMAGE, with nothing of the
# host's files but the output directory and what the options (of apptainer exec) bring.
enter_image() {
  local name
  RUN_IN=("$RUNTIME" --silent exec --containall --bind "$OUTPUT" "$@" "$IMAGE" env)
  # A clean environment has neither: by which the scheduler says which GPUs are ours, and the mark of a replica.
  for name in CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER ROCR_VISIBLE_DEVICES ORCH_REPLICA; do
    if [ -n "${!name-}" ]; then RUN_IN+=("$name=${!name}"); fi
  done
}
