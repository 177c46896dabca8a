"""Renders one training grid of a scene: a random moment of a clip, a random orbit, random changes to the scene."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from einops import rearrange

from viewtime.cameras import Cameras
from viewtime.configs.schema.data import OnTheFly
from viewtime.data.samples import CorruptSampleError, GridSample
from viewtime.data.solids import Solid, carve
from viewtime.errors import UserError
from viewtime.render_objaverse.animation import Clip
from viewtime.render_objaverse.framing import camera_distance, normalise
from viewtime.render_objaverse.gltf import Scene
from viewtime.render_objaverse.orbits import dynamic_orbit, with_distance
from viewtime.render_objaverse.pose import pose_scene
from viewtime.render_objaverse.room import furnished

from .scene_variation import (
    draw_light,
    draw_part_colours,
    draw_parts,
    draw_pose,
    draw_proportions,
    draw_stretch,
    stretched,
    warped,
)

WIDEST_FOV = 90.0  # degrees; a wider camera would stand inside the object's unit cube
ALL_ELEVATIONS = (-40.0, 75.0)  # degrees, of the views of a scattered orbit that no video is taken from
PLACING_POSES = 8  # instants of the whole clip that decide the object's size and place


class SceneRenderer:
    """Draws grids with the GL engine, whose context is made in the process that draws first.

    Args:
        views, frames: of the grids; max_stride: largest step between frames, in frames of `options.fps`.
        resolution: pixels; side of a square, or (height, width).
    """

    def __init__(
        self, views: int, frames: int, resolution: int | tuple[int, int], max_stride: int, options: OnTheFly
    ) -> None:
        self.views, self.frames, self.max_stride = views, frames, max_stride
        self.options = options
        height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
        self.size = (height * options.supersample, width * options.supersample)
        if options.elevation_min > options.elevation_max or options.fps <= 0:
            raise UserError(
                f"elevations {options.elevation_min:g} … {options.elevation_max:g} degrees at "
                f"{options.fps:g} frames/s: the first must not exceed the second, and fps must be positive"
            )
        if not 0 < options.fov_min <= options.fov_max <= WIDEST_FOV:
            raise UserError(
                f"fields of view {options.fov_min:g} … {options.fov_max:g} degrees: above 0, at most "
                f"{WIDEST_FOV:g}, and the first must not exceed the second"
            )
        if options.room and options.azimuth != "arc":
            raise UserError(
                f"data.options.on_the_fly.room {options.room:g} with azimuth {options.azimuth}: a room is open to one "
                "side; set data.options.on_the_fly.azimuth to arc"
            )
        if options.solid and (options.orbit == "dynamic" or height != width):
            raise UserError(
                "data.options.on_the_fly.solid is for square pictures of cameras that rest: no orbit dynamic, no width"
            )
        if options.room and options.solid:
            raise UserError(
                "data.options.on_the_fly.solid with data.options.on_the_fly.room: the room would be carved too; "
                "leave one out"
            )
        if options.orbit == "scattered" and options.azimuth != "regular":
            raise UserError(
                f"data.options.on_the_fly.azimuth {options.azimuth} with orbit scattered, which has its own; "
                "leave it out"
            )
        self._renderer: tuple[int, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_renderer": None}

    def _engine(self) -> Any:
        from viewtime.render_objaverse.gl import GLRenderer

        if self._renderer is None or self._renderer[0] != os.getpid():
            self._renderer = (os.getpid(), GLRenderer(self.size))
        return self._renderer[1]

    def draw(
        self, source: str, name: str, scene: Scene, clip: Clip, rng: np.random.Generator, *, caption: str = ""
    ) -> GridSample:
        """A grid of the clip, for the source of that name; everything random comes from `rng`.

        Raises:
            AssetError: the pose is not finite. CorruptSampleError: the object covers too little.
        """
        options = self.options
        times, fps = draw_times(rng, clip, self.frames, self.max_stride, options.fps)
        # A probability of 0 draws nothing, so that what else is random stays the same.
        still = options.still > 0 and rng.random() < options.still
        in_room = options.room > 0 and rng.random() < options.room
        cameras = draw_orbit(rng, self.views, self.frames, options)
        light = draw_light(rng) if options.vary_light else None
        colours = draw_part_colours(rng, scene) if rng.random() < options.vary_colours else None
        proportions = draw_proportions(rng, scene) if rng.random() < options.vary_proportions else None
        parts = draw_parts(rng, scene)
        motion = draw_pose(rng, scene, clip) if rng.random() < options.vary_poses else clip
        stretch = draw_stretch(rng) if rng.random() < options.vary_stretch else None
        all_times = np.concatenate([times, clip.frame_times(PLACING_POSES)])
        posed = pose_scene(scene, motion, all_times, parts=parts, node_scale=proportions)
        if stretch is not None:
            posed = stretched(posed, stretch)
        if options.vary_bend > 0 and rng.random() < options.vary_bend:
            posed = warped(posed, rng)
        placement = normalise(posed.positions)
        posed = posed.first(1 if still else len(times))
        points = placement.apply(posed.positions)
        rotations = cameras[: usual_views(len(cameras.azimuth), options), : len(posed.times)].camera_to_world()
        rotations = rotations[..., :3, :3].numpy()
        height, width = self.size
        distance = camera_distance(points, rotations, fov_y=cameras.fov_y, fit=options.fit, aspect=width / height)
        cameras = with_distance(cameras, distance)
        if in_room:
            posed = furnished(posed, placement, rng, middle_azimuth(cameras))
        matrices = cameras[:, : len(posed.times)].camera_to_world().numpy()
        images = self._engine().draw(
            posed, matrices, cameras.fov_y, placement=placement, part_colours=colours, light=light
        )
        cover = float((images[..., 3] > 127).mean())  # all of it in a room
        if cover < options.smallest_cover:
            raise CorruptSampleError(f"{name}, clip {clip.name}: the object covers {cover:.2%} of the pixels")
        frames = rearrange(torch.from_numpy(images), "v f h w c -> v f c h w").expand(-1, self.frames, -1, -1, -1)
        shown = np.repeat(times[:1], len(times)) if still else times
        solid = None
        if options.solid:
            depth, _ = self._engine().draw_geometry(posed, matrices, cameras.fov_y, placement=placement)
            cells = torch.from_numpy(carve(depth, matrices, cameras.fov_y)).expand(self.frames, -1, -1, -1)
            solid = Solid(cells, float(cameras.azimuth[0, 0]))
        facts = {"asset": name, "clip": clip.name, "times": shown.tolist(), "azimuth": float(cameras.azimuth[0, 0])}
        return GridSample(
            f"{name}/{clip.name}",
            source,
            frames.contiguous(),
            cameras.rezero(0),
            fps,
            solid=solid,
            caption=caption,
            provenance=facts,
        )


def middle_azimuth(cameras: Cameras) -> float:
    """Degrees, half way along an arc of cameras."""
    azimuth = torch.deg2rad(cameras.azimuth[:, 0].double())
    return float(torch.rad2deg(torch.atan2(azimuth.sin().sum(), azimuth.cos().sum())))


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


def usual_views(views: int, options: OnTheFly) -> int:
    """How many views, from the first on, are at elevations of the options' range and must show the whole object."""
    return -(-2 * views // 3) if options.orbit == "scattered" else views


def scattered_orbit(rng: np.random.Generator, views: int, options: OnTheFly) -> tuple[torch.Tensor, torch.Tensor]:
    """Azimuth and elevation [V, 1] of views all around, see `OnTheFly.orbit`; any two thirds of them are."""
    usual = usual_views(views, options)
    one, others = rng.uniform(options.elevation_min, options.elevation_max, size=(2, usual))
    elevation = np.where(rng.random(usual) < 0.5, one[0], others)
    elevation = np.concatenate([elevation, rng.uniform(*ALL_ELEVATIONS, size=views - usual)])
    step = 360 / views
    azimuth = rng.permutation(views) * step + rng.uniform(-0.4, 0.4, size=views) * step
    return torch.tensor(azimuth).float()[:, None], torch.tensor(elevation).float()[:, None]


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
    if options.orbit == "scattered":
        azimuth, elevation = scattered_orbit(rng, views, options)
    if options.azimuth == "random":
        others = np.sort(rng.uniform(0, 360, size=views - 1))
        azimuth = torch.tensor([0.0, *others.tolist()])[:, None]
    if options.azimuth == "arc":
        step = float(rng.choice([-1.0, 1.0])) * float(rng.uniform(options.arc_min, options.arc_max))
        azimuth = step * torch.arange(views, dtype=torch.float32)[:, None]
    azimuth = torch.remainder(azimuth + start, 360.0).expand(views, frames)
    # One value draws nothing, so that what else is random stays the same.
    one = options.fov_min == options.fov_max
    fov_y = options.fov_min if one else float(rng.uniform(options.fov_min, options.fov_max))
    return Cameras(elevation.expand(views, frames), azimuth, torch.full((views, frames), 2.0), fov_y)
