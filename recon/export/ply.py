"""Point and mesh files per frame: Gaussian PLY in the 3D Gaussian Splatting convention, PLY and OBJ meshes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from viewtime.files import atomic_folder, atomic_path
from viewtime.recon.render.moving import FLATTEST, MovingGaussians
from viewtime.recon.surface.mesh import MovingMesh

SH_DEGREE_0 = 0.5 / math.sqrt(math.pi)
FIELDS = [
    "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity",
    "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
]  # fmt: skip


def scale_and_quaternion(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Variances [N, 1] or matrices [N, 3, 3] -> standard deviations [N, 3] and quaternions (w, x, y, z) [N, 4]."""
    if covariance.shape[-1] == 1:
        identity = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(covariance), 1)
        return covariance.clamp(min=FLATTEST).sqrt().expand(-1, 3), identity
    variance, axes = torch.linalg.eigh(covariance)
    axes = axes * torch.linalg.det(axes).sign()[:, None, None]
    from scipy.spatial.transform import Rotation

    xyzw = torch.from_numpy(Rotation.from_matrix(axes.numpy()).as_quat()).float()
    return variance.clamp(min=FLATTEST).sqrt(), torch.cat([xyzw[:, 3:], xyzw[:, :3]], dim=1)


def write_gaussian_ply(asset: MovingGaussians, frame: int, path: Path) -> Path:
    """One frame as 3D Gaussian Splatting stores it: log scales, opacity logits, degree-0 spherical harmonics."""
    means, covariance = asset.at(float(frame))
    scale, quaternion = scale_and_quaternion(covariance)
    columns = [
        means, torch.zeros_like(means), (asset.colour - 0.5) / SH_DEGREE_0,
        torch.logit(asset.opacity.clamp(1e-6, 1 - 1e-6))[:, None], scale.log(), quaternion,
    ]  # fmt: skip
    table = torch.cat(columns, dim=1).numpy().astype("<f4")
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(table)}"]
    header += [f"property float {name}" for name in FIELDS] + ["end_header", ""]
    with atomic_path(path) as temporary:
        temporary.write_bytes("\n".join(header).encode() + table.tobytes())
    return path


def write_gaussian_sequence(asset: MovingGaussians, folder: Path) -> Path:
    """frame_000.ply … in a folder."""
    with atomic_folder(folder, "frame_000.ply", (r"frame_\d{3,}\.ply",)) as temporary:
        for frame in range(asset.frames):
            write_gaussian_ply(asset, frame, temporary / f"frame_{frame:03d}.ply")
    return folder


def write_mesh_sequence(mesh: MovingMesh, folder: Path, kind: str) -> Path:
    """One mesh file per frame with vertex colours; `kind` is obj or ply. World axes, Z up."""
    import trimesh

    colour = (np.concatenate([mesh.colour, np.ones((len(mesh.colour), 1))], axis=1) * 255 + 0.5).astype(np.uint8)
    with atomic_folder(folder, f"frame_000.{kind}", (rf"frame_\d{{3,}}\.{kind}",)) as temporary:
        for frame, vertices in enumerate(mesh.positions):
            surface = trimesh.Trimesh(vertices, mesh.triangles, vertex_colors=colour, process=False)
            surface.export(temporary / f"frame_{frame:03d}.{kind}")
    return folder
