"""Saved states of a fit: gone on from by a run of the same pictures, cameras and options, otherwise thrown away."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from viewtime.configs.earlier import mark_of, read_mark, same_mark
from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.files import atomic_path
from viewtime.fingerprint import fingerprint
from viewtime.grid import FrameGrid
from viewtime.log import log
from viewtime.run_folder import plain
from viewtime.where import find_asset

STATES = ("state.pt", "first_pass.pt", "nerf_state.pt")
BELONGS_TO = "state.fingerprint"
DAMAGE = (
    OSError, RuntimeError, KeyError, IndexError, TypeError, ValueError, AttributeError, EOFError,
    pickle.UnpicklingError,
)  # fmt: skip  # what reading a damaged state raises
# Options that change no step of a fit; the grid counts by its content.
WITHOUT_EFFECT = ("grid", "out", "preset", "resume", "save_every", "orbit_seconds", "mesh", "device")
READ_OF_ASSET = ("gaussians.safetensors", "gaussians/gaussians.safetensors")  # beside them views and exports come


def open_states(folder: Path, grid: FrameGrid, config: ReconstructConfig) -> None:
    """Keep the states in a run folder if they are of this grid and these options and are wanted; delete them if not."""
    keep_states(folder, STATES, ReconstructConfig, fit_mark(grid, config), config.resume)


def keep_states(folder: Path, names: Sequence[str], schema: type, now: dict[str, Any], wanted: bool) -> None:
    """Keep saved states of these names if they are wanted and the folder's mark is this one; delete them if not.

    Args:
        schema, now: see `viewtime.configs.earlier.same_mark`.
    """
    mark, found = folder / BELONGS_TO, [folder / name for name in names if (folder / name).is_file()]
    if wanted and mark.is_file() and same_mark(schema, read_mark(mark), now):
        return
    if found and wanted:
        log.warning(
            "%s holds the state of a run with another input, other options or an earlier version: starting anew", folder
        )
    for path in found:  # before the mark: what is there is the mark's at any time
        path.unlink(missing_ok=True)
    with atomic_path(mark) as temporary:
        temporary.write_text(json.dumps(now, sort_keys=True))


def close_states(folder: Path, names: Sequence[str] = STATES) -> None:
    """Delete the states, once everything that is made of them is written."""
    for name in (*names, BELONGS_TO):
        (folder / name).unlink(missing_ok=True)


def fit_mark(grid: FrameGrid, config: ReconstructConfig) -> dict[str, Any]:
    """What decides every step of a fit: the options, the grid's pictures and cameras, and the files it reads.

    Raises:
        UserError: `--init.asset` is no asset.
    """
    options = {name: value for name, value in plain(config).items() if name not in WITHOUT_EFFECT}
    orbit = grid.orbit
    arrays = (grid.frames, grid.known, orbit.camera_to_world())
    told = (config.init.points, config.nerf.normals, config.scene.tracks)
    files = [path for path in told if path is not None]
    if config.init.asset is not None:
        files += [find_asset(config.init.asset) / name for name in READ_OF_ASSET]
    return mark_of(options, fingerprint({"fov_y": orbit.fov_y, "fps": grid.fps}, arrays, files))
