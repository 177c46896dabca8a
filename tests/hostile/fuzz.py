"""Damage every format many times and count what comes back: `python -m tests.hostile.fuzz CASES [SEED] [FORMAT …]`.

Anything but a value or a `UserError` is a bare exception. Prints one line a format and each kind of bare exception
once; exit code 1 if there was one or if the process took more than 2 GB.
"""

from __future__ import annotations

import logging
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import yaml

from tests.hostile.damage import damaged_bytes, damaged_json, damaged_value
from tests.hostile.formats import FORMATS, Format
from viewtime.errors import UserError

MOST_MEMORY = 2 << 30


def fuzz(name: str, cases: int, seed: int) -> tuple[Counter, list[str]]:
    """(how many were read, refused, bare; a description of the first bare exception of each kind)."""
    kind, counts, bare = FORMATS[name], Counter(), {}
    with tempfile.TemporaryDirectory() as root:
        whole = Path(root) / "whole"
        whole.mkdir()
        kind.write(whole)
        kind.read(_copy(whole, Path(root) / "work"))  # undamaged it is read
        data = (whole / kind.file).read_bytes()
        for case in range(cases):
            rng = random.Random(f"{seed} {name} {case}")
            work = _copy(whole, Path(root) / "work")
            (work / kind.file).write_bytes(_damaged(kind, data, rng))
            try:
                kind.read(work)
                counts["read"] += 1
            except UserError as error:
                counts["refused"] += 1
                if "\n" in str(error):
                    bare[f"several lines: {str(error)!r:.200}"] = case
            except (Exception, SystemExit) as error:
                counts["bare"] += 1
                bare.setdefault(f"{type(error).__name__}: {str(error)[:200]} [{_place(error)}]", case)
    return counts, [f"case {case}: {text}" for text, case in bare.items()]


def _copy(whole: Path, work: Path) -> Path:
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(whole, work)
    return work


def _damaged(kind: Format, data: bytes, rng: random.Random) -> bytes:
    if kind.text == "json":
        return damaged_json(data, rng)
    if kind.text == "yaml" and rng.random() < 0.7:
        return yaml.safe_dump(damaged_value(yaml.safe_load(data), rng)).encode()
    return damaged_bytes(data, rng)


def _place(error: BaseException) -> str:
    """Innermost line of ours."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "site-packages" not in file and "/tests/" not in file:
            place = f"{Path(file).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def peak_memory() -> int:
    """Bytes that this process ever held; `ru_maxrss` also knows what held the one that started it."""
    held = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert held is not None
    return 1024 * int(held[1])


def main(arguments: list[str]) -> int:
    """See the module."""
    logging.disable()
    cases, seed, names = (
        int(arguments[0]),
        int(arguments[1]) if len(arguments) > 1 else 0,
        arguments[2:] or list(FORMATS),
    )
    total: Counter = Counter()
    for name in names:
        counts, bare = fuzz(name, cases, seed)
        total += counts
        print(f"{name:22s} {dict(counts)}", *bare, sep="\n    ", flush=True)
    peak = peak_memory()
    print(f"{sum(total.values())} cases {dict(total)}; peak {peak / 2**20:.0f} MB")
    return int(total["bare"] > 0 or peak > MOST_MEMORY)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
