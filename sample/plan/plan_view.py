"""A plan for people: a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from viewtime.images import write_image

from .plan import Plan, Window

CELL, GAP, LABEL = 14, 26, 16  # pixels
COLUMNS_PIXELS = 1400
GIVEN, WAITING, DONE, SAMPLED, CONDITION = (
    (70, 130, 180),
    (238, 238, 238),
    (190, 190, 190),
    (240, 150, 40),
    (200, 30, 60),
)


def ranges(numbers: Sequence[int]) -> str:
    """ "0-4", "4,8,12" or "4-0" for a list of indices in their order."""
    parts: list[list[int]] = []
    for number in numbers:
        step = 0 if not parts or len(parts[-1]) < 2 else parts[-1][1] - parts[-1][0]
        if parts and (number - parts[-1][-1]) in ((1, -1) if step == 0 else (step,)):
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 2 else ",".join(map(str, part)) for part in parts)


def table(plan: Plan) -> str:
    """One line per window: when, what, conditioned on what, after which windows."""
    rows = [("window", "wave", "stage", "views", "frames", "samples", "conditioned on", "needs")]
    for window in plan.windows:
        conditions = " | ".join(
            (f"{direction.name}: " if direction.name else "") + describe_conditions(direction.conditions)
            for direction in window.directions
        )
        needs = ranges(sorted(plan.needs(window))) or "-"
        rows.append(
            (
                str(window.index), str(plan.wave_of(window)), window.stage, ranges(window.views), ranges(window.frames),
                str(len(window.sampled)), conditions, needs,
            )
        )  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in rows]
    problem = plan.problem
    total = sum(len(window.views) * len(window.frames) for window in plan.windows)
    head = (
        f"plan {plan.name}: {problem.views} views × {problem.frames} frames, {len(problem.given)} cells given, "
        f"{len(problem.cells) - len(problem.given)} to sample; {len(plan.windows)} windows in {len(plan.waves)} waves, "
        f"{total} cells through the network"
    )
    return "\n".join([head, "", *lines])


def describe_conditions(conditions: Sequence[tuple[int, int]]) -> str:
    """Cells by rows and columns: "input 0-4, views 1-8 at 4"."""
    if not conditions:
        return "nothing"
    parts = []
    inputs = [frame for view, frame in conditions if view == 0]
    if inputs:
        parts.append(f"input {ranges(sorted(inputs))}")
    views_at: dict[int, list[int]] = {}
    for view, frame in conditions:
        if view:
            views_at.setdefault(frame, []).append(view)
    frames_of: dict[tuple[int, ...], list[int]] = {}
    for frame, views in views_at.items():
        frames_of.setdefault(tuple(sorted(views)), []).append(frame)
    parts += [f"views {ranges(views)} at {ranges(sorted(frames))}" for views, frames in frames_of.items()]
    return ", ".join(parts)


def draw(plan: Plan, path: Path) -> Path:
    """One panel per window, in order: blue given, orange sampled now, grey done before, red outline conditioning.

    Where the steps alternate, the forward condition is outlined solid and the backward one dashed by a cross.
    """
    problem = plan.problem
    width, height = problem.frames * CELL + 2, problem.views * CELL + LABEL + 2
    per_row = max(1, (COLUMNS_PIXELS - GAP) // (width + GAP))
    rows = -(-len(plan.windows) // per_row)
    columns = min(per_row, len(plan.windows))
    sheet = Image.new("RGB", (GAP + columns * (width + GAP), GAP + rows * (height + GAP) + LABEL), "white")
    pen = ImageDraw.Draw(sheet)
    legend = "rows: views, columns: frames; blue given, orange sampled, grey done, red frame: conditions (x: backward)"
    pen.text((GAP, 4), f"{plan.name}: {legend}", fill="black")
    done: set[tuple[int, int]] = set()
    for window in plan.windows:
        left = GAP + (window.index % per_row) * (width + GAP)
        top = GAP + LABEL + (window.index // per_row) * (height + GAP)
        _panel(pen, plan, window, done, left, top)
        done |= window.sampled
    return write_image(path, np.asarray(sheet))


def _panel(
    pen: ImageDraw.ImageDraw, plan: Plan, window: Window, done: set[tuple[int, int]], left: int, top: int
) -> None:
    pen.text((left, top), f"{window.index} {window.stage}, wave {plan.wave_of(window)}", fill="black")
    for view in range(plan.problem.views):
        for frame in range(plan.problem.frames):
            cell = (view, frame)
            colour = (
                SAMPLED if cell in window.sampled
                else GIVEN if cell in plan.problem.given
                else DONE if cell in done
                else WAITING
            )  # fmt: skip
            x, y = left + frame * CELL, top + LABEL + view * CELL
            pen.rectangle((x, y, x + CELL - 2, y + CELL - 2), fill=colour)
            for direction in window.directions:
                if cell not in direction.conditions:
                    continue
                if direction.name == "backward" and view > 0:
                    pen.line((x + 2, y + 2, x + CELL - 4, y + CELL - 4), fill=CONDITION, width=2)
                    pen.line((x + 2, y + CELL - 4, x + CELL - 4, y + 2), fill=CONDITION, width=2)
                else:
                    pen.rectangle((x, y, x + CELL - 2, y + CELL - 2), outline=CONDITION, width=2)
