# shellcheck shell=bash
# What the scripts share that build a program: it goes into the cache, whole or not at all, and from there
# to TARGET, a path in .tools/bin. OWN_WAY is what people can do without us. Sourced after common.sh, never
# run.

# lock_cache FILE NAME: one build at a time; NAME is the program's, for the user.
lock_cache() {
  mkdir -p "${CACHE}" 2>/dev/null ||
    die "$2: the cache folder ${CACHE} cannot be written: name another one with ORCH_CACHE_DIR=/path."
  lock "${CACHE}/$1.lock"
}

# is_ready ID: true where TARGET is what was built under that name.
is_ready() { [[ -x ${TARGET} && "$(cat "${TARGET}.id" 2>/dev/null)" == "$1" ]]; }

# publish ID: puts what the cache has under that name at TARGET.
publish() {
  local built="${CACHE}/$1/${TARGET##*/}"
  mkdir -p "$(dirname "${TARGET}")"
  ln -f "${built}" "${TARGET}.tmp" 2>/dev/null || cp -f "${built}" "${TARGET}.tmp"
  rm -f "${TARGET}.id" # never the new name beside the old binary
  mv -f "${TARGET}.tmp" "${TARGET}"
  echo "$1" >"${TARGET}.id.tmp"
  mv -f "${TARGET}.id.tmp" "${TARGET}.id"
}

# install_for_build NAME SENTENCE PACKAGE...: what a build lacks; SENTENCE is for who may not install it.
install_for_build() {
  local name="$1" sentence="$2"
  shift 2
  [[ $# -gt 0 ]] || return 0
  can_apt || die "${sentence}"
  # Certificates, which a minimal image lacks, are for whatever is fetched.
  apt_install "$@" ca-certificates ||
    die "${name}: apt-get could not install $* (see above): mend the package sources, ${OWN_WAY}."
}

# begin_work: makes the folder WORK, which goes when the script ends, however it does.
begin_work() {
  WORK="$(mktemp -d "${CACHE}/build.XXXXXX")"
  trap stop EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}

# The build runs in a process group of its own: the compiler's processes would outlive it otherwise.
stop() {
  if [[ -n ${BUILD_PID:-} ]]; then kill -- "-${BUILD_PID}" 2>/dev/null || true; fi
  rm -rf "${WORK}"
}

# keep ID PROGRAM: into the cache.
keep() {
  mkdir "${WORK}/done"
  mv "$2" "${WORK}/done/"
  rm -rf "${CACHE:?}/$1"
  mv "${WORK}/done" "${CACHE}/$1"
}

# with_progress LOG COMMAND...: if that fails, the end of its log is shown.
with_progress() {
  local log="$1" began=${SECONDS} rc=0
  shift
  set -m
  "$@" >"${log}" 2>&1 </dev/null &
  BUILD_PID=$!
  set +m
  while kill -0 "${BUILD_PID}" 2>/dev/null; do
    sleep 0.5
    tick "$((SECONDS - began))"
  done
  wait "${BUILD_PID}" || rc=$?
  BUILD_PID=
  if [[ -t 1 ]]; then printf '\n'; fi
  if [[ ${rc} -ne 0 ]]; then tail -n 15 "${log}" >&2; fi
  return "${rc}"
}

LAST_TICK=0
tick() {
  if [[ -t 1 ]]; then
    printf '\r  building: %d s ' "$1"
  elif [[ $1 -ge $((LAST_TICK + 10)) ]]; then
    LAST_TICK=$1
    echo "  building: $1 s"
  fi
}
