"""One iteration of every fit on a card that is not there: the fits' own `step`, at the size of their options.

Masks read as full, so that every ray has all its samples: the NeRF's numbers are the most that a step can take.
Compositing and the NeRF's encoder and marching are kernels of our own, whose shapes are followed and whose work is not
counted; they are proved in value and gradient by their Warp source on the CPU (`tests/recon/nerf/test_warp_kernels.py`,
`tests/recon/render/test_renderers.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fake_card import FakeCard
from benchmarks.fake_gpu import Cost
from viewtime.cameras import regular_orbit
from viewtime.configs.load import build, load_preset
from viewtime.configs.schema.reconstruct import GaussianOptions, ImperfectOptions, ReconstructConfig
from viewtime.configs.schema.reconstruct_nerf import NerfLossWeights, NerfOptions
from viewtime.recon.fitting.targets import Targets
from viewtime.recon.gaussians.canonical import Gaussians, spacing_scale
from viewtime.recon.gaussians.fit import PRUNE_EVERY, GaussianFit
from viewtime.recon.nerf.fit import NerfFit
from viewtime.recon.nerf.occupancy import Occupancy
from viewtime.recon.render.splats import Viewpoints

VIEWS, FRAMES, SIZE = 9, 5, 256
REMEDIES = ImperfectOptions(offset=True, exposure=True, view_deformation=True, robust=True, view_weighting=True)
NERF_REMEDIES = ImperfectOptions(offset=True, exposure=True, robust=True)
SHORT: dict[str, Any] = {"static_iterations": 1, "dynamic_iterations": 1000}
FEW_VOXELS = 24  # of the vote, which is the host's work


def targets() -> Targets:
    """Full pictures, on the host."""
    orbit, full = regular_orbit(VIEWS, FRAMES), torch.ones(VIEWS, FRAMES, dtype=torch.bool)
    return Targets(torch.ones(VIEWS, FRAMES, 4, SIZE, SIZE), full, Viewpoints.of(orbit, SIZE, SIZE), 0.5)


def gaussian_step(card: FakeCard, options: GaussianOptions, imperfect: ImperfectOptions) -> Cost:
    """An iteration of the moving stage, with pruning and splitting."""
    config = ReconstructConfig(Path("grid"), gaussians=replace(options, **SHORT), imperfect=imperfect)
    position = torch.rand(options.count, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    first = Gaussians(position, spacing_scale(position), torch.full_like(position, 0.5), options.isotropic)
    fit = GaussianFit(targets().to("cuda"), first, config)
    fit.step()
    fit.step()
    fit.progress.iteration = PRUNE_EVERY - 1
    fit.densifier.due_at = {PRUNE_EVERY} if options.densify else set()
    with card.record() as cost:
        fit.step()
    return cost


def nerf_step(card: FakeCard, config: ReconstructConfig) -> Cost:
    """An iteration of the moving stage; then the occupied voxels are looked at, outside the count."""
    host, vote = targets(), Occupancy.of  # the card's pictures have no values to vote by
    with mock.patch.object(Occupancy, "of", lambda _, *options: vote(host, *options)):
        fit = NerfFit(
            host.to("cuda"), replace(config, nerf=replace(config.nerf, occupancy_resolution=FEW_VOXELS, **SHORT))
        )
    fit.step()
    fit.step()
    with card.record() as cost:
        fit.step()
    fit.look_around()
    return cost


def _nerf(imperfect: ImperfectOptions = NERF_REMEDIES, **options: Any) -> ReconstructConfig:
    return ReconstructConfig(Path("grid"), method="nerf", nerf=NerfOptions(**options), imperfect=imperfect)


def paper_nerf() -> ReconstructConfig:
    """Preset sv4d-nerf, LPIPS apart, whose network needs its weights (it is among the metrics' networks)."""
    config = build(ReconstructConfig, {**load_preset("sv4d-nerf", "reconstruct"), "grid": "grid"}, "reconstruct")
    return replace(config, nerf=replace(config.nerf, weights=replace(config.nerf.weights, lpips=0.0)))


GAUSSIAN_FITS = {
    "control points": GaussianOptions(),
    "free": GaussianOptions(motion="free"),
    "mlp": GaussianOptions(motion="mlp"),
    "isotropic": GaussianOptions(motion="mlp", isotropic=True),
    "splitting": GaussianOptions(densify=2),
}
NERF_FITS: dict[str, Callable[[], ReconstructConfig]] = {
    "grid": _nerf,
    "mlp": partial(_nerf, deformation="mlp", remainder_features=0),
    "patches": partial(_nerf, patches_per_step=4, weights=NerfLossWeights(depth=0.01, bilateral=0.05)),
    "curriculum": partial(_nerf, curriculum=True),
    "sv4d-nerf": paper_nerf,
}
FITS: dict[str, Callable[[FakeCard], Cost]] = {
    **{
        f"gaussians: {name}": partial(gaussian_step, options=o, imperfect=REMEDIES) for name, o in GAUSSIAN_FITS.items()
    },
    "gaussians: no remedy": partial(gaussian_step, options=GaussianOptions(), imperfect=ImperfectOptions()),
    **{f"nerf: {name}": (lambda card, make=make: nerf_step(card, make())) for name, make in NERF_FITS.items()},
}
