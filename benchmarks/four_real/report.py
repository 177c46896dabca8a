"""The ablation's table and pictures."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from viewtime.images import contact_sheet


def table(records: list[dict], metrics: tuple[str, ...]) -> str:
    """Mean and spread (standard deviation over seeds) of every run, best PSNR first."""
    rows: dict[str, list[dict[str, float]]] = {}
    for record in records:
        rows.setdefault(record["run"], []).append(record["final"])
        if "after_pseudo" in record:
            rows.setdefault(f"{record['run']}, pseudo-4D only", []).append(record["after_pseudo"])
    lines = [f"{'run':28s} {'seeds':>5s} " + " ".join(f"{name:>14s}" for name in metrics)]
    means = {name: {key: torch.tensor([v[key] for v in values]) for key in metrics} for name, values in rows.items()}
    for name in sorted(means, key=lambda name: -float(means[name]["psnr"].mean())):
        cells = [
            f"{float(column.mean()):.3f} ± {float(column.std(correction=0)):.3f}" for column in means[name].values()
        ]
        lines.append(f"{name:28s} {len(rows[name]):5d} " + " ".join(f"{cell:>14s}" for cell in cells))
    return "\n".join(lines)


def draw_sheets(held_out: list[Tensor], runs: list[str], folder: Path) -> None:
    """One sheet per held-out grid: what is given, the truth, and every run's grid of seed 0, side by side."""
    for index, truth in enumerate(held_out):
        given = torch.full_like(truth, 0.5)
        given[0], given[:, 0] = truth[0], truth[:, 0]
        parts = {"given": given, "truth": truth}
        for name in runs:
            path = folder / f"{name.replace(', ', '_')}_0" / f"grid_{index}.pt"
            if path.is_file():
                parts[name] = torch.load(path, weights_only=True)
        for name, part in parts.items():
            contact_sheet(part, folder / f"sheet_{index}_{name.replace(', ', '_')}.png", cell_size=48)
        blank = torch.ones(truth.shape[0], 1, *truth.shape[2:])
        strips = [torch.cat([part, blank], dim=1) for part in parts.values()]
        half = (len(strips) + 1) // 2
        strips += [torch.ones_like(strips[0])] * (2 * half - len(strips))
        gap = torch.ones(1, half * strips[0].shape[1], *truth.shape[2:])
        rows = [torch.cat(strips[:half], dim=1), gap, torch.cat(strips[half:], dim=1)]
        contact_sheet(torch.cat(rows), folder / f"overview_{index}.png", cell_size=36)
        print(f"{folder}/overview_{index}.png: {', '.join(parts)} (left to right, top to bottom)")
