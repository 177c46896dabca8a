"""The two commands behind the app's buttons, what they write, and what is shown of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

METHODS = {
    "4D Gaussians, fitted (minutes)": ("--preset", "fast"),
    "4D Gaussians, fitted longer": ("--preset", "quality"),
    "the model's own solids, without a fit (seconds)": ("--method", "direct"),
}


@dataclass(frozen=True)
class GridChoice:
    """What the user chose for the grid; empty fields leave the model's own."""

    weights: str
    frames: int
    views: int | None = None
    steps: int | None = None
    seed: int = 0
    fps: float | None = None
    device: str | None = None
    offline: bool = False


def sample_words(video: Path, mask: Path | None, run: Path, choice: GridChoice) -> list[str]:
    """`viewtime sample` for a video."""
    given = {
        "--mask": mask, "--views": choice.views, "--sampler.steps": choice.steps, "--device": choice.device,
        "--preprocess.fps": choice.fps,
    }  # fmt: skip
    words = ["sample", "--video", video, "--out", run, "--weights", choice.weights, "--frames", choice.frames]
    words += ["--seed", choice.seed, *(word for pair in given.items() if pair[1] is not None for word in pair)]
    return [str(word) for word in [*words, *(["--offline"] if choice.offline else [])]]


def grid_results(run: Path) -> list[Path]:
    """What `viewtime sample` leaves in a run."""
    return [run / "grid" / "grid.json", run / "contact_sheet.png"]


def reconstruct_words(run: Path, method: str, weights: str) -> list[str]:
    """`viewtime reconstruct` for a run's grid.

    Args:
        method: one of `METHODS`.
        weights: of the model whose solids the direct method takes.
    """
    chosen = METHODS[method]
    words = ["reconstruct", run / "grid", "--out", run / "asset", *chosen]
    return [str(word) for word in [*words, *(["--direct.weights", weights] if "direct" in chosen else [])]]


def asset_results(run: Path) -> list[Path]:
    """What `viewtime reconstruct` leaves in a run."""
    return [run / "asset" / "asset.json", run / "asset" / "asset.glb"]


def page_words(run: Path, kind: str) -> list[str]:
    """`viewtime view` for a run's "grid" or "asset", into a page that plays it."""
    return ["view", str(run / kind), "--html", str(page_of(run, kind))]


def page_of(run: Path, kind: str) -> Path:
    """The page that plays a run's "grid" or "asset"."""
    return run / f"{kind}.html"


def downloads(run: Path) -> list[str]:
    """Files of a run that a user takes away, those that are there."""
    names = (
        "asset/asset.glb", "asset.html", "asset/orbit.mp4", "grid.html", "contact_sheet.png", "preview.png",
    )  # fmt: skip
    views = sorted((run / "grid").glob("view_*.mp4"))
    return [str(path) for path in [*(run / name for name in names), *views] if path.is_file()]


def runs_in(out: Path) -> list[str]:
    """Names of the runs that hold a grid, the newest first."""
    grids = sorted(out.glob("*/grid/grid.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.parent.parent.name for path in grids]
