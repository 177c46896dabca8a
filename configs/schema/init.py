"""Options of `viewtime init`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class InitConfig:
    """SV4D's initial weights for training (SV4D, section 3.1): frame attention from SVD-xt, all else from SV3D_p."""

    svd: Path
    """SVD-xt: a .safetensors file or a diffusers folder."""
    sv3d: Path
    """SV3D_p: a .safetensors file."""
    out: Path
    """The file to write, .safetensors."""
    model: str = "sv4d"
    """Preset of the model to initialise: sv4d, sv4d2 or sv4d2-8views, or a YAML file."""
    seed: int = 0
    """Of the few layers that neither file has (SV4D 2.0's view embedding)."""
