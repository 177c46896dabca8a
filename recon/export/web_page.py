"""One self-contained HTML page that plays an asset: no server, no network, opens from disk."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.recon.render.moving import FLATTEST, ROUNDING, MovingGaussians
from viewtime.recon.surface.mesh import MovingMesh

TEMPLATE = Path(__file__).with_name("player.html")
FACTOR_LEVELS = 32767


def _text(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def write_page(mesh: MovingMesh | None, path: Path, splats: MovingGaussians | None = None) -> Path:
    """Gaussians first, the mesh as a second mode.

    Raises:
        UserError: neither is there, or their coordinates are not finite.
    """
    if mesh is None and splats is None:
        raise UserError("a page needs Gaussians or a mesh")
    frames, fps = (splats.frames, splats.fps) if splats is not None else (len(mesh.positions), mesh.fps)  # type: ignore[union-attr]
    data = {
        "frames": frames, "fps": fps,
        "splats": splat_data(splats) if splats is not None else None,
        "mesh": mesh_data(mesh) if mesh is not None else None,
    }  # fmt: skip
    page = TEMPLATE.read_text().replace("/*DATA*/null", json.dumps(data))
    with atomic_path(path) as temporary:
        temporary.write_text(page)
    return path


def quantised(positions: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Sixteen-bit integers over the clip's bounding cube (error below 2e-5 of its side), its lowest and highest value.

    Raises:
        UserError: a coordinate is not finite.
    """
    wrong = int((~np.isfinite(positions)).any(axis=-1).sum())
    if wrong:
        raise UserError(f"{wrong} of {positions[..., 0].size} positions are not finite; reconstruct the asset again")
    low, high = float(positions.min()), float(positions.max())
    return np.round((positions - low) / max(high - low, 1e-9) * 65535).astype("<u2"), low, high


def mesh_data(mesh: MovingMesh) -> dict[str, Any]:
    """What the page reads of a mesh."""
    positions, low, high = quantised(mesh.positions)
    return {
        "vertices": mesh.positions.shape[1], "low": low, "high": high, "positions": _text(positions),
        "colours": _text((mesh.colour * 255 + 0.5).astype(np.uint8)), "triangles": _text(mesh.triangles.astype("<u4")),
    }  # fmt: skip


def splat_data(splats: MovingGaussians) -> dict[str, Any]:
    """What the page reads of Gaussians: positions, Cholesky factors of the covariances in `unit`s, colour and opacity.

    Factors are rows of the lower triangle (xx, yx, yy, zx | zy, zz), so that any rounding leaves a covariance.
    """
    count = splats.means.shape[1]
    positions, low, high = quantised(splats.means.numpy())
    covariance = torch.stack([_matrices(splats.at(float(frame))[1], count) for frame in range(splats.frames)]).double()
    rounding = ROUNDING * covariance.diagonal(dim1=-2, dim2=-1).sum(dim=-1) + FLATTEST
    factors = torch.linalg.cholesky(covariance + torch.diag_embed(rounding[..., None].expand(-1, -1, 3))).numpy()
    rows = np.zeros((*factors.shape[:2], 8))
    for place, (row, column) in enumerate(((0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2))):
        rows[..., place] = factors[..., row, column]
    # Texels of four: (xx, yx, yy, zx), (zy, zz, 0, 0).
    unit = float(np.abs(rows).max()) / FACTOR_LEVELS
    padded = np.concatenate([positions, np.zeros_like(positions[..., :1])], axis=-1)
    shown = torch.cat([splats.colour, splats.opacity[:, None]], dim=1).clamp(0, 1).numpy()
    return {
        "count": count, "low": low, "high": high, "unit": unit, "positions": _text(padded),
        "factors": _text(np.round(rows / unit).astype("<i2")),
        "colours": _text((shown * 255 + 0.5).astype(np.uint8)),
    }  # fmt: skip


def _matrices(covariance: torch.Tensor, count: int) -> torch.Tensor:
    """[N, 1] variances or matrices [N, 3, 3] -> [N, 3, 3]."""
    if covariance.shape[-1] == 1:
        return covariance.reshape(count, 1, 1) * torch.eye(3)
    return covariance
