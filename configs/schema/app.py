"""Options of `viewtime app`. Imports no torch, so that `--help` is fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class AppConfig:
    """The road from a video to a 4D asset on one page in the browser.

    Drop a video, correct the object's mask by clicks, make the grid, make the asset, look at it, download it. Behind
    the page run `viewtime sample`, `reconstruct` and `view`.

    Attributes:
        host: address that the server listens at. The default is this machine alone; 0.0.0.0 lets whoever reaches the
            machine over the network see every run and start new ones.
        port: of the server.
        out: folder of the runs, one folder for each video; a run that was stopped goes on there.
        weights: that the page proposes: as `viewtime sample --weights` takes them.
        frames: of a video that the page proposes to use.
        device: as `viewtime sample --device` takes it.
        offline: download no weights.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    out: Path = Path("outputs/app")
    weights: str = "mini-generalist"
    frames: int = 12
    device: str | None = None
    offline: bool = False
