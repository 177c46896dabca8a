"""What a result depends on, as one text: an interrupted run goes on only where that is still the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viewtime.run_folder import plain

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

READ_WHOLE = 1 << 26  # larger files are told apart by size, time and beginning


def fingerprint(
    options: Mapping[str, Any], arrays: Iterable[Tensor | np.ndarray | None] = (), files: Iterable[Path] = ()
) -> str:
    """A hexadecimal digest of options, of the values of arrays, and of the content of files and folders.

    Args:
        options: plain values, paths and dataclasses; without those that change nothing.
        arrays: in a fixed order; None for one that is absent.
        files: missing ones count as such.
    """
    digest = hashlib.sha256(json.dumps(plain(options), sort_keys=True, default=str).encode())
    for array in arrays:
        if array is None:
            digest.update(b"none")
            continue
        values = array if not hasattr(array, "detach") else array.detach().cpu().numpy()  # type: ignore[union-attr]
        digest.update(f"{values.dtype}{values.shape}".encode())
        digest.update(values.tobytes())
    for path in files:
        inside = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
        for item in inside:
            digest.update(_stamp(item).encode())
    return digest.hexdigest()


def _stamp(path: Path) -> str:
    if not path.is_file():
        return f"{path.name} is absent"
    facts = path.stat()
    with path.open("rb") as file:
        content = hashlib.sha256(file.read(READ_WHOLE)).hexdigest()
    when = facts.st_mtime_ns if facts.st_size > READ_WHOLE else ""
    return f"{path.name} {facts.st_size} {when} {content}"
