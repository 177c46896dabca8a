"""The Gaussian asset on disk: asset.json and gaussians.safetensors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.recon.render.moving import MovingGaussians

FORMAT_VERSION = 1


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
        with atomic_path(folder / "gaussians.safetensors") as path:
            save_file(tensors, path)
        with atomic_path(folder / "asset.json") as path:
            path.write_text(json.dumps(record, indent=1))
        return [folder / "asset.json", folder / "gaussians.safetensors"]

    @staticmethod
    def load(folder: str | Path) -> GaussianAsset:
        """Read an asset folder.

        Raises:
            UserError: no asset there, a newer format, another method, or a damaged file.
        """
        folder = Path(folder)
        record = read_record(folder)
        if record.get("method") == "nerf" and (folder / "gaussians" / "asset.json").is_file():
            return GaussianAsset.load(folder / "gaussians")
        if record.get("method") != "gaussians":
            raise UserError(
                f"{folder} holds a {record.get('method')} asset; this needs Gaussians: fit with --method gaussians"
            )
        try:
            tensors = load_file(folder / "gaussians.safetensors")
            return GaussianAsset(**tensors, fps=float(record["fps"]), info=record["info"])
        except (SafetensorError, FileNotFoundError, KeyError, TypeError) as error:
            raise UserError(f"{folder} is damaged: {error}; reconstruct it again") from error


def read_record(folder: Path) -> dict[str, Any]:
    """asset.json of an asset folder.

    Raises:
        UserError: missing, not JSON, or a newer format.
    """
    path = folder / "asset.json"
    if not path.is_file():
        raise UserError(f"{folder} is no asset folder: it has no asset.json")
    try:
        record = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if record.get("version") != FORMAT_VERSION:
        raise UserError(f"{folder} has asset format {record.get('version')}; this version reads {FORMAT_VERSION}")
    return record
