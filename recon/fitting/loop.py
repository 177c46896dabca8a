"""The loop around a fit of either kind: resuming, progress, saved states with previews, early stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.errors import UserError, first_line
from viewtime.grid import FrameGrid
from viewtime.log import log, progress_bar

from .resume import DAMAGE
from .schedule import Schedule

SMALLEST_GAIN_DB = 0.02  # that counts as still rising


@dataclass
class Progress:
    """Where a fit stands.

    Attributes:
        stage: 0 static, 1 dynamic.
        iteration: the next one of that stage.
        error: smoothed squared error.
        best, best_at: the highest PSNR in dB since all frames take part, and its iteration, for the early stop.
    """

    stage: int = 0
    iteration: int = 0
    error: float = 0.0
    best: float = 0.0
    best_at: int = 0

    @property
    def psnr(self) -> float:
        """Smoothed training PSNR in dB."""
        return -10 * math.log10(max(self.error, 1e-10))

    def update(self, squared_error: float) -> None:
        """Take in one step's mean squared error."""
        self.error = squared_error if self.error == 0 else 0.98 * self.error + 0.02 * squared_error


class Fit(Protocol):
    """What is fitted step by step."""

    progress: Progress
    schedule: Schedule

    def step(self) -> None:
        """One iteration."""
        ...

    def finished(self) -> bool:
        """Whether both stages are over."""
        ...

    def save(self, path: Path) -> None:
        """Write the state."""
        ...

    def restore(self, path: Path) -> None:
        """Go on from a written state."""
        ...


def run_fit(
    fit: Fit,
    config: ReconstructConfig,
    static_iterations: int,
    status: Callable[[], str],
    state: Path | None,
    preview: Callable[[Path], object],
) -> None:
    """Iterate to the end or the early stop.

    Args:
        static_iterations: of the first stage; the second one's number is the schedule's.
        status: what the progress bar says beside the PSNR.
        state: file to resume from where there is one, and to save to; None keeps nothing.
        preview: writes a picture of where the fit stands, beside the state.
    """
    if state and state.is_file():
        restore(fit, state)
    total = fit.schedule.iterations
    with progress_bar("reconstruct", static_iterations + total) as bar:
        bar.advance(fit.progress.iteration + (static_iterations if fit.progress.stage else 0))
        while not fit.finished():
            fit.step()
            bar.advance(1, f"PSNR {fit.progress.psnr:.1f} dB, {status()}")
            iteration = fit.progress.iteration
            if config.early_stop and fit.progress.stage and fit.schedule.entered(iteration) == fit.schedule.frames:
                if fit.progress.psnr > fit.progress.best + SMALLEST_GAIN_DB:
                    fit.progress.best, fit.progress.best_at = fit.progress.psnr, iteration
                elif iteration - fit.progress.best_at > config.early_stop * total:
                    log.info(
                        "stopping early at iteration %d: PSNR %.2f dB no longer rises", iteration, fit.progress.best
                    )
                    break
            if state and iteration % config.save_every == 0:
                fit.save(state)
                preview(state.with_name("preview.png"))


def restore(fit: Fit, state: Path) -> None:
    """Go on from a saved state.

    Raises:
        UserError: the file is damaged.
    """
    try:
        fit.restore(state)
    except DAMAGE as error:
        reason = first_line(error)
        raise UserError(f"{state} is damaged ({reason}); start anew with --no-resume") from error
    log.info(
        "going on from iteration %d of the %s stage", fit.progress.iteration, ("static", "dynamic")[fit.progress.stage]
    )


def scene_info(grid: FrameGrid) -> dict:
    """What an asset remembers of the cameras and pictures that it was fitted to."""
    return {
        "fov_y": grid.orbit.fov_y,
        "distance": float(grid.orbit.distance.mean()),
        "elevation": float(grid.orbit.elevation.mean()),
        "size": list(grid.shape[3:]),
    }
