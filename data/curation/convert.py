"""FBX and Blender files become GLB, in a Blender process of their own, so that one reader serves all."""

from __future__ import annotations

import hashlib
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

from viewtime import render_objaverse
from viewtime.data.curation.guard import GuardedError
from viewtime.errors import require_installed
from viewtime.files import atomic_path
from viewtime.render_objaverse.lifetime import die_with

WORKER = Path(render_objaverse.__file__).resolve().parent / "blender_convert.py"
NEEDS_CONVERSION = (".fbx", ".blend")


def converted_name(id: str, source: Path) -> str:
    """A file name that is readable and belongs to this asset with this content alone."""
    digest = hashlib.sha256(f"{id}\0".encode())
    with source.open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"{re.sub(r'[^A-Za-z0-9.-]+', '_', id)[-60:]}-{digest.hexdigest()[:12]}.glb"


def convert_to_glb(source: Path, folder: Path, id: str, timeout_s: float, memory_gb: float) -> Path:
    """The GLB made from `source`, in `folder`; an earlier run's is kept while the source is the same.

    Raises:
        GuardedError: Blender cannot read it ("unreadable"), or takes too long ("timeout").
        UserError: bpy is not installed.
    """
    require_installed("bpy", "render")
    target = folder / converted_name(id, source)
    if target.is_file():
        return target
    limit, parent = int(memory_gb * 2**30), os.getpid()

    def bound() -> None:
        die_with(parent)  # a curation that is killed takes its Blender along
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    with atomic_path(target) as temporary:
        try:
            finished = subprocess.run(
                [sys.executable, str(WORKER), str(source.resolve()), str(temporary.resolve())],
                capture_output=True,
                text=True,
                timeout=timeout_s,
                preexec_fn=bound,
            )
        except subprocess.TimeoutExpired:
            raise GuardedError("timeout", f"{source.name}: Blender took longer than {timeout_s:g} s") from None
        if finished.returncode or not temporary.is_file():
            lines = [line for line in finished.stderr.splitlines() if "Error" in line]
            words = lines[-1].strip()[:160] if lines else f"exit code {finished.returncode}"
            raise GuardedError("unreadable", f"{source.name}: Blender cannot read it: {words}")
    return target
