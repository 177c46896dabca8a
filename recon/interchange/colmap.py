"""A grid as COLMAP folders, one per frame, which trainers of static Gaussians and NeRFs read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from viewtime.files import atomic_folder
from viewtime.grid import FrameGrid
from viewtime.images import to_uint8, write_image
from viewtime.recon.fitting.hull import view_pixels, voting_hull
from viewtime.recon.fitting.points import points_in_hull
from viewtime.recon.fitting.targets import Targets, make_targets

POINTS = 2000
FILES = (r"frame_\d{3,}/(images/view_\d{3,}\.png|sparse/0/(cameras|images|points3D)\.txt)",)


def write_colmap(grid: FrameGrid, folder: Path) -> Path:
    """frame_000/images/view_000.png … and frame_000/sparse/0/{cameras,images,points3D}.txt.

    Points lie on the voting hull of the frame's masks and have the mean colour that the views show there.

    Raises:
        UserError: the grid has no cameras, or its views have no volume in common.
    """
    targets = make_targets(grid)
    with atomic_folder(folder, "frame_000/sparse/0/cameras.txt", FILES) as temporary:
        for frame in range(grid.shape[1]):
            home = temporary / f"frame_{frame:03d}"
            sparse = home / "sparse" / "0"
            sparse.mkdir(parents=True)
            used = targets.usable[:, frame].nonzero().flatten()
            (home / "images").mkdir()
            for view in used.tolist():
                picture = to_uint8(grid.frames[view, frame].permute(1, 2, 0))
                write_image(home / "images" / f"view_{view:03d}.png", picture)
            (sparse / "cameras.txt").write_text(_camera(grid))
            (sparse / "images.txt").write_text(_poses(grid, frame, used.tolist()))
            (sparse / "points3D.txt").write_text(_points(targets, frame, used))
    return folder


def _camera(grid: FrameGrid) -> str:
    """The one pinhole camera that all views share."""
    _, _, _, H, W = grid.shape
    k = grid.orbit.intrinsics(H, W).reshape(-1, 3, 3)[0].tolist()
    return f"1 PINHOLE {W} {H} {k[0][0]!r} {k[1][1]!r} {k[0][2]!r} {k[1][2]!r}\n"


def _poses(grid: FrameGrid, frame: int, views: list[int]) -> str:
    """World to camera, OpenCV axes as COLMAP has them; two lines a picture, the second without matches."""
    matrices = grid.orbit.world_to_camera()[:, frame].double().numpy()
    lines = []
    for number, view in enumerate(views, start=1):
        x, y, z, w = Rotation.from_matrix(matrices[view, :3, :3]).as_quat().tolist()
        place = " ".join(repr(float(value)) for value in matrices[view, :3, 3])
        lines.append(f"{number} {w!r} {x!r} {y!r} {z!r} {place} 1 view_{view:03d}.png\n\n")
    return "".join(lines)


def _points(targets: Targets, frame: int, used: torch.Tensor) -> str:
    """Coloured points without tracks."""
    views = targets.views[targets.cell(used, torch.full_like(used, frame))]
    hull = voting_hull(targets.images[used, frame, 3], views, targets.reach)
    points = points_in_hull(hull, POINTS, torch.Generator().manual_seed(0))
    pixels = view_pixels(points, views)
    H, W = targets.shape[2:]
    x, y = (pixels[..., axis].floor().long().clamp(0, side - 1) for axis, side in ((0, W), (1, H)))
    seen = targets.images[used[:, None], frame, :, y, x]
    weight = seen[..., 3:].clamp(min=1e-3)
    colour = to_uint8(((seen[..., :3] * weight).sum(0) / weight.sum(0)).clamp(0, 1))
    rows = zip(points.double().numpy().tolist(), np.asarray(colour).tolist())
    return "".join(
        f"{number} {p[0]!r} {p[1]!r} {p[2]!r} {c[0]} {c[1]} {c[2]} 0\n" for number, (p, c) in enumerate(rows, start=1)
    )
