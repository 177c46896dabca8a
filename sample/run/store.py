"""Finished cells on disk: one file per window, so that memory does not grow with F and a killed run resumes.

A cell that several windows sample has several versions; who reads which one is settled by the plan, never by who
finished last. Processes share nothing but this folder.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from viewtime.configs.earlier import read_mark
from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.log import log
from viewtime.sample.plan.plan import GIVEN, Cell, Plan, Window

FINGERPRINT = "fingerprint.json"
OURS = re.compile(r"fingerprint\.json|(window_\d{4,}|given_\d{3,}_\d{5,})\.safetensors|\..+\.partial(\..+)?")


class CellStore:
    """Cells of one plan in a folder; values are pixels in [0, 1] (or whatever the model's `decode` gives).

    Args:
        folder: made if absent.
        plan: decides which version of a cell a window reads.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the folder {folder}: {error.strerror}; choose another --out") from error

    def start(self, fingerprint: dict, same: Callable[[Any, dict], bool] = operator.eq) -> bool:
        """Keep what an interrupted run of the same fingerprint left, throw away anything else.

        Args:
            same: whether the fingerprint that is there, None if damaged, counts as this one.

        Returns:
            Whether there is something to resume.
        """
        path = self.folder / FINGERPRINT
        text = json.dumps(fingerprint, sort_keys=True)
        if path.is_file() and same(read_mark(path), json.loads(text)):
            return any(self.finished(window) for window in self.plan.windows)
        foreign = [item for item in self.folder.rglob("*") if not item.is_dir() and not OURS.fullmatch(item.name)]
        if foreign:
            raise UserError(
                f"{foreign[0]} lies where the sampled windows go; move it elsewhere or choose another --out"
            )
        if any(self.finished(window) for window in self.plan.windows):
            log.warning(
                "%s holds windows of a run with another input, other options or an earlier version: sampling anew",
                self.folder,
            )
        path.unlink(missing_ok=True)  # before the windows: what is left of them belongs to no run
        self.remove()
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(text)
        return False

    def put_given(self, cell: Cell, value: Tensor) -> None:
        """Store an input cell [C, H, W]."""
        with atomic_path(self._given(cell)) as temporary:
            save_file({"cell": value.contiguous()}, temporary)

    def put_window(self, window: Window, values: Tensor) -> None:
        """Store a finished window [V, F, C, H, W], rows and columns in its own order; whole or not at all."""
        assert values.shape[:2] == (len(window.views), len(window.frames))
        with atomic_path(self._file(window.index)) as temporary:
            save_file({"cells": values.to("cpu", torch.float32).contiguous()}, temporary)

    def finished(self, window: Window) -> bool:
        """Whether the window's file is there."""
        return self._file(window.index).is_file()

    def row(self, view: int) -> Tensor:
        """One finished view [F, C, H, W]."""
        return self.read([(view, frame) for frame in range(self.plan.problem.frames)])

    def read(self, cells: Sequence[Cell], window: Window | None = None) -> Tensor:
        """Cells as `window` sees them (None: as in the finished grid), [N, C, H, W]."""
        before = len(self.plan.windows) if window is None else window.index
        return torch.stack([self._read(cell, before) for cell in cells])

    def _read(self, cell: Cell, before: int) -> Tensor:
        producer = self.plan.producer(cell, before)
        assert producer is not None, f"{cell} does not exist before window {before}"
        if producer == GIVEN:
            with safe_open(self._given(cell), "pt") as file:
                return file.get_tensor("cell")
        window = self.plan.windows[producer]
        with safe_open(self._file(producer), "pt") as file:
            row, column = window.views.index(cell[0]), window.frames.index(cell[1])
            return file.get_slice("cells")[row, column].clone()

    def _file(self, index: int) -> Path:
        return self.folder / f"window_{index:04d}.safetensors"

    def _given(self, cell: Cell) -> Path:
        return self.folder / f"given_{cell[0]:03d}_{cell[1]:05d}.safetensors"

    def remove(self) -> None:
        """Delete what `start` and the `put_` functions write, and the folder if nothing else is in it."""
        for item in sorted(self.folder.rglob("*"), reverse=True):
            if item.is_dir():
                with suppress(OSError):
                    item.rmdir()
            elif OURS.fullmatch(item.name):
                item.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()
