"""The cameras of a scene grid: told, or from 3D tracks, or by COLMAP."""

from __future__ import annotations

from pathlib import Path

import torch

from viewtime.cameras import Cameras
from viewtime.configs.schema.reconstruct_scene import SceneOptions
from viewtime.dnerf import open_grid
from viewtime.errors import UserError
from viewtime.free_cameras import FreeCameras
from viewtime.grid import FrameGrid
from viewtime.log import log

from .colmap_poses import colmap_cameras
from .frame_points import poses_of, read_frame_points
from .pixel_tracks import Flows, keyframe_tracks
from .similarity import Similarity

LOOKS_AT = 2.0  # world units from the cameras to what they look at, as an orbit's cameras have it


def scene_cameras(grid: FrameGrid, options: SceneOptions, seed: int) -> Cameras:
    """Cameras [V, F] that stand still over the frames.

    Raises:
        UserError: told ones do not fit the grid or move, or the views cannot be placed.
    """
    V, F, _, H, W = grid.shape
    if options.cameras is not None:
        return still(_told(options.cameras, V, F), str(options.cameras))
    if grid.cameras is not None:
        return still(grid.cameras, "the grid")
    if options.tracks is not None:
        log.info("cameras: from the tracks of %s, field of view %g degrees", options.tracks, options.fov_y)
        return FreeCameras.of_views(poses_of(read_frame_points(options.tracks, V)), F, options.fov_y)
    if V < 3:
        raise UserError(f"{V} views are too few to find their cameras from; give --scene.cameras FILE")
    pictures = grid.rgb()[:, 0]
    tracks = keyframe_tracks(Flows(pictures), torch.ones(V, H, W, dtype=torch.bool))
    found = colmap_cameras(pictures, tracks, options.fov_y, seed)
    log.info("cameras: %d views placed by COLMAP, field of view %g degrees", V, options.fov_y)
    return FreeCameras.of_views(found, F, options.fov_y)


def _told(path: Path, views: int, frames: int) -> Cameras:
    cameras = open_grid(path.parent if path.is_file() else path).orbit
    if cameras.shape[0] != views:
        raise UserError(f"{path} has cameras of {cameras.shape[0]} views; this grid has {views}")
    return cameras[:, [0] * frames]


def still(cameras: Cameras, where: str) -> Cameras:
    """The cameras, if none moves.

    Raises:
        UserError: one does.
    """
    matrices = cameras.camera_to_world()
    if (matrices - matrices[:, :1]).abs().max() > 1e-4 * (1 + matrices[..., :3, 3].abs().max()):
        raise UserError(f"{where} has cameras that move over the frames; a scene's stand still: one pose for each view")
    return cameras


def placing(cameras: Cameras, middle_depth: float) -> Similarity:
    """Brings a scene to where an orbit's object is: what is looked at to the origin, z up, the views towards +y, two
    units away; the identity for cameras that orbit the origin already.

    Args:
        middle_depth: median depth of the points, in the cameras' own units.
    """
    if not isinstance(cameras, FreeCameras):
        return Similarity(torch.ones(()).double(), torch.eye(3).double(), torch.zeros(3).double())
    matrices = cameras.camera_to_world()[:, 0].double()
    forward, down = matrices[:, :3, 2].mean(0), matrices[:, :3, 1].mean(0)
    centre = matrices[:, :3, 3].mean(0) + middle_depth * forward / forward.norm()
    forward = forward / forward.norm()
    up = -(down - (down @ forward) * forward)
    up = up / up.norm()
    rotation = torch.stack([torch.linalg.cross(forward, up), forward, up])
    scale = torch.tensor(LOOKS_AT / middle_depth, dtype=torch.float64)
    return Similarity(scale, rotation, -scale * rotation @ centre)


def placed(cameras: Cameras, similarity: Similarity) -> Cameras:
    """The cameras of the moved world."""
    if not isinstance(cameras, FreeCameras):
        return cameras
    return FreeCameras.of(similarity.cameras(cameras.matrices.double()), cameras.fov_y)
