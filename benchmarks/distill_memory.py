"""Device memory of one guidance's step at full size, without weights: `python benchmarks/distill_memory.py`.

Counts the tensors of weights, and of a step forward and backward to the render; the scene's field and renderer come on
top, and the CUDA context.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import torch

from viewtime.recon.distill.memory import GIB, step_memory
from viewtime.recon.distill.objectives import Objective, OneStep, Reconstruction, Sds, Vsd
from viewtime.recon.distill.published.open import GuidanceOptions

Batch = tuple[int, int, int]
STEPS: dict[str, tuple[str, Objective, Batch, tuple[int, int], torch.dtype]] = {
    "4D-fy 3D (MVDream, fp32, 4 views)": ("mvdream", Reconstruction(), (1, 4, 1), (256, 256), torch.float32),
    "4D-fy image (VSD, fp16)": ("sd-2.1-base", Vsd(), (1, 1, 1), (256, 256), torch.float16),
    "4D-fy video (Zeroscope, fp16, 16 frames)": ("zeroscope", Sds(), (1, 1, 16), (160, 288), torch.float16),
    "Dream-in-4D image (SD, fp16, 4 images)": ("sd-2.1-base", Sds(), (1, 4, 1), (256, 256), torch.float16),
    "Dream-in-4D motion (Zeroscope, fp16, 24 frames)": ("zeroscope", OneStep(), (1, 1, 24), (80, 144), torch.float16),
    "Dream-in-4D reference (zero123-xl, fp32, 2 images)": (
        "zero123-xl", Sds(3.0, "B"), (2, 1, 1), (256, 256), torch.float32,
    ),
    "Dream-in-4D pixels (IF-XL, fp16, 2 images)": ("deepfloyd-if", Sds(20.0), (2, 1, 1), (256, 256), torch.float16),
}  # fmt: skip
FORMS = {
    "all frames of the autoencoder at once": GuidanceOptions(chunk=64, recompute=False),
    "a frame at a time, encoded again in the backward pass": GuidanceOptions(),
    "and one branch of guidance after the other": replace(GuidanceOptions(), split=True),
}


def main() -> None:
    chosen = sys.argv[1:]
    for label, (name, objective, batch, size, dtype) in STEPS.items():
        if chosen and not any(word.lower() in label.lower() for word in chosen):
            continue
        found = {form: step_memory(name, objective, batch, size, dtype, options) for form, options in FORMS.items()}
        weights = next(iter(found.values())).weights
        print(f"{label}: weights {weights / GIB:.1f} GiB", flush=True)
        for form, memory in found.items():
            print(f"  {memory.peak / GIB:5.1f} GiB  {form}", flush=True)


if __name__ == "__main__":
    main()
