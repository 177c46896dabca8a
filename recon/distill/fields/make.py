"""The scene that options name."""

from __future__ import annotations

import torch

from viewtime.configs.schema.distill_scene import BackgroundOptions, FieldOptions, RenderOptions

from .gaussian_scene import GaussianScene
from .scene import Scene
from .volume import VolumeScene

KINDS: dict[str, type[VolumeScene] | type[GaussianScene]] = {"hash": VolumeScene, "gaussians": GaussianScene}


def make_scene(field: FieldOptions, background: BackgroundOptions, render: RenderOptions, seed: int) -> Scene:
    """A random scene; a seed means the same on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return KINDS[field.kind](field, background, render)
