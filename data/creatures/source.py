"""Endless training grids of random creatures, another one for every position."""

from __future__ import annotations

import numpy as np

from viewtime.configs.schema.data import OnTheFly
from viewtime.data.creatures.scene import NAME, creature_scene
from viewtime.data.live.scene_renderer import SceneRenderer
from viewtime.data.samples import GridSample
from viewtime.data.sources import Consumer


class CreatureSource:
    """Renders V × F grids of creatures; the arguments are those of `SceneRenderer`."""

    name = "creatures"
    needs_fresh_process = True  # a forked copy of a process with an OpenGL driver in it hangs

    def __init__(
        self, views: int, frames: int, resolution: int | tuple[int, int], max_stride: int, options: OnTheFly
    ) -> None:
        self.renderer = SceneRenderer(views, frames, resolution, max_stride, options)

    def draw(self, consumer: Consumer, position: int, rng: np.random.Generator) -> GridSample:
        """See `data.sources.Source`."""
        scene = creature_scene(rng)
        return self.renderer.draw(self.name, NAME, scene, scene.clips[0], rng)
