"""Views of frame 0 that a grid starts from: made by SV3D (for SV4D), or given by the user."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from viewtime.cameras import Cameras
from viewtime.configs.schema.sample import PreprocessOptions
from viewtime.errors import UserError
from viewtime.images import composite
from viewtime.sample.input.preprocess import prepare_video
from viewtime.sample.models.grid_model import GridModel
from viewtime.sample.plan.plan import Plan, Problem, Window
from viewtime.sample.plan.plans import joint
from viewtime.sample.solver.guidance import Guidance
from viewtime.video import read_video

from .runner import MakeReference, Settings, run_plan
from .store import CellStore

# First frames of a pair of videos that are less alike than this (PSNR in dB over pictures of 64 × 64) are two pictures:
# a copy that was compressed hard keeps over 30 dB.
LEAST_LIKENESS = 20.0
COMPARED_SIDE = 64


class ReferenceViews:
    """A multi-view model (SV3D) that makes an orbit around frame 0.

    Args:
        model: takes one frame and makes `model.traits.novel_views` views at `model.traits.azimuths`.
    """

    def __init__(self, model: GridModel) -> None:
        if model.traits.window_frames != 1 or model.traits.azimuths is None:
            raise UserError(f"{model.traits.name} makes no reference views; give SV3D weights (sv3d_u or sv3d_p)")
        self.model = model

    def maker(self, cameras: Cameras, settings: Settings, store: CellStore) -> MakeReference:
        """A function that makes the cells of a reference window of the grid with these cameras."""

        def make(window: Window) -> Tensor:
            orbit = self._sample(cameras, settings, store)
            rows = [1 + self._nearest(float(cameras.azimuth[view, 0] - cameras.azimuth[0, 0])) for view in window.views]
            return torch.stack([orbit[row] for row in rows])[:, None]

        return make

    def _nearest(self, azimuth: float) -> int:
        """Index of the orbit's novel view nearest to an azimuth in degrees."""
        orbit = torch.tensor(self.model.traits.azimuths)
        return int(((orbit - azimuth + 180) % 360 - 180).abs().argmin())

    def _sample(self, cameras: Cameras, settings: Settings, store: CellStore) -> list[Tensor]:
        """Cells of the whole orbit, the input first, [C, H, W] each."""
        traits = self.model.traits
        assert traits.azimuths is not None
        problem = Problem(
            1 + traits.novel_views, 1, traits.window_views, 1, frozenset({(0, 0)}), input_last=traits.input_last
        )
        plan: Plan = joint(problem)
        azimuth = torch.tensor([0.0, *traits.azimuths])[:, None]
        elevation = cameras.elevation[:1, :1].expand_as(azimuth)
        orbit_cameras = Cameras(elevation, azimuth, cameras.distance[:1, :1].expand_as(azimuth), cameras.fov_y)
        orbit_store = CellStore(store.folder / "reference", plan)
        orbit_store.put_given((0, 0), store.read([(0, 0)])[0])
        default = traits.sampler
        guidance = Guidance(default.guidance, default.guidance_low, default.guidance_high)
        settings = replace(settings, guidance=guidance, sampler=default.name, cache="none")
        for _ in run_plan(plan, self.model, orbit_store, orbit_cameras, settings):
            pass
        return list(orbit_store.read([(view, 0) for view in range(problem.views)]))


def read_reference_views(source: str | Path, cell: tuple[int, int], options: PreprocessOptions) -> Tensor:
    """The user's own orbit: images of frame 0 from each novel view, in order, [N, 4, H, W] in [0, 1].

    They are keyed and cropped like a video, one crop for all, so that their scale agrees.
    """
    prepared = prepare_video(read_video(source), cell, replace(options, fps=None))
    return rearrange(torch.from_numpy(np.ascontiguousarray(prepared.cells)).float() / 255.0, "n h w c -> n c h w")


def read_freeze_video(
    source: str | Path, cell: tuple[int, int], options: PreprocessOptions, views: int | None = None
) -> Tensor:
    """A freeze-time video whose first frame is the input video's first frame: the novel views, [N, 4, H, W] in [0, 1].

    Args:
        views: novel views to take, evenly spaced over the video with its last frame among them; None: all.

    Raises:
        UserError: fewer frames than views, or a single one.
    """
    cells = read_reference_views(source, cell, options)
    novel = len(cells) - 1 if views is None else views
    if novel < 1 or novel > len(cells) - 1:
        raise UserError(f"{source} has {len(cells)} frames; that gives 1 to {len(cells) - 1} novel views, not {novel}")
    return cells[torch.linspace(0, len(cells) - 1, novel + 1).round().long()[1:]]


def check_same_start(video: str | Path, freeze_video: str | Path) -> None:
    """A freeze-time video begins where the fixed-view video does: one picture, one shape.

    Raises:
        UserError: either cannot be read, their shapes differ by over 2 %, or their first frames are two pictures.
    """
    first, other = (read_video(path, 1).frames[0] for path in (video, freeze_video))
    (height, width), (other_height, other_width) = first.shape[:2], other.shape[:2]
    if abs(width * other_height / (height * other_width) - 1) > 0.02:
        raise UserError(
            f"{video} is {width} × {height} px and {freeze_video} {other_width} × {other_height} px; their pictures "
            "must have one shape: cut one of them"
        )
    small = [
        functional.interpolate(
            composite(rearrange(torch.from_numpy(frame).float() / 255, "h w c -> 1 c h w")),
            (COMPARED_SIDE, COMPARED_SIDE), mode="area",
        )
        for frame in (first, other)
    ]  # fmt: skip
    likeness = -10 * math.log10(max(float((small[0] - small[1]).square().mean()), 1e-10))
    if likeness < LEAST_LIKENESS:
        raise UserError(
            f"{freeze_video} does not begin with the first frame of {video} (PSNR {likeness:.1f} dB; at least "
            f"{LEAST_LIKENESS:g} is needed): cut it so that it starts at the fixed view and instant"
        )
