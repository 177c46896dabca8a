"""The summary as JSON and as a Markdown table, the protocol beside each number."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from viewtime.files import atomic_path
from viewtime.json_files import finite_json
from viewtime.sample.metrics.evaluator import FRECHET
from viewtime.sample.metrics.summary import NAMES, Row, Summary

DIGITS = {"psnr": 2, "object_crop_psnr": 2, "foreground_psnr": 2, "ssim": 4, "mask_iou": 4, "flicker": 5}


def write_json(summary: Summary, path: Path) -> Path:
    """Everything, per pair too. A number that cannot be computed is null."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(finite_json(asdict(summary)), indent=1, ensure_ascii=False))
    return path


def markdown(summary: Summary) -> str:
    """The table for a README or an issue: value, interval, samples, protocol; then what was not computed and why."""
    lines = [
        "| metric | value | 95 % interval | samples | protocol |",
        "|---|---|---|---|---|",
        *[_line(row) for row in summary.rows],
        "",
    ]
    if summary.iou_by_azimuth:
        centres = summary.iou_by_azimuth
        lines += [
            "| azimuth from the input view (±15°) | " + " | ".join(f"{centre}°" for centre in centres) + " |",
            "|---|" + "---|" * len(centres),
            "| mask IoU | " + " | ".join(f"{value:.3f}" for value in centres.values()) + " |",
            "",
        ]
    titles = NAMES | FRECHET
    lines += [f"- not computed: {titles.get(name, name)}: {why}" for name, why in summary.not_computed.items()]
    lines += [f"- {pair['name']}: {note}" for pair in summary.pairs for note in pair["notes"]]
    lines += [f"- {key.replace('_', ' ')}: {_plain(value)}" for key, value in summary.protocol.items()]
    if any(row.name.endswith("*") for row in summary.rows):
        lines.append(
            "- \\* not the field's metric of that name: fixed filters instead of a trained network; "
            "ranks results of one test set, is not comparable with published numbers"
        )
    return "\n".join(lines) + "\n"


def write_markdown(summary: Summary, path: Path) -> Path:
    """The table of `markdown` as a file."""
    with atomic_path(path) as temporary:
        temporary.write_text(markdown(summary))
    return path


def _line(row: Row) -> str:
    digits = DIGITS.get(row.metric, 4)
    bounds = "one pair: none" if row.low is None else f"{row.low:.{digits}f} – {row.high:.{digits}f}"
    arrow = "↑" if row.better == "higher" else "↓"
    name = row.name.replace("*", "\\*")
    return f"| {name} {arrow} | {row.value:.{digits}f} | {bounds} | {row.samples} | {row.protocol} |"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
