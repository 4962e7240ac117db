#!/usr/bin/env bash
# Installs what both images need from the system: a compiler, because DeepSpeed builds its CPU
# collective at the first start, and git for the pinned sources.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet=2
apt-get install --quiet=2 --yes --no-install-recommends g++ git python3 python3-dev python3-venv make
rm -rf /var/lib/apt/lists/*
