#!/usr/bin/env bash
# The first day on a GPU, in pieces: golden numbers, a full-size window and a whole sampling of each published model,
# training, fits, GL through EGL. Run it again and it goes on where it stopped; it stops by itself after SECONDS.
#   tools/gpu_day.sh [OUT [SECONDS]]        default: runs/gpu-day, 600 s
#   DRY_RUN=1 tools/gpu_day.sh OUT          the same pieces with -debug twins on the CPU
# OUT/table.md and OUT/results.json hold what is finished.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
export PYOPENGL_PLATFORM=${PYOPENGL_PLATFORM:-egl}
exec "$python" benchmarks/gpu_day.py --out "${1:-runs/gpu-day}" --seconds "${2:-600}" ${DRY_RUN:+--dry-run}
