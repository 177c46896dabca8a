"""Images per second of the two render engines on the same assets, frames and cameras, in one run.

    python benchmarks/render_speed.py ASSET.glb [ASSET.glb ...] [--views 9 --frames 12 --size 128]

GL times include posing and fitting the camera; Cycles times include writing and reading the images (16 samples with
denoising). Wall and process CPU seconds are printed side by side, because a busy machine stretches only the first.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from viewtime.render_objaverse.blender import Blender, CyclesQuality, choose_worlds, read_row
from viewtime.render_objaverse.framing import camera_distance, normalise
from viewtime.render_objaverse.gl import GLRenderer
from viewtime.render_objaverse.gltf import Scene, load_scene
from viewtime.render_objaverse.orbits import static_orbit, with_distance
from viewtime.render_objaverse.pose import pose_scene


@dataclass
class Cost:
    """Images made and seconds spent."""

    images: int = 0
    wall: float = 0.0
    cpu: float = 0.0

    def line(self, name: str) -> str:
        return (
            f"{name:22s} {self.images:5d} images  {self.images / self.wall:8.1f} images/s wall  "
            f"{self.images / self.cpu:8.1f} images per CPU second"
        )


def gl_grid(renderer: GLRenderer, scene: Scene, views: int, frames: int) -> int:
    clip = scene.clips[0]
    posed = pose_scene(scene, clip, clip.frame_times(frames))
    placement = normalise(posed.positions)
    cameras = static_orbit(views, frames, np.random.default_rng(0))
    turn = cameras.camera_to_world().numpy()[..., :3, :3]
    distance = camera_distance(placement.apply(posed.positions), turn, fit="projected")
    matrices = with_distance(cameras, distance).camera_to_world().numpy()
    return renderer.draw(posed, matrices, cameras.fov_y, placement=placement)[..., 0, 0, 0].size


def measure_gl(paths: list[Path], size: int, views: int, frames: int, rounds: int) -> Cost:
    cost = Cost()
    with GLRenderer(size) as renderer:
        for path in paths:
            scene = load_scene(path)
            gl_grid(renderer, scene, views, frames)  # compiles shaders, uploads textures
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(rounds):
                cost.images += gl_grid(renderer, scene, views, frames)
            cost.wall += time.perf_counter() - wall
            cost.cpu += time.process_time() - cpu
    return cost


def cpu_seconds(process: int) -> float:
    """User and system seconds that the kernel has booked on a running process (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_cycles(blender: Blender, paths: list[Path], size: int, views: int, frames: int) -> Cost:
    """Blender's CPU seconds and this process's, which reads the images."""
    cost = Cost()
    for path in paths:
        scene = load_scene(path)
        clip = scene.clips[0]
        posed = pose_scene(scene, clip, clip.frame_times(frames))
        blender.open_posed(posed)
        world = choose_worlds(blender, "forest")[0]
        cameras = static_orbit(views, frames, np.random.default_rng(0))
        arguments = (clip.name, posed.times, cameras, normalise(posed.positions), size, world)
        with tempfile.TemporaryDirectory() as folder:
            blender.render(Path(folder), *arguments, quality=CyclesQuality(16))  # builds the scene, loads the denoiser
            wall, cpu = time.perf_counter(), cpu_seconds(blender.process_id) + time.process_time()
            blender.render(Path(folder), *arguments, quality=CyclesQuality(16))
            cost.images += sum(len(read_row(Path(folder), view, frames)) for view in range(views))
            cost.wall += time.perf_counter() - wall
            cost.cpu += cpu_seconds(blender.process_id) + time.process_time() - cpu
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("assets", nargs="+", type=Path)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--views", type=int, default=9)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of Cycles")
    options = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores, load average {os.getloadavg()[0]:.1f} before this run")
    gl = measure_gl(options.assets, options.size, options.views, options.frames, options.rounds)
    print(gl.line(f"gl {options.size} px"), flush=True)
    small = measure_gl(options.assets, options.size // 2, options.views, options.frames, options.rounds)
    print(small.line(f"gl {options.size // 2} px"), flush=True)
    with Blender(threads=options.threads) as blender:
        cycles = measure_cycles(blender, options.assets, options.size, 4, 3)
    print(cycles.line(f"cycles {options.size} px, 16"))
    print(f"gl is {gl.images / gl.wall / (cycles.images / cycles.wall):.0f} x cycles by wall time, ", end="")
    print(f"{gl.images / gl.cpu / (cycles.images / cycles.cpu):.0f} x by CPU time, at {options.size} px")


if __name__ == "__main__":
    main()
