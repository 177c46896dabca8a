#!/bin/bash
# 4Real-Video at the paper's size on one machine of 8 H100: base model, grid model (20k steps of pseudo-4D videos, 3k of
# animated assets), upsampler. The same line resumes; --dry-run shows what each part would do, without a GPU.
#   configs/launch/4real.sh VIDEOS ASSETS [--dry-run] [--section.key value ...]
# VIDEOS, ASSETS: folders of videos and of animated GLB files (or a manifest of `viewtime curate`).
# TEXT_ENCODER=FILE in the environment: CLIP's text encoder (open_clip, safetensors), for captions.
set -euo pipefail
trap 'exit 130' INT TERM  # a stopped part saves itself and ends well; the next one must not start from it
if [ $# -lt 2 ]; then sed -n 2,7p "$0" >&2; exit 2; fi
videos=$1 assets=$2
shift 2
python=${PYTHON:-python}
train=("$python" -m accelerate.commands.launch --config_file configs/launch/gpu8-ddp.yaml train/train.py)
dry=false
for argument in "$@"; do
  if [ "$argument" = --dry-run ]; then dry=true train=("$python" train/train.py --device cpu); fi
done
text=()
if [ -n "${TEXT_ENCODER:-}" ]; then text=(--data.options.text.weights "$TEXT_ENCODER"); fi

"${train[@]}" --config 4real-base --data.options.videos "$videos" --data.options.assets "$assets" "${text[@]}" "$@"
start=(--model.weights null)
if ! $dry; then
  mkdir -p runs/4real
  if [ ! -f runs/4real/start.safetensors ]; then
    "$python" -m viewtime.model.four_real.assemble runs/4real-base/weights.safetensors runs/4real/start.safetensors
  fi
  start=()
fi
"${train[@]}" --config 4real --data.options.videos "$videos" --stages.2.data.assets "$assets" "${start[@]}" "${text[@]}" "$@"
"${train[@]}" --config 4real-upsampler --data.options.videos "$videos" "$@"
