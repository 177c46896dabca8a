"""What the GL engine keeps on the device between draws: framebuffers by atlas size, and the textures of scenes."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .gl_layers import SRGB8_ALPHA8, Layers
from .gltf import Scene
from .textures import REPEAT, Texture

KEPT_ATLASES = 4


@dataclass
class Target:
    """Framebuffers of one atlas size: of the samples, and for colour of the pixels they are averaged into.

    Attributes:
        colour, depth: texture and depth buffer of the samples.
        layers: for pictures with translucent surfaces, made when the first one comes.
    """

    samples: Any
    pixels: Any | None
    colour: Any
    depth: Any
    owned: list[Any]
    layers: Layers | None = None

    def layered(self, context: Any) -> Layers:
        """The framebuffers for translucent surfaces."""
        if self.layers is None:
            self.layers = Layers(context, self.colour.size, self.colour, self.depth)
        return self.layers

    def release(self) -> None:
        """Free everything."""
        if self.layers is not None:
            self.layers.release()
        for item in (self.samples, self.pixels, self.colour, *self.owned):
            if item is not None:
                item.release()


class Atlases:
    """Framebuffers for views x frames tiles of height x width pixels; the few that were made last are kept."""

    def __init__(self, context: Any, height: int, width: int, supersample: int) -> None:
        self.context, self.height, self.width, self.supersample = context, height, width, supersample
        self._made: dict[tuple[str, int, int], Target] = {}

    def get(self, kind: Literal["colour", "geometry"], views: int, frames: int) -> Target:
        """The target of this size, made where there is none yet."""
        key = (kind, views, frames)
        if key not in self._made:
            if len(self._made) >= KEPT_ATLASES:
                self._made.pop(next(iter(self._made))).release()
            size = (views * self.width, frames * self.height)
            self._made[key] = self._colour(*size) if kind == "colour" else self._geometry(*size)
        return self._made[key]

    def _colour(self, width: int, height: int) -> Target:
        fine = (width * self.supersample, height * self.supersample)
        colour = self.context.texture(fine, 4, internal_format=SRGB8_ALPHA8)
        depth = self.context.depth_renderbuffer(fine)
        plain = self.context.texture((width, height), 4, internal_format=SRGB8_ALPHA8)
        samples, pixels = self.context.framebuffer([colour], depth), self.context.framebuffer([plain])
        return Target(samples, pixels, colour, depth, [depth, plain])

    def _geometry(self, width: int, height: int) -> Target:
        colour = self.context.texture((width, height), 4, dtype="f4")
        depth = self.context.depth_renderbuffer((width, height))
        return Target(self.context.framebuffer([colour], depth), None, colour, depth, [depth])

    def release(self) -> None:
        """Free them all."""
        for target in self._made.values():
            target.release()
        self._made.clear()


class SceneTextures:
    """The textures of the scenes drawn so far, as long as the scenes live."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self._of: weakref.WeakKeyDictionary[Scene, list[Any]] = weakref.WeakKeyDictionary()
        self._unused: list[Any] = []

    def of(self, scene: Scene) -> list[Any]:
        """Textures by the index that materials use, uploaded on the first call."""
        while self._unused:
            self._unused.pop().release()
        if scene not in self._of:
            made = [self._upload(texture) for texture in scene.textures]
            self._of[scene] = made
            # A scene may die while another context is current; its textures wait for the next draw of this one.
            weakref.finalize(scene, self._unused.extend, made)
        return self._of[scene]

    def _upload(self, texture: Texture) -> Any:
        height, width = texture.pixels.shape[:2]
        pixels = np.ascontiguousarray(texture.pixels)
        item = self.context.texture((width, height), 4, pixels, internal_format=SRGB8_ALPHA8)
        item.build_mipmaps()
        item.filter = self.context.LINEAR_MIPMAP_LINEAR, self.context.LINEAR if texture.smooth else self.context.NEAREST
        # A mirrored coordinate is folded into [0, 1] by the shader.
        item.repeat_x, item.repeat_y = (mode == REPEAT for mode in texture.wrap)
        return item
