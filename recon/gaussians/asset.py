"""The Gaussian asset on disk: asset.json and gaussians.safetensors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta
from safetensors.torch import save_file
from torch import Tensor

from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.json_files import checked, finite_json, read_json
from viewtime.recon.render.moving import FLATTEST, ROUNDING, MovingGaussians
from viewtime.weights import open_weights, read_tensors

FORMAT_VERSION = 1
WEIGHTS = "gaussians.safetensors"
LARGEST = 1e9  # of numbers in an asset: products of three, as turned covariances are, stay finite
GAUSSIAN_SHAPES = {"means": (3,), "covariance": (2, 3), "opacity": (1,), "colour": (2,), "linear": (4,)}


@dataclass(frozen=True)
class _Info:
    """What others read of an asset's info."""

    fov_y: Annotated[float, Meta(gt=0, lt=180)] = 33.8
    distance: Annotated[float, Meta(gt=0)] = 2.0
    elevation: float = 12.0
    size: list[Annotated[int, Meta(ge=1, le=1 << 14)]] = field(default_factory=list)


@dataclass(frozen=True)
class _Version:
    version: int


@dataclass(frozen=True)
class GaussianAsset(MovingGaussians):
    """Moving Gaussians that save and load themselves."""

    def save(self, folder: Path) -> list[Path]:
        """Write gaussians.safetensors and asset.json."""
        tensors = {
            name: getattr(self, name).contiguous() for name in ("means", "covariance", "opacity", "colour", "linear")
        }
        record = {
            "format": "viewtime-asset", "version": FORMAT_VERSION, "method": "gaussians", "fps": self.fps,
            "frames": self.frames, "gaussians": self.means.shape[1], "info": self.info,
        }  # fmt: skip
        with atomic_path(folder / WEIGHTS) as path:
            save_file(tensors, path)
        with atomic_path(folder / "asset.json") as path:
            path.write_text(json.dumps(finite_json(record), indent=1))
        return [folder / "asset.json", folder / WEIGHTS]

    @staticmethod
    def load(folder: str | Path) -> GaussianAsset:
        """Read an asset folder.

        Raises:
            UserError: no asset there, a newer format, another method, or a damaged file.
        """
        folder = Path(folder)
        record = read_record(folder)
        if record.method == "nerf" and (folder / "gaussians" / "asset.json").is_file():
            return GaussianAsset.load(folder / "gaussians")
        if record.method != "gaussians":
            raise UserError(
                f"{folder} holds a {record.method} asset; this needs Gaussians: fit with --method gaussians"
            )
        tensors = read_asset_tensors(folder / WEIGHTS, GAUSSIAN_SHAPES)
        F, N = tensors["means"].shape[:2]
        covariance = tensors["covariance"].shape
        shapes = {"opacity": (N,), "colour": (N, 3), "linear": (F, N, 3, 3), "means": (F, N, 3)}
        wrong = [name for name, shape in shapes.items() if tensors[name].shape != shape]
        if wrong or covariance not in ((N, 1), (N, 3, 3)) or not F * N:
            told = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
            raise UserError(f"{folder} is damaged: its tensors do not belong together ({told}); reconstruct it again")
        _check_values(folder, tensors)
        return GaussianAsset(**tensors, fps=record.fps, info=record.info)


def _check_values(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Refuse opacities outside 0 … 1 and covariances with a negative variance along some axis."""
    opacity, covariance = tensors["opacity"], tensors["covariance"]
    if opacity.min() < 0 or opacity.max() > 1:
        low, high = float(opacity.min()), float(opacity.max())
        raise UserError(
            f"{folder} is damaged: opacities from {low:.3g} to {high:.3g}, not within 0 to 1; reconstruct it again"
        )
    whole = covariance if covariance.dim() == 3 else covariance[..., None] * torch.eye(3)
    rounding = ROUNDING * whole.diagonal(dim1=1, dim2=2).sum(dim=1).clamp_min(0) + FLATTEST
    failed = torch.linalg.cholesky_ex(whole + rounding[:, None, None] * torch.eye(3)).info
    if failed.any():
        raise UserError(
            f"{folder} is damaged: {int((failed > 0).sum())} of {len(failed)} covariances have a negative variance; "
            "reconstruct it again"
        )


@dataclass(frozen=True)
class AssetRecord:
    """The part of asset.json that both methods write."""

    version: int
    method: str
    fps: Annotated[float, Meta(gt=0, le=1e6)]
    frames: Annotated[int, Meta(ge=1, le=1 << 20)]
    info: dict[str, Any]


def read_record(folder: Path) -> AssetRecord:
    """asset.json of an asset folder.

    Raises:
        UserError: missing, damaged, or a newer format.
    """
    path = folder / "asset.json"
    if not path.is_file():
        raise UserError(f"{folder} is no asset folder: it has no asset.json")
    version = read_json(path, _Version).version
    if version != FORMAT_VERSION:
        raise UserError(f"{folder} has asset format {version}; this version reads {FORMAT_VERSION}")
    record = read_json(path, AssetRecord)
    checked(record.info, _Info, f"{path}, info")
    return record


def read_asset_tensors(path: Path, axes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Finite floating tensors of a weight file, each with one of the numbers of axes that are named for it.

    Raises:
        UserError: missing or damaged, or a tensor is absent, of another kind or shape, not finite, or too large
            to compute with.
    """
    opened = open_weights(path)
    if missing := sorted(set(axes) - set(opened.entries)):
        raise UserError(f"{path} is damaged: it lacks {', '.join(missing)}; reconstruct it again")
    tensors = dict(read_tensors(opened, axes, dtype=torch.float32))
    for name, tensor in tensors.items():
        if tensor.dim() not in axes[name] or not tensor.is_floating_point() or not (tensor.abs() <= LARGEST).all():
            raise UserError(
                f"{path} is damaged: {name} is {tensor.dtype} {list(tensor.shape)}, not finite or beyond {LARGEST:g}; "
                "reconstruct it again"
            )
    return tensors
