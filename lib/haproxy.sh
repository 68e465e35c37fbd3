# shellcheck shell=bash
# HAProxy in front of what a job serves, and the tokens that it asks for. Sourced after service.sh.
#
# Files:
#   deployments/ID/NAME.token   a token of the deployment; whichever job needs it first makes it
#
# Job scripts set
#   SECURITY  "required", "token", or "none", by which nothing asks for tokens
#   BIND      where to listen
#   PROXY_IN  what runs HAProxy, in front of NAME=VALUE... COMMAND
#   HAPROXY   its program, if it is not one of PATH
# shellcheck disable=SC2034 # what seal.sh and job scripts read

CERTIFICATE= # the file of certificate and key, if it speaks TLS (tls.sh)

# make_proxy_folder: sets PROXY_FOLDER.
make_proxy_folder() {
  make_folder
  PROXY_FOLDER=$FOLDER
}

require_haproxy() {
  local said remedy="run scripts/get_haproxy.sh on the login node, or load its module in the site profile ('modules')"
  PATH=$PATH:/usr/sbin:/usr/local/sbin # where Debian has it, and an ordinary user does not look
  [ -x "${HAPROXY-}" ] || HAPROXY=haproxy
  said=$("${PROXY_IN[@]}" "$HAPROXY" -v 2>/dev/null) || fail "there is no haproxy on $HOST's PATH; $remedy"
  [[ $said =~ ^HA-?Proxy\ version\ (([0-9]+)\.([0-9]+)[^ ]*) ]] || return 0
  [ $((BASH_REMATCH[2] * 1000 + BASH_REMATCH[3])) -ge 2004 ] ||
    fail "the haproxy on $HOST's PATH is version ${BASH_REMATCH[1]}, older than 2.4; $remedy"
}

# token_file PATH: makes it if nobody has.
token_file() {
  local own=$1.$JOB_ID
  [ -s "$1" ] || (
    umask 077
    random_word 43
    # Not if another job was quicker; nor if there is no room: one that is empty would stay, and be nobody's to make.
    mkdir -p "${1%/*}" && printf '%s\n' "$WORD" >"$own" && ln "$own" "$1" 2>/dev/null
    rm -f "$own"
  )
  [ -s "$1" ] || fail "cannot write $1; make room in that file system, or check its permissions"
}

# accept LIST TOKEN_FILE...: whoever has one of these tokens is let through by the configurations that ask LIST.
accept() {
  local list=$PROXY_FOLDER/$1 file
  shift
  for file in "$@"; do digest "$file"; done >"$list" || fail "cannot write $list; make room there"
}

# digest TOKEN_FILE: prints the SHA-256 of its token.
digest() {
  local token
  read -r token <"$1" && token=$(printf %s "$token" | sha256sum) && printf '%s\n' "${token%% *}"
}

# run_haproxy CONFIGURATION [NAME=VALUE...] [-- OPTION...]: in the background, in the network that LISTEN_IN
# enters. It is told LISTEN_AT, PROXY_FOLDER and CERTIFICATE.
run_haproxy() {
  local config=$PROXY_FOLDER/$1 variables=()
  [ -e "$config" ] || cp "${BASH_SOURCE[0]%/*}/$1" "$config" || fail "cannot write into $PROXY_FOLDER"
  shift
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    variables+=("$1")
    shift
  done
  shift $(($# > 0))
  (
    ulimit -n 16384 2>/dev/null # for more files than these it would keep tables that nobody needs
    exec ${LISTEN_IN[@]+"${LISTEN_IN[@]}"} "${PROXY_IN[@]}" PROXY_FOLDER="$PROXY_FOLDER" \
      LISTEN_AT="$BIND:$PORT" CERTIFICATE="$CERTIFICATE" ${variables[@]+"${variables[@]}"} "$HAPROXY" -db -f "$config" "$@"
  ) &
  SERVICE_PID=$!
  CHILDREN+=("$SERVICE_PID")
}

# end_with PROXY SERVICE: without the one the other is of no use.
end_with() {
  while kill -0 "$1" 2>/dev/null; do sleep 1; done
  kill -0 "$2" 2>/dev/null || return 0
  say "HAProxy, by which it is reached, has ended"
  kill -TERM "$2" 2>/dev/null
}
