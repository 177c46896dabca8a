"""A step of every shot of `viewtime distill`'s presets on a card that is not there: the run's own step, at full size.

Field, renderer, guidance, losses, backward pass and optimiser are those of the command; the networks have no weights.
Every ray has `SAMPLES` samples, since a mask reads as full on this card.

    python benchmarks/gpu_distill.py [--presets 4d-fy-code dream-in-4d-code] [--memory 0]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fake_card import FakeCard, fake_card
from benchmarks.fake_gpu import Cost
from viewtime.configs.schema.distill import DistillConfig
from viewtime.recon.distill.guidance.lora_copy import LoraCopy
from viewtime.recon.distill.guidance.prompts import TextPrompt
from viewtime.recon.distill.memory import pretended_guidance
from viewtime.recon.distill.noise import cosine_schedule, scaled_linear_schedule
from viewtime.recon.distill.published.open import GuidanceOptions
from viewtime.recon.distill.running import judges
from viewtime.recon.distill.running.fit import DistillFit
from viewtime.recon.distill.running.reference import Reference
from viewtime.recon.distill.running.schedule import used_shots

SAMPLES = 40  # as where the object fills the picture
PRESETS = ("4d-fy-code", "dream-in-4d-code", "dream-in-4d-image")
TOKENS = 77


def shots(preset: str, memory: int = 0) -> list[tuple[str, str]]:
    """(stage, shot) of a preset: each that a step may draw; one for a stage whose steps have all of its shots."""
    found = []
    for stage, options in _config(preset, memory).stages.items():
        used = used_shots(options)
        drawn = [shot for shot, given in used.items() if given.probability is not None]
        found += [(stage, shot) for shot in drawn or [next(iter(used))]]
    return found


def one_shot(preset: str, stage: str, shot: str, memory: int = 0) -> DistillConfig:
    """The preset with steps of that kind alone, at their last and largest size."""
    changes, whole = [], _config(preset, memory)
    for name, options in whole.stages.items():
        if name != stage:
            changes += [f"--stages.{name}.steps", "0"]
            continue
        for other, given in options.shots.items():
            where, size = f"--stages.{name}.shots.{other}", str([list(given.sizes[-1])])
            changes += [f"{where}.sizes", size, f"{where}.at_steps", "[]"]
            if given.probability is not None:
                changes += [f"{where}.probability", str(float(other == shot))]
    return _config(preset, memory, *changes)


def _config(preset: str, memory: int, *changes: str) -> DistillConfig:
    carrier = ["--guidances.image.carrier", "sd21"] if preset.startswith("4d-fy") and memory != 12 else []
    words = ["a panda dancing", "--config", preset, "--memory", str(memory), "--render.samples", str(SAMPLES)]
    return DistillConfig.from_argv([*words, *carrier, *changes], "gpu_distill.py")


@contextmanager
def without_files() -> Iterator[None]:
    """Networks at full size in place of what is loaded; call within `fake_card`."""
    with ExitStack() as stack:
        for name, made in (("open_guidance", _guidance), ("open_copy", _copy), ("_text", _text)):
            stack.enter_context(mock.patch.object(judges, name, made))
        yield


def _guidance(name: str, path: Any, device: torch.device, dtype: torch.dtype, options: GuidanceOptions) -> Any:
    del path
    schedule = cosine_schedule() if name == "deepfloyd-if" else scaled_linear_schedule()
    guidance: Any = pretended_guidance(name, schedule, options, "meta")
    parts = (guidance.network, getattr(guidance.codec, "autoencoder", None))
    for part in (*parts, getattr(guidance, "image_encoder", None), getattr(guidance, "projection", None)):
        if isinstance(part, nn.Module):
            part.to(device, dtype)
    return guidance


def _copy(path: Any, device: torch.device, dtype: torch.dtype) -> LoraCopy:
    del path
    carrier: Any = pretended_guidance("sd-2.1", scaled_linear_schedule(), None, "meta")
    return LoraCopy(carrier.network.to(device, dtype), scaled_linear_schedule(), "velocity")


def _text(name: str, options: Any, path: Any, prompt: str) -> TextPrompt:
    del name, path
    width = 4096 if options.model == "deepfloyd-if" else 1024
    plain, directions = torch.zeros(TOKENS, width), torch.zeros(4, TOKENS, width)
    words = None if options.view_words is None else judges.ViewWords(*options.view_words)
    return TextPrompt(prompt, "", plain, directions, plain, words)


def shot_step(card: FakeCard, preset: str, stage: str, shot: str, memory: int = 0) -> tuple[Cost, DistillFit]:
    """Cost of a shot's second step, when the optimiser's state is there, and the run."""
    config = one_shot(preset, stage, shot, memory)
    picture = torch.zeros(4, 256, 256)
    picture[:, 64:192, 64:192] = 1.0
    reference = Reference(picture, config.reference) if preset.endswith("image") else None
    device = torch.device("cuda")
    with without_files():
        judge = partial(judges.open_judge, config=config, device=device, reference=reference)
        fit = DistillFit(config, judge, device, reference)
        fit.step()
        with card.record() as cost:
            fit.step()
    return cost, fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["4d-fy-code", "dream-in-4d-code"])
    parser.add_argument("--memory", type=int, nargs="+", default=[0], help="0: the preset as it is")
    arguments = parser.parse_args()
    print("| preset, `--memory` | stage | shot | peak, GB | kernels | TFLOP |\n|---|---|---|---|---|---|")
    for preset in arguments.presets:
        for memory in arguments.memory:
            for stage, shot in shots(preset, memory):
                with fake_card() as card:
                    cost, _ = shot_step(card, preset, stage, shot, memory)
                found = f"{cost.peak / 2**30:.1f} | {cost.kernels} | {cost.flops / 1e12:.1f}"
                print(f"| {preset}, {memory} | {stage} | {shot} | {found} |", flush=True)


if __name__ == "__main__":
    main()
