"""Endless training grids rendered while training: a random asset, clip, moment and orbit for every position.

Needs no shards. Each loader worker makes its own EGL context on its first draw. What is rendered depends on
(seed, consumer, position) alone, so the stream resumes exactly and repeats bit for bit on one machine.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange

from viewtime.cameras import Cameras
from viewtime.configs.data import OnTheFly
from viewtime.data.asset_list import Asset
from viewtime.data.samples import CorruptSampleError, GridSample
from viewtime.data.scene_variation import draw_light, draw_part_colours, draw_parts, draw_proportions
from viewtime.data.sources import Consumer
from viewtime.errors import UserError
from viewtime.render_objaverse.animation import Clip
from viewtime.render_objaverse.framing import camera_distance, normalise
from viewtime.render_objaverse.gltf import Scene, load_scene
from viewtime.render_objaverse.gltf_file import AssetError
from viewtime.render_objaverse.orbits import dynamic_orbit, with_distance
from viewtime.render_objaverse.pose import pose_scene

PLACING_POSES = 8  # instants of the whole clip that decide the object's size and place


@dataclass(frozen=True)
class _Loaded:
    scene: Scene
    clips: list[Clip]


class AssetSource:
    """Renders V × F grids from assets with the GL engine.

    Args:
        assets: what to render (`data.asset_list`).
        views, frames: of the grids; max_stride: largest step between frames, in frames of `options.fps`.
        resolution: pixels; side of a square, or (height, width).
    """

    name = "assets"
    needs_fresh_process = True  # a forked copy of a process with an OpenGL driver in it hangs

    def __init__(
        self,
        assets: list[Asset],
        views: int,
        frames: int,
        resolution: int | tuple[int, int],
        max_stride: int = 1,
        options: OnTheFly | None = None,
    ) -> None:
        self.assets = assets
        self.views, self.frames, self.max_stride = views, frames, max_stride
        self.options = options or OnTheFly()
        height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
        self.size = (height * self.options.supersample, width * self.options.supersample)
        if self.options.elevation_min > self.options.elevation_max or self.options.fps <= 0:
            raise UserError(
                f"elevations {self.options.elevation_min:g} … {self.options.elevation_max:g} degrees at "
                f"{self.options.fps:g} frames/s: the first must not exceed the second, and fps must be positive"
            )
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()
        self._renderer: tuple[int, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": OrderedDict(), "_renderer": None}

    def draw(self, consumer: Consumer, position: int, rng: np.random.Generator) -> GridSample:
        """See `data.sources.Source`."""
        asset = self.assets[int(rng.integers(len(self.assets)))]
        try:
            loaded = self._load(asset)
            clip = loaded.clips[int(rng.integers(len(loaded.clips)))]
            return self._render(asset, loaded.scene, clip, rng)
        except AssetError as error:
            raise CorruptSampleError(f"{asset.id}: {error}") from error

    def _load(self, asset: Asset) -> _Loaded:
        if asset.id in self._loaded:
            self._loaded.move_to_end(asset.id)
            return self._loaded[asset.id]
        scene = load_scene(asset.path)
        moving = [clip for clip in scene.clips if clip.duration * self.options.fps >= 1]
        clips = [clip for clip in moving if asset.clips is None or clip.name in asset.clips]
        if not clips:
            raise CorruptSampleError(f"{asset.id}: it has no clip of at least two frames")
        self._loaded[asset.id] = _Loaded(scene, clips)
        while len(self._loaded) > max(1, self.options.cached_assets):
            self._loaded.popitem(last=False)
        return self._loaded[asset.id]

    def _engine(self) -> Any:
        from viewtime.render_objaverse.gl import GLRenderer

        if self._renderer is None or self._renderer[0] != os.getpid():
            self._renderer = (os.getpid(), GLRenderer(self.size))
        return self._renderer[1]

    def _render(self, asset: Asset, scene: Scene, clip: Clip, rng: np.random.Generator) -> GridSample:
        options = self.options
        times, fps = draw_times(rng, clip, self.frames, self.max_stride, options.fps)
        cameras = draw_orbit(rng, self.views, self.frames, options)
        light = draw_light(rng) if options.vary_light else None
        colours = draw_part_colours(rng, scene) if rng.random() < options.vary_colours else None
        proportions = draw_proportions(rng, scene) if rng.random() < options.vary_proportions else None
        parts = draw_parts(rng, scene)
        all_times = np.concatenate([times, clip.frame_times(PLACING_POSES)])
        whole = pose_scene(scene, clip, all_times, parts=parts, node_scale=proportions)
        placement = normalise(whole.positions)
        posed = pose_scene(scene, clip, times, parts=parts, node_scale=proportions)
        points = placement.apply(posed.positions)
        rotations = cameras.camera_to_world()[..., :3, :3].numpy()
        height, width = self.size
        distance = camera_distance(points, rotations, fov_y=cameras.fov_y, fit=options.fit, aspect=width / height)
        cameras = with_distance(cameras, distance)
        images = self._engine().draw(
            posed,
            cameras.camera_to_world().numpy(),
            cameras.fov_y,
            placement=placement,
            part_colours=colours,
            light=light,
        )
        cover = float((images[..., 3] > 127).mean())
        if cover < options.smallest_cover:
            raise CorruptSampleError(f"{asset.id}, clip {clip.name}: the object covers {cover:.2%} of the pixels")
        frames = rearrange(torch.from_numpy(images), "v f h w c -> v f c h w").contiguous()
        facts = {"asset": asset.id, "clip": clip.name, "times": times.tolist(), "azimuth": float(cameras.azimuth[0, 0])}
        return GridSample(
            f"{asset.id}/{clip.name}",
            self.name,
            frames,
            cameras.rezero(0),
            fps,
            caption=asset.caption,
            provenance=facts,
        )


def draw_times(
    rng: np.random.Generator, clip: Clip, frames: int, max_stride: int, fps: float
) -> tuple[np.ndarray, float]:
    """Seconds [F] of a random window of the clip at a random stride, and its frames per second.

    A clip too short for the stride is stretched over the frames from its first to its last key.
    """
    stride = int(rng.integers(1, max_stride + 1))
    step = stride / fps
    if frames > 1:
        step = min(step, clip.duration / (frames - 1))
    start = clip.start + float(rng.random()) * (clip.duration - (frames - 1) * step)
    return start + step * np.arange(frames), 1 / step


def draw_orbit(rng: np.random.Generator, views: int, frames: int, options: OnTheFly) -> Cameras:
    """A random orbit [V, F] around the object, view 0 (the input) at a random azimuth of the object.

    Distances are placeholders; `camera_distance` sets them.
    """
    start = float(rng.uniform(0, 360))
    limits = (options.elevation_min, options.elevation_max)
    if options.orbit == "dynamic":
        orbit = dynamic_orbit(views, frames, rng, elevation=limits)
        azimuth, elevation = orbit.azimuth[:, :1], orbit.elevation[:, :1]
    else:
        elevation = torch.full((views, 1), float(rng.uniform(*limits)))
        azimuth = torch.arange(views, dtype=torch.float32)[:, None] * (360.0 / views)
    if options.azimuth == "random":
        others = np.sort(rng.uniform(0, 360, size=views - 1))
        azimuth = torch.tensor([0.0, *others.tolist()])[:, None]
    azimuth = torch.remainder(azimuth + start, 360.0).expand(views, frames)
    return Cameras(elevation.expand(views, frames), azimuth, torch.full((views, frames), 2.0))
