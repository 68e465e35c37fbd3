# shellcheck shell=bash
# Decodes the MUNGE credentials of those who log in, for the client service, on its host: where the service is in
# a container it has neither MUNGE nor the users and groups of the site. Sourced after haproxy.sh.
#
# Files in PROXY_FOLDER:
#   credentials   a pipe, into which the service writes: ID CREDENTIAL
#   login.ID      the answer; its lines: unmunge's exit code; the user; his groups, each with a colon after it;
#                 what unmunge has printed (some of its metadata, a blank line, the payload)

# decode_credentials [SOCKET]: from now on, in the background. SOCKET is that of MUNGE's daemon, if not MUNGE's own.
decode_credentials() {
  local pipe=$PROXY_FOLDER/credentials answer id credential
  mkfifo -m 600 "$pipe" || fail "cannot write into $PROXY_FOLDER"
  command -v unmunge >/dev/null ||
    say "WARNING: there is no unmunge on $HOST's PATH, so that nobody can log in (share)"
  (
    while read -r id credential; do
      answer=$PROXY_FOLDER/login.$id
      decode_one "$credential" "${1:+--socket=$1}" >"$answer.new" && mv -f "$answer.new" "$answer"
    done <>"$pipe" # for reading and writing: it comes to no end when the service closes it
  ) &
  CHILDREN+=($!)
}

# decode_one CREDENTIAL OPTION: prints the answer.
decode_one() {
  local found code uid user=
  found=$(printf %s "$1" | timeout 10 unmunge ${2:+"$2"} --keys=UID,UID_RESTRICTION 2>/dev/null)
  code=$?
  uid=$(sed -n '/^$/q; s/^UID: .*(\([0-9]*\))$/\1/p' <<<"$found")
  if [ -n "$uid" ]; then user=$(getent passwd "$uid" | cut -d : -f 1); fi
  printf '%s\n%s\n' "$code" "$user"
  if [ -n "$user" ]; then id -Gnz -- "$user" | tr '\0' :; fi
  printf '\n%s\n' "$found"
}
