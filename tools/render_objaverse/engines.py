"""One asset at a time in one process: open it, plan each sample, render it with either engine, write its grid."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange

from viewtime.configs.schema.render import RenderConfig
from viewtime.files import atomic_folder
from viewtime.grid import GRID_FILES, write_grid
from viewtime.json_files import read_json

from .assets import GLTF_SUFFIXES, AssetFile, content_of, sample_name, sample_seed
from .blender import Blender, BlenderError, CyclesQuality, choose_worlds, read_row, save_geometry
from .gl import GLRenderer
from .gltf import Scene, load_scene
from .gltf_file import AssetError
from .motion import disagreement, smaller
from .plan import KEY_SIZE, PoseAt, SamplePlan, plan_sample, posed_from_mesh
from .pose import Posed, pose_scene

CHECKED_VIEWS = 3
FACTS = {"motion": 5, "step": 6, "distance": 5}  # what is told of a sample and kept with its grid -> digits


@dataclass(frozen=True)
class Sample:
    """One grid to be: a clip (None: the rest pose) and an orbit of an asset."""

    name: str
    asset: AssetFile
    clip: str | None
    start: float
    end: float
    orbit: str
    seed: int


class AssetRenderer:
    """Renders the samples of assets. Holds the GL contexts and, for Cycles, one Blender process.

    Raises:
        UserError: no EGL, no bpy, or no world by the name that the configuration gives.
    """

    def __init__(self, config: RenderConfig, cpus: tuple[int, ...] = ()) -> None:
        self.config, self.cpus = config, cpus
        self._key_renderer = GLRenderer(KEY_SIZE, supersample=1)
        self._renderer = GLRenderer(config.size) if config.engine == "gl" else None
        self._blender: Blender | None = None
        self._worlds = choose_worlds(self.blender(), config.quality.world) if config.engine == "cycles" else []
        self._scene: Scene | None = None

    def close(self) -> None:
        """End Blender and free the contexts."""
        if self._blender is not None:
            self._blender.close()
        for renderer in (self._renderer, self._key_renderer):
            if renderer is not None:
                renderer.close()

    def blender(self) -> Blender:
        """The Blender process, started when first needed and again after a crash."""
        if self._blender is None:
            threads = max(1, len(self.cpus))
            self._blender = Blender(self.cpus, threads, device=self.config.quality.device)
        return self._blender

    def open(self, asset: AssetFile) -> list[Sample]:
        """Every sample the configuration asks of the asset.

        glTF files are read by our own reader for either engine: it sees what Blender silently repairs (NaN
        positions, absurd key times), and both engines then follow one plan.

        Raises:
            AssetError: the file cannot be used.
        """
        if asset.path.suffix.lower() in GLTF_SUFFIXES:
            self._scene = load_scene(asset.path)
            clips = [(clip.name, clip.start, clip.end) for clip in self._scene.clips]
        else:
            self._scene = None
            self._ask_blender(lambda blender: blender.open(asset.path))
            clips = [(clip["name"], clip["start"], clip["end"]) for clip in self.blender().clips]
        wanted = [names for names in (asset.clips, tuple(self.config.clips) or None) if names is not None]
        chosen = [clip for clip in clips if all(clip[0] in names for names in wanted)]
        if not chosen and self.config.frames == 1 and not clips:
            chosen = [(None, 0.0, 0.0)]
        if not chosen:
            known = ", ".join(name for name, _, _ in clips[:10]) or "none"
            raise AssetError("no_clip", f"{asset.path.name} has no wanted animation clip; it has: {known}")
        chosen = chosen[: self.config.clips_per_asset or None]
        samples, content = [], content_of(asset.path)
        for clip, start, end in chosen:
            if end - start > 3600:
                raise AssetError("key_times", f"{asset.path.name}: clip {clip!r} lasts {end - start:g} s, limit 3600")
            for orbit in orbit_names(self.config):
                name = sample_name(asset.id, content, clip, orbit)
                seed = sample_seed(self.config.seed, asset.id, clip, orbit)
                samples.append(Sample(name, asset, clip, start, end, orbit, seed))
        return samples

    def render(self, sample: Sample, final: Path) -> dict[str, Any]:
        """Plan and render one sample into the folder `final`; a record of what was done.

        Raises:
            AssetError: the clip does not move, or an engine refused it.
        """
        config, started = self.config, time.monotonic()
        pose_at = self._pose_at(sample)
        plan = plan_sample(
            pose_at,
            sample.start,
            sample.end,
            self._key_renderer,
            config.framing,
            config.views,
            config.frames,
            sample.orbit.rstrip("0123456789"),
            sample.seed,
        )
        values = plan.motion, plan.step, float(plan.cameras.distance[0, 0])
        facts = {name: round(value, digits) for (name, digits), value in zip(FACTS.items(), values, strict=True)}
        provenance = {
            "asset": sample.asset.id,
            "clip": sample.clip,
            "orbit": sample.orbit,
            "engine": config.engine,
            "times": [round(float(t), 6) for t in plan.times],
            "centre": list(plan.placement.centre),
            "scale": plan.placement.scale,
            **facts,
        }
        render = self._render_gl if config.engine == "gl" else self._render_cycles
        with atomic_folder(final, *GRID_FILES) as folder, _scratch(final) as scratch:
            render(sample, pose_at, plan, folder, scratch, provenance)
        return {**facts, "images": config.views * config.frames, "seconds": round(time.monotonic() - started, 3)}

    def _pose_at(self, sample: Sample) -> PoseAt:
        scene = self._scene
        if scene is not None:
            return lambda times: pose_scene(scene, sample.clip, times)

        def through_blender(times: np.ndarray) -> Any:
            positions, triangles = self._ask_blender(lambda blender: blender.points(sample.clip, times))
            return posed_from_mesh(positions, triangles, times)

        return through_blender

    def _write(
        self, folder: Path, plan: SamplePlan, row: Callable[[int], np.ndarray], provenance: dict[str, Any]
    ) -> None:
        """The grid folder from rows of uint8 [F, H, W, 4], one view at a time: a whole grid of 21 x 21 at 576 px
        would be gigabytes."""
        config = self.config
        shape = (config.views, config.frames, 4, config.size, config.size)

        def tensor(view: int) -> torch.Tensor:
            return rearrange(torch.from_numpy(row(view)), "f h w c -> f c h w").float() / 255

        known = torch.zeros(shape[:2], dtype=torch.bool)
        fps = 1.0 / plan.step if plan.step > 0 else 1.0
        write_grid(folder, shape, tensor, known, plan.cameras, fps, provenance, lossless=True)

    def _render_gl(
        self,
        sample: Sample,
        pose_at: PoseAt,
        plan: SamplePlan,
        folder: Path,
        scratch: Path,
        provenance: dict[str, Any],
    ) -> None:
        renderer, quality = self._renderer, self.config.quality
        assert renderer is not None
        posed = pose_at(plan.times)
        matrices = plan.cameras.camera_to_world().numpy()
        fov_y, where = plan.cameras.fov_y, plan.placement
        self._write(
            folder,
            plan,
            lambda view: renderer.draw(posed, matrices[view : view + 1], fov_y, placement=where)[0],
            provenance,
        )
        if quality.depth or quality.normals:
            rows = [
                renderer.draw_geometry(posed, matrices[view : view + 1], fov_y, placement=where)
                for view in range(len(matrices))
            ]
            if quality.depth:
                save_geometry(folder, "depth", np.concatenate([depth for depth, _ in rows]))
            if quality.normals:
                save_geometry(folder, "normal", np.concatenate([normal for _, normal in rows]))

    def _render_cycles(
        self,
        sample: Sample,
        pose_at: PoseAt,
        plan: SamplePlan,
        folder: Path,
        scratch: Path,
        provenance: dict[str, Any],
    ) -> None:
        quality = self.config.quality

        posed = pose_at(plan.times)

        def work(blender: Blender) -> dict[str, Any]:
            if self._scene is None:
                blender.open(sample.asset.path)
            else:
                blender.open_posed(posed)
            generator = np.random.default_rng(sample.seed + 1)
            world = self._worlds[int(generator.integers(len(self._worlds)))]
            turn = float(generator.uniform(0, 360))
            blender.render(
                scratch,
                sample.clip,
                plan.times,
                plan.cameras,
                plan.placement,
                self.config.size,
                world,
                world_turn=turn,
                quality=CyclesQuality(quality.samples, quality.denoise, quality.world_strength),
                depth=quality.depth,
                normals=quality.normals,
            )
            return {"world": world.name, "world_turn": round(turn, 3)}

        light = self._ask_blender(work)
        self._check_motion(posed, plan, scratch)
        self._write(folder, plan, lambda view: read_row(scratch, view, self.config.frames), provenance | light)
        for path in scratch.glob("*.npz"):
            shutil.move(path, folder / path.name)

    def _check_motion(self, posed: Posed, plan: SamplePlan, scratch: Path) -> None:
        """Compare what Cycles rendered with the silhouettes of what was to be rendered, in a few views.

        Raises:
            BlenderError: "still" where the file moves and its pictures do not, or do not as they should.
        """
        views = np.linspace(0, self.config.views - 1, min(self.config.views, CHECKED_VIEWS)).round().astype(int)
        matrices = plan.cameras.camera_to_world().numpy()[views]
        drawn = self._key_renderer.draw(posed, matrices, plan.cameras.fov_y, placement=plan.placement)[..., 3]
        traced = np.stack([smaller(read_row(scratch, view, self.config.frames)[..., 3], KEY_SIZE) for view in views])
        if words := disagreement(drawn, traced):
            raise BlenderError(words, "still")

    def _ask_blender(self, work: Any) -> Any:
        try:
            return work(self.blender())
        except BlenderError as error:
            if error.reason == "crashed" and self._blender is not None:
                self._blender.close()
                self._blender = None
            raise


def finished_facts(folder: Path) -> dict[str, Any]:
    """What `AssetRenderer.render` told of a sample, out of its grid: for one whose record a kill prevented.

    Raises:
        UserError: its grid.json cannot be read.
    """
    provenance = read_json(folder / "grid.json", dict).get("provenance")
    return {name: provenance[name] for name in FACTS if name in provenance} if isinstance(provenance, dict) else {}


@contextmanager
def _scratch(final: Path) -> Iterator[Path]:
    """A folder for raw renders beside `final`; by its name `viewtime.files.sweep` removes what a killed run left."""
    with tempfile.TemporaryDirectory(prefix=".scratch-", suffix=f".{os.getpid()}.partial", dir=final.parent) as folder:
        yield Path(folder)


def orbit_names(config: RenderConfig) -> Iterator[str]:
    """Names of the orbits that each clip is rendered from: static0, static1, dynamic0, ..."""
    kinds = ("static", "dynamic") if config.framing.orbit == "both" else (config.framing.orbit,)
    for kind in kinds:
        for number in range(config.framing.orbits):
            yield f"{kind}{number}"
