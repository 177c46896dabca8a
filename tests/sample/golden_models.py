"""Golden cases as models that the runner samples: published conditioning and networks, latents left undecoded."""

import sys
from pathlib import Path

import torch

from viewtime.model.denoiser import NetworkDenoiser, VScaling
from viewtime.sample.models.grid_model import ModelTraits

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "model"))

import golden_files as golden


class GoldenModel:
    """One network with the stored conditioning of each direction ("" | "forward" | "backward")."""

    def __init__(self, name, views, frames, latent_shape, conditions):
        self.denoiser = NetworkDenoiser(golden.network(name), VScaling(), 4)
        self.traits = ModelTraits(name, views, frames, latent_shape[-1], 4, inside=False)
        self.device = torch.device("cpu")
        self._latent_shape, self._conditions = latent_shape, conditions

    def latent_shape(self):
        return self._latent_shape

    def conditions(self, request):
        return self._conditions[request.direction.name]

    def clean(self, request):
        return None

    def decode(self, latents):
        return latents


def both_branches(name, data, views, prefix=""):
    return tuple(golden.conditioning(name, data, views, 1, f"{prefix}{branch}_") for branch in ("c", "uc"))
