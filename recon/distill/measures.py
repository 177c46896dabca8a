"""How near a scene is to one that is known: pictures from held-out views, motion, and many faces."""

from __future__ import annotations

import torch
from torch import Tensor

from viewtime.cameras import regular_orbit

from .fields.scene import Scene
from .fields.volume import VolumeScene
from .known_scene import EndpointError, KnownGaussians
from .running.show import scene_grid

ELEVATION, DISTANCE, FOV_Y = 15.0, 2.7, 30.0
BACK_VIEWS = 5


def held_out_psnr(scene: Scene, known: KnownGaussians, *, views: int = 5, frames: int = 4, size: int = 48) -> float:
    """PSNR in dB over all pixels, on white, from views at 20, 92, … degrees that no step is likely to have had.

    A scene that stands still is compared at t = 0 alone.
    """
    frames = frames if scene.moving else 1
    orbit = {"elevation": ELEVATION, "distance": DISTANCE, "fov_y": FOV_Y, "azimuth_start": 20.0}
    cameras = regular_orbit(views, frames, **orbit)
    times = torch.arange(frames, dtype=torch.float64) / frames
    found = scene_grid(scene, cameras, times, (size, size)).rgb()
    truth = _on_white(known(cameras, times, (size, size)))
    return float(-10 * (found - truth).square().mean().log10())


def motion_error(scene: Scene, known: KnownGaussians, instants: int = 10) -> EndpointError:
    """How far the scene's backward deformation carries the known scene's points from their places at t = 0.

    Raises:
        ValueError: the scene has no backward deformation.
    """
    displacement = scene.field.displacement if isinstance(scene, VolumeScene) else None
    if displacement is None:
        raise ValueError("only a hash field with motion offset or warp carries points back")
    network = displacement

    @torch.no_grad()
    def displace(points: Tensor, times: Tensor) -> Tensor:
        return 2 * network(torch.cat([(points + 1) / 2, times[:, None]], dim=1))

    return known.endpoint_error(displace, torch.arange(instants) / instants)


def janus(scene: Scene, known: KnownGaussians, size: int = 48) -> float:
    """Share in [0, 1] of the error of the back views that goes when the truth is taken for the front: 0 right, 1 wrong.

    For views between 120 and 240 degrees: e_true / (e_true + e_front) of mean squared differences on white.
    """
    views = {"elevation": ELEVATION, "distance": DISTANCE, "fov_y": FOV_Y}
    behind = regular_orbit(BACK_VIEWS, 1, azimuth_start=120.0, azimuth_range=150.0, **views)
    front = regular_orbit(1, 1, **views)
    still = torch.zeros(1, dtype=torch.float64)
    found = scene_grid(scene, behind, still, (size, size)).rgb()
    truth, face = (_on_white(known(cameras, still, (size, size))) for cameras in (behind, front))
    wrong = (found - truth).square().mean()
    return float(wrong / (wrong + (found - face).square().mean()))


def _on_white(pictures: Tensor) -> Tensor:
    return pictures[:, :, :3] + 1 - pictures[:, :, 3:]
