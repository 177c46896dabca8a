"""4Real-Video's protocol (section 4.2): measures without ground truth, on time videos and on view videos.

Fixed-view videos (rows) and freeze-time videos (columns) are measured apart. FVD-Test compares the generated ones
with the input videos of the test set (the rows and columns that are known throughout), FVD with a folder of real
videos. Confidence ratios come from a matcher or reconstructor that the user plugs in.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.sample.metrics.evaluator import FRAMES_PER_CALL
from viewtime.sample.metrics.measures.frechet import frechet_distance
from viewtime.sample.metrics.measures.traversal import windows
from viewtime.sample.metrics.networks.inception import Inception
from viewtime.sample.metrics.networks.video import VideoNetwork
from viewtime.sample.metrics.summary import Row
from viewtime.video import read_video

KINDS = {"time": "fixed-view videos (rows)", "view": "freeze-time videos (columns)"}


@runtime_checkable
class ConfidencePlugin(Protocol):
    """A matcher (as GIM) or reconstructor (as DUSt3R) that tells how consistent a freeze-time video is.

    Attributes:
        name: what the rows are called, e.g. "GIM-Confidence".
        thresholds: confidences tau; the share of pixels above each is reported.
        protocol: resolution, weights and their checksum, in words.
    """

    name: str
    thresholds: Sequence[float]
    protocol: str

    def __call__(self, video: Tensor) -> Tensor:
        """Images of one instant [V, 3, H, W] in [0, 1] -> a confidence per pixel, any shape."""
        ...


def load_plugin(target: str) -> ConfidencePlugin:
    """The object (or the class, which is called without arguments) that "module:name" names.

    The module may lie in the current folder, which an installed command does not search by itself.

    Raises:
        UserError: it cannot be imported or lacks a part of the interface.
    """
    module, _, name = target.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module), name)
        plugin = found() if isinstance(found, type) else found
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"plug-in {target!r} cannot be loaded: {error}; give it as MODULE:NAME") from error
    except Exception as error:  # foreign code may raise anything
        raise UserError(f"plug-in {target!r} failed to load: {type(error).__name__}: {error}") from error
    if not isinstance(plugin, ConfidencePlugin):
        raise UserError(f"plug-in {target!r} needs name, thresholds, protocol and a call; see docs/metrics.md")
    return plugin


class FourRealEvaluator:
    """Accumulates grids; keeps feature vectors and counts, never frames.

    Args:
        clip_frames: cut videos into clips of that many frames (4Real-Video: 16); None takes them whole.
        inception: for FID, of all pictures one by one; None leaves it out.
    """

    def __init__(
        self,
        network: VideoNetwork,
        plugins: Sequence[ConfidencePlugin] = (),
        clip_frames: int | None = None,
        background: float = 1.0,
        inception: Inception | None = None,
    ) -> None:
        self.network, self.plugins, self.inception = network, list(plugins), inception
        self.clip_frames, self.background = clip_frames, background
        self.generated: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
        self.inputs: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
        self.real: list[np.ndarray] = []
        # Features of single pictures, for FID.
        self.pictures: dict[str, list[np.ndarray]] = {"generated": [], "given": [], "real": []}
        # Per plug-in: pixels above each threshold, then all pixels.
        self.counts = {plugin.name: np.zeros(len(plugin.thresholds) + 1, np.int64) for plugin in self.plugins}

    @torch.no_grad()
    def add(self, grid: FrameGrid) -> None:
        """Measure one generated grid; its `known` cells say which videos were given."""
        frames = grid.rgb(self.background)
        views = {"time": frames, "view": rearrange(frames, "v f c h w -> f v c h w")}
        known = {"time": grid.known, "view": grid.known.T}
        self._add_pictures("generated", frames[~grid.known])
        self._add_pictures("given", frames[grid.known])
        for kind, videos in views.items():
            for video, given in zip(videos, known[kind].all(dim=1).tolist(), strict=True):
                (self.inputs if given else self.generated)[kind] += self._features(video)
                if kind == "view" and not given:
                    self._count(video)

    @torch.no_grad()
    def add_real_video(self, path: Path) -> None:
        """Add one file to the set of real videos."""
        frames = torch.from_numpy(read_video(path).frames[..., :3].copy()).float() / 255.0
        video = rearrange(frames, "t h w c -> t c h w")
        self.real += self._features(video)
        self._add_pictures("real", video)

    def rows(self) -> tuple[list[Row], dict[str, str]]:
        """Table rows, and what could not be computed with the reason."""
        rows, missing = [], {}
        star = "*" if self.network.star else ""
        length = "whole" if self.clip_frames is None else f"clips of {self.clip_frames} frames"
        common = f"{self.network.name}, {self.network.checksum}; {length}; {self.network.preprocessing}"
        for kind, words in KINDS.items():
            for name, reference in (("FVD-Test", self.inputs[kind]), ("FVD", self.real)):
                label = f"{name}{star} ({kind})"
                if not self.generated[kind] or not reference:
                    side = "no generated video" if not self.generated[kind] else "no reference video"
                    missing[label] = f"{side} long enough among the {words}" if name == "FVD-Test" else side
                    continue
                value = frechet_distance(np.stack(self.generated[kind]), np.stack(reference))
                samples = f"{len(self.generated[kind])} clips against {len(reference)}"
                origin = "the given videos" if name == "FVD-Test" else "real videos"
                protocol = f"{words} against {origin}; {common}"
                rows.append(Row(f"{name}_{kind}".lower(), label, "lower", value, None, None, samples, protocol))
        self._add_fid(rows, missing)
        for plugin in self.plugins:
            *above, total = self.counts[plugin.name].tolist()
            for threshold, count in zip(plugin.thresholds, above, strict=True):
                if total:
                    rows.append(_ratio_row(plugin, threshold, count, total))
                else:
                    missing[plugin.name] = "no generated freeze-time video"
        return rows, missing

    def _add_pictures(self, kind: str, pictures: Tensor) -> None:
        if self.inception is not None and len(pictures):
            self.pictures[kind].append(self.inception(pictures).numpy())

    def _add_fid(self, rows: list[Row], missing: dict[str, str]) -> None:
        if self.inception is None:
            missing["FID"] = "no network; give --fid-weights FILE"
            return
        for name, kind, words in (("FID-Test", "given", "given pictures"), ("FID", "real", "pictures of real videos")):
            if not self.pictures["generated"] or not self.pictures[kind]:
                missing[name] = f"no {words}" if self.pictures["generated"] else "no generated picture"
                continue
            generated, reference = (np.concatenate(self.pictures[side]) for side in ("generated", kind))
            value = frechet_distance(generated, reference)
            few = " (fewer than dimensions)" if min(len(generated), len(reference)) <= generated.shape[1] else ""
            samples = f"{len(generated)} pictures against {len(reference)}{few}"
            protocol = f"all generated pictures against all {words}; {self.inception.protocol}"
            rows.append(Row(name.lower(), name, "lower", value, None, None, samples, protocol))

    def _features(self, video: Tensor) -> list[np.ndarray]:
        """[T, 3, H, W] -> one vector per clip; none where the video is too short."""
        whole = [(0, index) for index in range(len(video))]
        indices = [[index for _, index in clip] for clip in windows(whole, self.clip_frames)]
        if not indices or len(indices[0]) < self.network.min_frames:
            return []
        prepared = torch.cat([self.network.prepare(part) for part in video.split(FRAMES_PER_CALL)])
        return [self.network(prepared[index][None])[0].numpy() for index in indices]

    def _count(self, video: Tensor) -> None:
        for plugin in self.plugins:
            confidence = _confidence(plugin, video)
            above = [int((confidence > threshold).sum()) for threshold in plugin.thresholds]
            self.counts[plugin.name] += np.array([*above, confidence.numel()])


def _confidence(plugin: ConfidencePlugin, video: Tensor) -> Tensor:
    """What the plug-in says; its failures are named as its own."""
    try:
        confidence = torch.as_tensor(plugin(video))
    except Exception as error:  # foreign code may raise anything
        raise UserError(f"plug-in {plugin.name} failed: {type(error).__name__}: {error}") from error
    if not confidence.numel() or not bool(torch.isfinite(confidence).all()):
        raise UserError(f"plug-in {plugin.name} returned a confidence that is empty or not finite")
    return confidence


def _ratio_row(plugin: ConfidencePlugin, threshold: float, count: int, total: int) -> Row:
    metric = f"{plugin.name}_{threshold:g}".lower()
    name = f"{plugin.name}, tau = {threshold:g} (share)"
    return Row(metric, name, "higher", count / total, None, None, f"{total} pixels", plugin.protocol)
