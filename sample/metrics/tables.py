"""The tables of the papers by name: `--table` sets what each measured, and prints the paper's own row beside ours."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from viewtime.configs.schema.evaluate import EvaluateConfig
from viewtime.data.curation.heldout import heldout_ids
from viewtime.errors import UserError

SPARSE = ("lpips", "clip_s", "fvd_f")  # Consistent4D's four views are too sparse for the others (SV4D, section 4.1)
DENSE = ("lpips", "clip_s", "fvd_f", "fvd_v", "fvd_diag", "fv4d")
OBJAVERSE_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class PaperTable:
    """One table of a paper.

    Attributes:
        title: paper and number.
        options: the options of `viewtime evaluate` that it sets.
        published: the paper's row of its own method, in the paper's names.
        test_set: name in `data/heldout_ids.json`, where grids are named by Objaverse ids.
    """

    title: str
    options: dict[str, Any]
    published: dict[str, float]
    test_set: str | None = None


def _sv4d(number: int, metrics: tuple[str, ...], row: str, test_set: str | None = None) -> PaperTable:
    names = ("LPIPS", "CLIP-S", "FVD-F", "FVD-V", "FVD-Diag", "FV4D")
    options = {"metrics": list(metrics), "network": "i3d", "resize": True}
    options |= {"lpips_net": "vgg"} if test_set is None else {"wrap_views": True}
    published: dict[str, float] = dict(zip(names, map(float, row.split()), strict=False))
    return PaperTable(f"SV4D, table {number}", options, published, test_set)


TABLES = {
    "sv4d-1": _sv4d(1, SPARSE, "0.129 0.929 677.68"),
    "sv4d-2": _sv4d(2, SPARSE, "0.118 0.92 732.40"),
    "sv4d-3": _sv4d(3, DENSE, "0.136 0.920 585.09 331.94 503.02 470.46", "objaversedy_test"),
    "sv4d-4": _sv4d(4, DENSE, "0.131 0.905 659.66 368.53 525.65 614.35", "objaversedy_test"),
    "4real": PaperTable(
        "4Real-Video, tables 1 and 2",
        {"four_real": True, "network": "i3d", "clip_frames": 16},
        {
            "FID": 78.36, "CLIP": 28.22, "FVD (time)": 906.16, "FVD (view)": 1036.00, "FVD-Test (time)": 308.15,
            "FVD-Test (view)": 261.02,
        },
    ),
}  # fmt: skip


def as_the_table(config: EvaluateConfig) -> EvaluateConfig:
    """The options with those of the table that they name.

    Raises:
        UserError: an option was given that the table sets otherwise.
    """
    if config.table is None:
        return config
    plain, options = EvaluateConfig(), TABLES[config.table].options
    for name, value in options.items():
        given = getattr(config, name)
        if given not in (getattr(plain, name), value):
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"--table {config.table} sets {flag} to {value}, not {given}; leave out one of the two")
    return dataclasses.replace(config, **options)


def table_protocol(name: str, pairs: list[str]) -> dict[str, Any]:
    """The lines under a table: which one, the paper's row, and which of the test set's ids were compared.

    Args:
        pairs: names of the compared grids.

    Raises:
        UserError: a grid is of none of the test set's objects.
    """
    table = TABLES[name]
    lines: dict[str, Any] = {"table": table.title}
    row = ", ".join(f"{metric} {value:g}" for metric, value in table.published.items())
    lines["published"] = f"{row} (its networks' preprocessing and test renders are not published: compare with care)"
    if table.test_set is None:
        return lines
    wanted = {id for id, test_set in heldout_ids().items() if test_set == table.test_set}
    found = {pair: OBJAVERSE_ID.search(pair.lower()) for pair in pairs}
    strange = [pair for pair, match in found.items() if match is None or match.group() not in wanted]
    if strange:
        raise UserError(
            f"{strange[0]} is none of the {len(wanted)} objects of {table.title} (data/heldout_ids.json); grids are "
            "named by their Objaverse ids, as `viewtime render` leaves them"
        )
    missing = sorted(wanted - {match.group() for match in found.values() if match})
    lines["objects"] = f"{len(wanted) - len(missing)} of {len(wanted)} of {table.test_set}"
    if missing:
        lines["objects"] += f"; missing: {', '.join(missing)}"
    return lines
