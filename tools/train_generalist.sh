#!/usr/bin/env bash
# Train the generalist on one GPU, in pieces: stops by itself after SECONDS, and the same command goes on from there.
#
#   tools/train_generalist.sh FOLDER_WITH_THE_GLBS [SECONDS, 540] [COPY_TO]
#
# PYTHON names another interpreter (default .venv/bin/python). COPY_TO gets the metrics and, when done, the weights.
set -euo pipefail
cd "$(dirname "$0")/.."
assets=${1:?folder with the GLB files}
python=${PYTHON:-.venv/bin/python}
curated=runs/mini-generalist-assets
[ -f "$curated/summary.json" ] || "$python" -m viewtime.cli curate "$assets" --out "$curated"
status=0
timeout --signal=TERM --kill-after=50 "${2:-540}" "$python" train/train.py \
  --config configs/mini-generalist.yaml --data.options.assets "$curated" || status=$?
if [ -n "${3:-}" ]; then
  cp runs/mini-generalist/metrics.jsonl "$3"
  cp runs/mini-generalist/weights.safetensors "$3" 2>/dev/null || true
fi
[ "$status" -eq 124 ] || exit "$status"  # 124: the time was up, and the run was saved
