"""FBX, USD and Alembic through Blender, which reads our GLB in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from viewtime.configs.schema.reconstruct import MeshOptions
from viewtime.errors import UserError, require_installed
from viewtime.files import atomic_path
from viewtime.log import log
from viewtime.recon.export.glb import write_animated
from viewtime.recon.surface.mesh import MovingMesh

WORKER = Path(__file__).with_name("blender_worker.py")
NAMES = {"fbx": "asset.fbx", "usdz": "asset.usdz", "usd": "asset.usdc", "alembic": "asset.abc"}


def write_through_blender(mesh: MovingMesh, folder: Path, kind: str, options: MeshOptions) -> Path:
    """Write asset.fbx, .usdz, .usdc or .abc.

    These files hold whole frames, so the clip is brought to a whole number of frames a second. FBX keeps morph targets
    or joints as the options have them; USD keeps joints, and else the points of every frame, as Alembic always does.

    Raises:
        UserError: bpy is not installed, or Blender refuses.
    """
    require_installed("bpy", "render")
    wanted = options.fps or mesh.fps
    fps = max(1, round(wanted))
    if abs(fps - wanted) > 1e-3 * wanted:
        log.warning("%s holds whole frames: %.4g frames a second became %d", NAMES[kind], wanted, fps)
    exact = options if fps == wanted else dataclasses.replace(options, fps=float(fps))
    final = folder / NAMES[kind]
    with tempfile.TemporaryDirectory() as name, atomic_path(final) as temporary:
        glb = write_animated(mesh, Path(name) / "asset.glb", exact, unlit=False)
        request = {"glb": str(glb), "kind": kind, "out": str(temporary.resolve()), "fps": fps}
        done = subprocess.run([sys.executable, str(WORKER), json.dumps(request)], capture_output=True, text=True)
        if done.returncode or not temporary.is_file():
            reason = (done.stderr.strip() or done.stdout.strip() or "no file").splitlines()[-1]
            raise UserError(f"Blender could not write {final}: {reason}")
    return final
