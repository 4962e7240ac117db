#!/usr/bin/env bash
# Builds apex and detectron2, which are on no index, from pinned commits into the environment of $1.
# Both read the installed torch while they build, so torch comes first and builds are not isolated.
set -euo pipefail
pip="$1/bin/pip"
apex=705cba91fc26413d484f5ce2983427d840199a97
detectron2=02b5c4e

APEX_CPP_EXT=1 APEX_CUDA_EXT=1 "$pip" install --no-build-isolation \
  "git+https://github.com/NVIDIA/apex@${apex}"
"$pip" install --no-build-isolation "git+https://github.com/facebookresearch/detectron2@${detectron2}"
