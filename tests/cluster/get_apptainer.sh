#!/usr/bin/env bash
# Apptainer for the test cluster, where the machine has none.  Root, Debian.  Safe to run again.
#
# Debian has it in unstable alone, built for a newer C library than the stable releases have.  So it is
# unpacked beside the packages, with a C library of its own in /opt/glibc; apt's sources and the machine's
# C library stay as they are.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/common.sh"
# shellcheck source=tests/cluster/mirror.sh
source "$(dirname "${BASH_SOURCE[0]}")/mirror.sh"
export LC_ALL=C

LIBC=/opt/glibc
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
# What it calls, and debootstrap, which base.def calls.
HELPERS=(squashfs-tools uidmap squashfuse fuse2fs fuse-overlayfs fakeroot debootstrap)
REMEDY='see https://apptainer.org/docs/admin/latest/installation.html'

main() {
  [[ ${EUID} -eq 0 ]] || die "Apptainer cannot be installed as $(id -un): run this as root"
  lock "${CACHE}/apptainer.lock"
  works || install_apptainer
  # Debian's own mode for it (udev's rules), which a machine without udev lacks.
  [[ ! -c /dev/fuse ]] || chmod 666 /dev/fuse
}

works() { apptainer --version >/dev/null 2>&1; }

install_apptainer() {
  have apt-get || die "Apptainer cannot be installed: no apt-get, not a Debian or Ubuntu; ${REMEDY}"
  apt_install "${HELPERS[@]}" || die "the packages ${HELPERS[*]} cannot be installed; see apt-get's words above"
  if apt-cache show apptainer >/dev/null 2>&1; then
    apt_install apptainer || die "the package apptainer cannot be installed; see apt-get's words above"
  else
    unpack_unstable
  fi
  works || die "the Apptainer that was installed does not start: $(apptainer --version 2>&1 | tail -n 1); ${REMEDY}"
}

unpack_unstable() {
  [[ -r ${KEYRING} ]] || die "no Apptainer is packaged for $(system_name); ${REMEDY}"
  apt_install patchelf || die "the package patchelf cannot be installed; see apt-get's words above"
  WORK=$(mktemp -d)
  trap 'rm -rf "${WORK}"' EXIT
  download || die "Debian's package apptainer cannot be fetched from $(mirror): $(tail -n 1 "${WORK}/log")"
  mkdir -p "${LIBC}"
  local package
  for package in "${WORK}"/lib*.deb; do dpkg-deb -x "${package}" "${LIBC}"; done
  dpkg-deb -x "${WORK}"/apptainer_*.deb "${WORK}/root"
  bind_to_libc
  cp -a "${WORK}"/root/{usr,etc,var} /
  mkdir -p /var/lib/apptainer/mnt/session
}

# Both programs find their C library by their own header, whoever starts them.
bind_to_libc() {
  local program libraries
  libraries=$(echo "${LIBC}"/usr/lib/*-linux-gnu)
  for program in "${WORK}"/root/usr/bin/apptainer "${WORK}"/root/usr/lib/*/apptainer/bin/starter; do
    patchelf --set-interpreter "$(echo "${libraries}"/ld-linux-*.so.*)" \
      --force-rpath --set-rpath "${libraries}" "${program}"
  done
  rm -rf "${WORK}/root/usr/share/man"
}

# apt with lists and sources of its own.
download() {
  mkdir -p "${WORK}"/lists/partial "${WORK}"/cache/archives/partial
  echo "deb [signed-by=${KEYRING}] $(mirror) sid main" >"${WORK}/sources.list"
  cat >"${WORK}/apt.conf" <<-CONF
	Dir::Etc::sourcelist "${WORK}/sources.list";
	Dir::Etc::sourceparts "/dev/null";
	Dir::State::lists "${WORK}/lists";
	Dir::Cache "${WORK}/cache";
	Acquire::Languages "none";
	APT::Sandbox::User "root";
	CONF
  export APT_CONFIG=${WORK}/apt.conf
  (cd "${WORK}" && apt-get update && apt-get download apptainer libc6 libseccomp2 libsqlite3-0) \
    >"${WORK}/log" 2>&1
}

system_name() { (. /etc/os-release && echo "${PRETTY_NAME}"); }

main
