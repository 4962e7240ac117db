#!/usr/bin/env bash
# Installs the system packages whose programs the tests start, where that is possible: root on Debian.
# Elsewhere the tests that need a missing program are skipped, each saying which.
set -euo pipefail
packages=()
command -v chromium >/dev/null || packages+=(chromium)
command -v chromedriver >/dev/null || packages+=(chromium-driver)
command -v g++ >/dev/null || packages+=(g++)
command -v sbatch >/dev/null || packages+=(slurm-wlm munge)
[ "${#packages[@]}" -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "not installed: ${packages[*]}; tests that need them are skipped"
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet=2
apt-get install --quiet=2 --yes --no-install-recommends "${packages[@]}" >/dev/null
