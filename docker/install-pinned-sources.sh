#!/usr/bin/env bash
# Builds apex and detectron2, which are on no index, from pinned commits into the environment of $1.
# Both read the installed torch while they build, so torch comes first and builds are not isolated.
# Where an image is built there is no GPU to ask, so the architectures are named: A100, H100 and
# H200, B200, and what is newer compiles for itself. $2 names others.
set -euo pipefail
pip="$1/bin/pip"
apex=705cba91fc26413d484f5ce2983427d840199a97
detectron2=02b5c4e295e990042a714712c21dc79b731e8833
export FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST="${2:-8.0;9.0;10.0+PTX}"

APEX_CPP_EXT=1 APEX_CUDA_EXT=1 "$pip" install --no-build-isolation \
  "git+https://github.com/NVIDIA/apex@${apex}"
"$pip" install --no-build-isolation "git+https://github.com/facebookresearch/detectron2@${detectron2}"
