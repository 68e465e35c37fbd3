#!/usr/bin/env bash
# The programs that the local tests call. The Slurm test cluster gets its own packages itself.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# program:Debian package
NEEDED=(curl:curl ps:procps ip:iproute2 flock:util-linux setsid:util-linux git:git ssh:openssh-client)
# program:Debian package:service. These packages start a service, now and whenever the machine starts. Tests start
# the programs themselves, on ports of their own.
SERVICES=(sshd:openssh-server:ssh)
for name in prometheus prometheus-pushgateway prometheus-node-exporter; do SERVICES+=("${name}:${name}:${name}"); done

is_debian() { grep -qs '^ID=debian' /etc/os-release; }

main() {
  local entry program package service missing=() services=()
  # requirements-dev.txt says why.
  [[ "$(uname -sm)" != 'Linux aarch64' ]] || NEEDED+=(shellcheck:shellcheck)
  # Tests of the page drive a browser. Ubuntu has Chromium as a snap alone, which not every machine can start.
  if is_debian && ! have google-chrome; then NEEDED+=(chromium:chromium); fi
  for entry in "${NEEDED[@]}"; do
    have "${entry%%:*}" || missing+=("${entry#*:}")
  done
  for entry in "${SERVICES[@]}"; do
    IFS=: read -r program package service <<<"${entry}"
    have "${program}" || { missing+=("${package}") && services+=("${service}"); }
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  can_apt || {
    echo "Note: some tests need ${missing[*]} (Debian's package names), which is not installed; only root can install it."
    return 0
  }
  [[ ${#services[@]} -eq 0 ]] || forbid_starts
  apt_install "${missing[@]}" ||
    die "System packages: apt-get could not install ${missing[*]} (see above): mend the package sources or install them by hand."
  [[ ${#services[@]} -eq 0 ]] || stay_off "${services[@]}"
}

main
