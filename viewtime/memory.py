"""Sizes that a file claims, held against this machine's memory before anything is allocated."""

from __future__ import annotations

import os

from viewtime.errors import UserError

SHARE = 0.8  # of the machine's memory that one thing may take


def machine_memory() -> int:
    """Bytes of memory of this machine, or of the control group that the process may not leave."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        with open("/sys/fs/cgroup/memory.max") as file:
            limit = file.read().strip()
    except OSError:
        return whole
    return min(whole, int(limit)) if limit.isdigit() else whole


def check_memory(wanted: int, what: str) -> None:
    """Raise UserError if `what` needs more bytes than this machine can give."""
    limit = int(SHARE * machine_memory())
    if wanted > limit:
        raise UserError(f"{what} needs {wanted / 1e9:.1f} GB of memory; this machine can give {limit / 1e9:.1f} GB")
