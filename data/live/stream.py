"""Endless training grids rendered while training: a random asset, clip, moment and orbit for every position.

Needs no shards. Each loader worker makes its own EGL context on its first draw. What is rendered depends on
(seed, consumer, position) alone, so the stream resumes exactly and repeats bit for bit on one machine.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from viewtime.configs.schema.data import OnTheFly
from viewtime.data.samples import CorruptSampleError, GridSample
from viewtime.data.sources import Consumer
from viewtime.render_objaverse.animation import Clip
from viewtime.render_objaverse.gltf import Scene, load_scene
from viewtime.render_objaverse.gltf_file import AssetError

from .asset_list import Asset
from .scene_renderer import SceneRenderer


@dataclass(frozen=True)
class _Loaded:
    scene: Scene
    clips: list[Clip]


class AssetSource:
    """Renders V × F grids from assets.

    Args:
        assets: what to render (`data.asset_list`).
        views, frames, resolution, max_stride, options: see `SceneRenderer`.
    """

    name = "assets"
    needs_fresh_process = True  # a forked copy of a process with an OpenGL driver in it hangs

    def __init__(
        self,
        assets: list[Asset],
        views: int,
        frames: int,
        resolution: int | tuple[int, int],
        max_stride: int = 1,
        options: OnTheFly | None = None,
    ) -> None:
        self.assets = assets
        self.options = options or OnTheFly()
        self.renderer = SceneRenderer(views, frames, resolution, max_stride, self.options)
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": OrderedDict()}

    def draw(self, consumer: Consumer, position: int, rng: np.random.Generator) -> GridSample:
        """See `data.sources.Source`."""
        asset = self.assets[int(rng.integers(len(self.assets)))]
        try:
            loaded = self._load(asset)
            clip = loaded.clips[int(rng.integers(len(loaded.clips)))]
            return self.renderer.draw(self.name, asset.id, loaded.scene, clip, rng, caption=asset.caption)
        except AssetError as error:
            raise CorruptSampleError(f"{asset.id}: {error}") from error

    def _load(self, asset: Asset) -> _Loaded:
        if asset.id in self._loaded:
            self._loaded.move_to_end(asset.id)
            return self._loaded[asset.id]
        scene = load_scene(asset.path)
        moving = [clip for clip in scene.clips if clip.duration * self.options.fps >= 1]
        clips = [clip for clip in moving if asset.clips is None or clip.name in asset.clips]
        if not clips:
            raise CorruptSampleError(f"{asset.id}: it has no clip of at least two frames")
        self._loaded[asset.id] = _Loaded(scene, clips)
        while len(self._loaded) > max(1, self.options.cached_assets):
            self._loaded.popitem(last=False)
        return self._loaded[asset.id]
