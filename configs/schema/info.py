"""Options of `viewtime info`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class InfoConfig:
    """Versions, devices and optional parts; with FILE, what model a weight file or a preset holds."""

    file: Annotated[Path | None, tyro.conf.Positional] = None
    """A .safetensors file or a diffusers folder (read by its header), or a training preset (parameters by part)."""
