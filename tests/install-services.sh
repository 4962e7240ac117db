#!/usr/bin/env bash
# Installs the system packages whose programs the tests start, where that is possible: root on Debian.
# Elsewhere the tests that need a missing program are skipped, each saying which. With the argument
# `radosgw` those of Ceph's gateway alone.
set -euo pipefail
packages=()
# Daemons lie in /usr/sbin, which not every path has.
need() { PATH="$PATH:/usr/sbin" command -v "$1" >/dev/null || packages+=("$2"); }
if [ "${1:-}" = radosgw ]; then
  need ceph ceph-common
  need ceph-mon ceph-mon
  need ceph-osd ceph-osd
  need radosgw radosgw
else
  need chromium chromium
  need chromedriver chromium-driver
  need g++ g++
  headers=$(python3 -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
  [ -e "$headers/Python.h" ] || packages+=(python3-dev)
  need nginx nginx-light
  need sbatch slurm-wlm
  need munged munge
  need sshd openssh-server
  need ip iproute2
  need faketime faketime
fi
[ "${#packages[@]}" -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "not installed: ${packages[*]}; tests that need them are skipped"
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet=2
apt-get install --quiet=2 --yes --no-install-recommends "${packages[@]}" >/dev/null
