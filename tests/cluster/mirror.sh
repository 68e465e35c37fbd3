# shellcheck shell=bash
# Sourced, never run.

# Where this machine has its Debian packages from, which may be a mirror near it.
mirror() {
  local found
  found=$(awk '/^URIs:/ && /debian\/?$/ { print $2; exit }' /etc/apt/sources.list.d/*.sources 2>/dev/null) || true
  [[ -n ${found} ]] ||
    found=$(awk '/^deb .*debian\/? / { print $2; exit }' /etc/apt/sources.list 2>/dev/null) || true
  echo "${found:-http://deb.debian.org/debian}"
}
