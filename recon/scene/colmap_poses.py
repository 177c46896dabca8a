"""Cameras of a freeze-time video by COLMAP's mapper, which is given our dense tracks instead of its own features."""

from __future__ import annotations

import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from viewtime.errors import UserError, require
from viewtime.images import to_uint8, write_image

from .pixel_tracks import PixelTracks

MOST_POINTS = 3000
MOST_ERROR = 0.8  # pixels; COLMAP's own limits are for pictures twenty times as large
FEWEST_SHARED = 30  # points that two pictures must both show to count as a pair


def colmap_cameras(pictures: Tensor, tracks: PixelTracks, fov_y: float, seed: int = 0) -> Tensor:
    """Poses of pictures [V, 3, H, W] from points followed through them.

    Args:
        fov_y: degrees; it is kept, as cameras that look about the same way hardly determine it.

    Returns:
        camera-to-world [V, 4, 4] float64, OpenCV axes, in COLMAP's own world and scale.

    Raises:
        UserError: pycolmap is not installed, or it cannot place all views.
    """
    pycolmap = require("pycolmap", "scene")
    V, _, H, W = pictures.shape
    tan = np.tan(np.deg2rad(fov_y / 2))
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_pictures(folder / "images", pictures)
        database, pairs = folder / "database.db", folder / "pairs.txt"
        reader = pycolmap.ImageReaderOptions()
        reader.camera_model = "SIMPLE_PINHOLE"
        reader.camera_params = f"{0.5 * H / tan},{W / 2},{H / 2}"
        pycolmap.Database.open(database).close()  # makes it
        pycolmap.import_images(database, folder / "images", pycolmap.CameraMode.SINGLE, options=reader)
        numbers = _write_tracks(pycolmap, database, tracks, V, seed)
        pairs.write_text("".join(f"{_name(a)} {_name(b)}\n" for a, b in numbers))
        pycolmap.verify_matches(database, pairs)
        options = pycolmap.IncrementalPipelineOptions()
        options.ba_refine_focal_length = False
        options.min_model_size = 2
        options.random_seed = seed
        options.mapper.init_min_tri_angle = 1.0  # degrees; neighbours of a freeze-time video stand close together
        options.mapper.filter_min_tri_angle = 0.3
        options.triangulation.min_angle = 0.3
        options.mapper.init_max_error = options.mapper.abs_pose_max_error = MOST_ERROR
        options.mapper.filter_max_reproj_error = MOST_ERROR
        models = pycolmap.incremental_mapping(database, folder / "images", folder / "sparse", options=options)
    best = max(models.values(), key=lambda model: model.num_reg_images(), default=None)
    placed = 0 if best is None else best.num_reg_images()
    if best is None or placed < V:
        raise UserError(
            f"COLMAP places {placed} of {V} views: too little that can be followed from view to view; give their "
            "cameras (--scene.cameras FILE), or tracks of another program (--scene.tracks FILE)"
        )
    matrices = torch.eye(4, dtype=torch.float64).repeat(V, 1, 1)
    for image in best.images.values():
        pose = torch.from_numpy(image.cam_from_world().inverse().matrix())
        matrices[int(Path(image.name).stem), :3] = pose
    return matrices


def _name(view: int) -> str:
    return f"{view:04d}.png"


def _write_pictures(folder: Path, pictures: Tensor) -> None:
    folder.mkdir()
    for view, picture in enumerate(pictures):
        write_image(folder / _name(view), to_uint8(rearrange(picture, "c h w -> h w c").numpy()))


def _write_tracks(
    pycolmap: object, database: Path, tracks: PixelTracks, views: int, seed: int
) -> list[tuple[int, int]]:
    """Keypoint k of every picture is point k; a match joins what both show. Returns the pairs of views with matches."""
    count = tracks.places.shape[1]
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:MOST_POINTS]
    places, visible = tracks.places[:, chosen].numpy(), tracks.visible[:, chosen].numpy()
    found = []
    with pycolmap.Database.open(database) as opened:  # type: ignore[attr-defined]
        ids = {view: opened.read_image_with_name(_name(view)).image_id for view in range(views)}
        for view in range(views):
            opened.write_keypoints(ids[view], places[view].astype(np.float32))
        for a, b in combinations(range(views), 2):
            both = np.flatnonzero(visible[a] & visible[b]).astype(np.uint32)
            if len(both) >= FEWEST_SHARED:
                opened.write_matches(ids[a], ids[b], np.stack([both, both], axis=1))
                found.append((a, b))
    return found
