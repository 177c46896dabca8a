"""Options of `viewtime view`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class ViewConfig:
    """Look at an asset or a grid in the browser: orbit with the mouse, scrub time.

    Attributes:
        asset: a folder written by `viewtime reconstruct` (Gaussians, and the mesh as a second mode) or the folder above
            it, a GLB of any origin, or a grid.
        html: write one self-contained page to this path instead of starting a server; it opens from disk.
        host: address that the server listens at. The default is this machine alone; 0.0.0.0 shows the asset to whoever
            reaches the machine over the network.
        port: of the server.
        faces: triangles of the mesh in the page, where `reconstruct` left none.
    """

    asset: Annotated[Path, tyro.conf.Positional]
    html: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    faces: int = 10000
