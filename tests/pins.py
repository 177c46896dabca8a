"""Numbers that must not move from one version to the next: what a seed draws, what given weights compute.

Trained weights, stored grids and resumed runs rest on them. A changed number is either a fault or a decision; after a
decision `VIEWTIME_WRITE_PINS=1 pytest FILE` writes the file's pins anew.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

FOLDER = Path(__file__).resolve().parent / "golden" / "pins"
WHOLE = 12  # values that are kept one by one; of more, their size, mean, root mean square and three projections
WAVES = (0.37, 1.93, 2.71)  # radians a value


def digest(values: ArrayLike) -> list[float]:
    """A few numbers that any change of a value, or of the order of the values, changes."""
    flat = np.asarray(values, np.float64).ravel()
    if flat.size <= WHOLE:
        return flat.tolist()
    projections = np.cos(np.outer(WAVES, np.arange(flat.size)) + 1) @ flat / np.sqrt(flat.size)
    return [float(flat.size), float(flat.mean()), float(np.sqrt((flat**2).mean())), *projections.tolist()]


def assert_pinned(name: str, values: ArrayLike, tolerance: float = 1e-5) -> None:
    """Compare with `golden/pins/TEST_FILE.json`, to `tolerance` of the values' size."""
    file = FOLDER / f"{Path(sys._getframe(1).f_code.co_filename).stem.removeprefix('test_')}.json"
    values = np.asarray(values, np.float64)
    found = digest(values)
    if os.environ.get("VIEWTIME_WRITE_PINS"):
        pins = json.loads(file.read_text()) if file.is_file() else {}
        pins[name] = [float(f"{value:.9g}") for value in found]
        file.parent.mkdir(exist_ok=True)
        file.write_text("{\n" + ",\n".join(f'"{key}": {json.dumps(pins[key])}' for key in sorted(pins)) + "\n}\n")
    wanted = np.asarray(json.loads(file.read_text())[name])
    size = np.abs(wanted).max() if values.size <= WHOLE else wanted[2]
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * (size or 1), err_msg=name)
