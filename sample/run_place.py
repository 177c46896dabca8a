"""Where a run of `viewtime sample` writes: a folder of its own that holds none of its inputs."""

from __future__ import annotations

import glob
import re
from pathlib import Path

import yaml

from viewtime.configs.schema.sample import SampleConfig
from viewtime.dnerf import DNERF_FILES
from viewtime.errors import UserError
from viewtime.files import check_replaceable
from viewtime.grid import GRID_FILES

GRIDS = ("grid", "grid_png", "grid_small")
FOLDERS = (*GRIDS, "dnerf", "windows", "stream")
FILES = re.compile(r"(preview|contact_sheet|plan)\.png|diagonal\.mp4|view_\d{3,}\.gif")


def run_folder_of(config: SampleConfig) -> Path:
    """--out, or outputs/NAME_OF_THE_VIDEO; where another video of that name was sampled there, NAME-2 and so on."""
    if config.out:
        return Path(config.out)
    video = Path(config.video)
    if glob.has_magic(str(video)) and not video.exists():
        name = video.parent.name
    else:
        name = video.name if video.is_dir() else video.stem
    base = Path("outputs")
    numbered = (base / (name or "sample") if number == 1 else base / f"{name}-{number}" for number in range(1, 10_000))
    return next(folder for folder in numbered if _video_of(folder) in (None, video.resolve()))


def _video_of(folder: Path) -> Path | None:
    """The video that an earlier run there sampled."""
    try:
        record = yaml.safe_load((folder / "config.yaml").read_text())
        return Path(record["video"]).resolve()
    except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
        return None


def _other_video(folder: Path, video: Path) -> Path | None:
    """The video that an earlier run there sampled, where it is another; one that is gone is known by its name."""
    there = _video_of(folder)
    if there is None or (there == video.resolve() if there.exists() else there.name == video.name):
        return None
    return there


def check_place(config: SampleConfig, folder: Path) -> None:
    """Nothing that the run will replace is an input of it or a user's file.

    Raises:
        UserError: names what lies in the way.
    """
    there = _other_video(folder, Path(config.video))
    if there is not None and any((folder / name).exists() for name in GRIDS):
        raise UserError(f"{folder} holds the grid of another video, {there}; choose another --out, or delete it first")
    for option, source in (
        ("video", config.video), ("freeze-video", config.freeze_video), ("reference.orbit", config.reference.orbit),
    ):  # fmt: skip
        for path in _paths(source):
            if _is_replaced(path.resolve(), folder.resolve()):
                raise UserError(f"--{option} {path} would be replaced by the run's results; choose another --out")
    for name in GRIDS:
        check_replaceable(folder / name, *GRID_FILES)
    if config.dnerf:
        check_replaceable(folder / "dnerf", *DNERF_FILES)


def _paths(source: str | Path | None) -> list[Path]:
    if source is None:
        return []
    path = Path(source)
    return [path] if path.exists() else [Path(name) for name in glob.glob(str(source))]


def _is_replaced(path: Path, folder: Path) -> bool:
    if not path.is_relative_to(folder):
        return False
    inside = path.relative_to(folder).parts
    return bool(inside) and (inside[0] in FOLDERS or (len(inside) == 1 and bool(FILES.fullmatch(inside[0]))))
