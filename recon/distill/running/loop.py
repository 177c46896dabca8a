"""The loop around a run: going on, progress with what is left, saved states, previews, the record of every loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from viewtime.configs.earlier import mark_of
from viewtime.configs.schema.distill import DistillConfig
from viewtime.files import atomic_path
from viewtime.fingerprint import fingerprint
from viewtime.json_files import finite_json
from viewtime.log import progress_bar
from viewtime.recon.fitting.resume import keep_states
from viewtime.run_folder import plain

from .fit import DistillFit
from .show import write_sheet

STATE, RECORD, PREVIEW = "state.pt", "losses.jsonl", "preview.png"
# Options that change no step of a run; `memory` has changed those that do.
WITHOUT_EFFECT = (
    "out", "resume", "save_every", "device", "memory", "fit_anyway", "preview_prior", "preview_steps", "result",
)  # fmt: skip


def run_distill(fit: DistillFit, folder: Path | None) -> None:
    """Iterate to the end.

    Args:
        folder: where the state, the record and previews go; None keeps nothing.

    Raises:
        UserError: the saved state is damaged, or the run diverges.
    """
    state = folder and folder / STATE
    if folder:
        keep_states(folder, (STATE,), DistillConfig, run_mark(fit.config), fit.config.resume)
    if state and fit.config.resume and state.is_file():
        fit.restore(state)
    if folder:
        cut_record(folder / RECORD, fit.done)
    with progress_bar("distill", fit.total) as bar:
        bar.advance(fit.done)
        while not fit.finished():
            fit.step()
            bar.advance(1, describe(fit))
            if folder and (fit.done % fit.config.save_every == 0 or fit.finished()):
                append_record(folder / RECORD, fit.records)
                fit.records.clear()
                write_sheet(fit.scene, fit.config.result, folder / PREVIEW)
                fit.save(folder / STATE)  # last: a run that was killed before it makes the rest again


def run_mark(config: DistillConfig) -> dict[str, Any]:
    """What decides every step of a run: the options and the files that they name."""
    options = {name: value for name, value in plain(config).items() if name not in WITHOUT_EFFECT}
    named = [config.image, config.lora, *config.weights.values()]
    named += [
        path for guidance in config.guidances.values() for path in (guidance.weights, guidance.carrier, guidance.clip)
    ]
    return mark_of(options, fingerprint({}, files=[Path(path) for path in named if path is not None]))


def describe(fit: DistillFit) -> str:
    """The stage, this step's losses and the running measures, for the progress bar."""
    losses = ", ".join(f"{name} {value:.3g}" for name, value in fit.records[-1]["losses"].items())
    means = ", ".join(f"{name} {value:.3g}" for name, value in fit.watch.means.items())
    return f"{fit.stage_name}: {losses}; {means}"


def cut_record(path: Path, steps: int) -> None:
    """Keep the first lines of a record: what a killed run did after its last saved state will be done again."""
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    with atomic_path(path) as temporary:
        temporary.write_text("".join(lines[:steps]))


def append_record(path: Path, records: list[dict]) -> None:
    """One line per step: stage, step, shots, each unweighted loss, and running means of opacity and motion."""
    with path.open("a") as file:
        file.writelines(json.dumps(finite_json(record)) + "\n" for record in records)
