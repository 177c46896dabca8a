"""Run folders: every command leaves its resolved config, the versions and the seed beside its results."""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import sys
from dataclasses import asdict, dataclass, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from viewtime import __version__
from viewtime.errors import UserError
from viewtime.files import atomic_path

# What a run leaves before it has made anything; a mark of states without states is worth nothing.
OPENING = {"config.yaml", "versions.json", "run.log", ".lock", "state.fingerprint"}
RECORDED_PACKAGES = (
    "torch",
    "numpy",
    "einops",
    "safetensors",
    "diffusers",
    "accelerate",
    "deepspeed",
    "bpy",
    "moderngl",
)


def package_version(name: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def plain(value: Any) -> Any:
    """Dataclasses, paths and tuples as the plain types that YAML and JSON hold."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


_begun: set[Path] = set()  # run folders that this process made and that held no run before


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run of a command."""

    folder: Path

    def path(self, name: str) -> Path:
        """Path of a file or folder inside the run folder."""
        return self.folder / name


def start_run(folder: str | Path, command: str, config: Any, seed: int | None = None) -> RunFolder:
    """Make the folder and write `config.yaml` and `versions.json` into it.

    Args:
        config: the resolved config, a dataclass or a mapping.

    Raises:
        UserError: the folder cannot be made or written, or the path is a file.
    """
    folder = Path(folder)
    if folder.is_file():
        raise UserError(f"{folder} is a file; give the path of a folder")
    if not (folder / "config.yaml").exists():
        begin_in(folder)
    with atomic_path(folder / "config.yaml") as path:
        path.write_text(yaml.safe_dump({"command": command, "seed": seed, **plain(config)}, sort_keys=False))
    versions = {"viewtime": __version__, "python": sys.version.split()[0], "platform": platform.platform()}
    versions |= {name: found for name in RECORDED_PACKAGES if (found := package_version(name))}
    with atomic_path(folder / "versions.json") as path:
        path.write_text(json.dumps(versions, indent=1))
    return RunFolder(folder)


def begin_in(folder: Path) -> None:
    """Note a folder that held no run before, see `forget_failed_starts`."""
    _begun.add(folder)


def forget_failed_starts() -> None:
    """Remove the run folders of this process that hold nothing but what a run begins with, and parents left empty."""
    for folder in _begun:
        if folder.is_dir() and {child.name for child in folder.iterdir()} <= OPENING:
            shutil.rmtree(folder)
            with contextlib.suppress(OSError):
                folder.parent.rmdir()
    _begun.clear()
