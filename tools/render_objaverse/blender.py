"""The driver's side of one Blender process: start it, ask it, stop it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from viewtime.cameras import Cameras, opengl_from_opencv
from viewtime.configs.schema.render import Device
from viewtime.errors import UserError, require_installed
from viewtime.images import read_image

from .gltf_file import AssetError
from .lifetime import die_with
from .pose import Placement, Posed
from .posed_glb import write_posed

WORKER = Path(__file__).with_name("blender_worker.py")
BUILT_IN_WORLDS = ("city", "courtyard", "forest", "interior", "studio", "sunrise")


@dataclass(frozen=True)
class CyclesQuality:
    """Samples per pixel and whether the denoiser runs; 16 with denoising suits 128 px, 32 suits 256 and more."""

    samples: int = 16
    denoise: bool = True
    world_strength: float = 1.0


class BlenderError(AssetError):
    """Blender refused the request; the process is alive and can open the next file."""

    def __init__(self, message: str, reason: str = "blender") -> None:
        super().__init__(reason, message)

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # type: ignore[override]
        return BlenderError, (str(self), self.reason)


class Blender:
    """One Blender process. `cpus` pins it (the denoiser ignores thread limits, only affinity holds it).

    Args:
        device: cpu, or the kind of GPU that Cycles renders on: that of the first of `cpus`, counted round.

    Raises:
        UserError: bpy is not installed, or there is no such device.
    """

    def __init__(
        self, cpus: Sequence[int] = (), threads: int = 1, log_file: Path | None = None, device: Device = "cpu"
    ) -> None:
        require_installed("bpy", "render")
        self._log = open(os.devnull if log_file is None else log_file, "ab")  # noqa: SIM115 - closed by close()
        parent = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-u", str(WORKER), ",".join(map(str, cpus)), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            preexec_fn=lambda: die_with(parent),
        )
        self.path: Path | None = None
        self.posed: Posed | None = None
        self.clips: list[dict[str, Any]] = []
        self.device = {"device": device, "device_number": min(cpus, default=0)}
        if device != "cpu":
            try:
                self.ask({"op": "device", **self.device})
            except BlenderError as error:
                self.close()
                reason = str(error).partition(": ")[2] or error
                raise UserError(f"--quality.device {device}: {reason}") from error

    @property
    def process_id(self) -> int:
        """Of the Blender process."""
        return self._process.pid

    def __enter__(self) -> Blender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request and wait for its reply.

        Raises:
            BlenderError: Blender refused it; reason "crashed" where the process died.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise BlenderError(f"Blender died (exit code {self._process.wait()})", "crashed")
        reply = json.loads(line)
        if not reply["ok"]:
            raise BlenderError(str(reply["error"])[:300])
        return reply

    def open(self, path: Path) -> None:
        """Open an FBX or Blender file unless it is the one open already; its clips are then in `clips`."""
        if self.path != path:
            self.path = self.posed = None
            self.clips = self.ask({"op": "open", "path": str(path.resolve())})["clips"]
            self.path = path

    def open_posed(self, posed: Posed) -> None:
        """Show a glTF asset as it was posed; `render` then takes the times that it was posed at."""
        self.path = self.posed = None
        with tempfile.TemporaryDirectory() as folder:
            files = write_posed(posed, Path(folder))
            self.ask({"op": "open_posed", "looks": str(files.glb), "poses": str(files.poses)})
        self.posed = posed

    def points(self, clip: str | None, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World vertices [F, N, 3] and triangles [T, 3] as Blender evaluates them."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "points.npz"
            self.ask({"op": "points", "clip": clip, "times": [float(t) for t in times], "file": str(file)})
            with np.load(file) as arrays:
                return arrays["positions"], arrays["triangles"]

    def worlds(self) -> list[Path]:
        """The equirectangular worlds that come with bpy."""
        return [Path(path) for path in self.ask({"op": "worlds"})["worlds"]]

    def render(
        self,
        folder: Path,
        clip: str | None,
        times: np.ndarray,
        cameras: Cameras,
        placement: Placement,
        size: int,
        world: Path,
        *,
        world_turn: float = 0.0,
        quality: CyclesQuality | None = None,
        seed: int = 0,
        depth: bool = False,
        normals: bool = False,
    ) -> None:
        """Write FOLDER/view_VVV/frame_FFF.png (RGBA, straight alpha) and depth.npz, normals.npz where asked for.

        Args:
            times: [F] seconds; cameras: [V, F]; world_turn: degrees about the vertical.
        """
        quality = quality or CyclesQuality()
        matrices = opengl_from_opencv(cameras.camera_to_world()).numpy()
        if self.posed is not None:
            if not np.array_equal(times, self.posed.times):
                raise UserError(f"{len(times)} times that the open asset was not posed at")
            times = np.arange(len(times))
        self.ask(
            {
                "op": "render",
                "clip": clip,
                "times": [float(t) for t in times],
                "cameras": matrices.tolist(),
                "fov_y": cameras.fov_y,
                "centre": list(placement.centre),
                "scale": placement.scale,
                "size": size,
                "world": str(Path(world).resolve()),
                "world_turn": float(np.radians(world_turn)),
                "world_strength": quality.world_strength,
                "samples": quality.samples,
                "denoise": quality.denoise,
                **self.device,
                "seed": seed,
                "folder": str(folder.resolve()),
                "depth": depth,
                "normals": normals,
            }
        )
        views, frames = cameras.shape
        for name, wanted in (("depth", depth), ("normal", normals)):
            if wanted:
                files = [[folder / f"{name}_{v:03d}_{f:03d}.npy" for f in range(frames)] for v in range(views)]
                values = np.stack([np.stack([np.load(file) for file in row]) for row in files])
                save_geometry(folder, name, values)
                for file in (file for row in files for file in row):
                    file.unlink()


def read_row(folder: Path, view: int, frames: int) -> np.ndarray:
    """One view as `Blender.render` wrote it, uint8 [F, H, W, 4]; colour is cleared where nothing is."""
    row = np.stack([read_image(folder / f"view_{view:03d}" / f"frame_{frame:03d}.png") for frame in range(frames)])
    # Cycles leaves colour under zero alpha; zeros compress better and mean the same.
    row[row[..., 3] == 0] = 0
    return row


def save_geometry(folder: Path, name: str, values: np.ndarray) -> None:
    """depth.npz (`depth` float32 [V, F, H, W]) or normals.npz (`normals` float16 [V, F, H, W, 3])."""
    if name == "depth":
        np.savez_compressed(folder / "depth.npz", depth=values.astype(np.float32))
    else:
        np.savez_compressed(folder / "normals.npz", normals=values.astype(np.float16))


def choose_worlds(blender: Blender, names: str) -> list[Path]:
    """The worlds to light with: "all" built-in ones that are bright enough, names of them, or a folder of
    .exr/.hdr files.

    Raises:
        UserError: nothing there by that name.
    """
    folder = Path(names)
    if folder.is_dir():
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".exr", ".hdr"))
        if not found:
            raise UserError(f"{folder} holds no .exr or .hdr file; give a folder of equirectangular worlds")
        return found
    built_in = {path.stem: path for path in blender.worlds()}
    wanted = list(BUILT_IN_WORLDS) if names == "all" else names.split(",")
    unknown = [name for name in wanted if name not in built_in]
    if unknown:
        raise UserError(f"no world {unknown[0]!r}: a folder, 'all', or names out of {', '.join(built_in)}")
    return [built_in[name] for name in wanted]
