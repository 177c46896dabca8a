"""Translucent surfaces in their right order, whatever order they come in: depth peeling (Everitt 2001).

Each pass keeps, at every sample, the nearest translucent surface behind the one of the pass before and in front of
everything solid. The passes are put together from front to back, the solid picture last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .shaders import AVERAGE_VERTEX, COPY_FRAGMENT

SRGB8_ALPHA8 = 0x8C43
MOST_LAYERS = 16
BEFORE, SOLID = 2, 3  # texture units


class Layers:
    """Framebuffers for one atlas size, beside the one that the solid surfaces are drawn into."""

    def __init__(self, context: Any, size: tuple[int, int], colour: Any, depth: Any) -> None:
        self.context = context
        self._owned: list[Any] = []
        self.sum_colour = self._own(context.texture(size, 4, internal_format=SRGB8_ALPHA8))
        layer_colour = self._own(context.texture(size, 4, internal_format=SRGB8_ALPHA8))
        layer_depth = self._own(context.depth_renderbuffer(size))
        self._solid_place = self._own(context.texture(size, 1, dtype="f4"))
        self._places = [self._own(context.texture(size, 1, dtype="f4")) for _ in range(2)]
        self.solid = self._own(context.framebuffer([colour, self._solid_place], depth))
        self._layers = [self._own(context.framebuffer([layer_colour, place], layer_depth)) for place in self._places]
        self._fields = [self._own(context.framebuffer([place])) for place in (self._solid_place, *self._places)]
        self._sum = self._own(context.framebuffer([self.sum_colour]))
        self._layer_colour, self._colour = layer_colour, colour

    def _own(self, item: Any) -> Any:
        self._owned.append(item)
        return item

    def clear(self) -> None:
        """Start a picture: no solid surface yet, so every place is in front of it."""
        self.solid.clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
        self._fields[0].clear(1.0, 0.0, 0.0, 0.0)
        self._sum.clear(0.0, 0.0, 0.0, 0.0)
        self._fields[2].clear(-1.0, 0.0, 0.0, 0.0)

    def compose(self, copy: Any, draw: Callable[[], None]) -> Any:
        """Peel and put together; the texture that holds the result.

        Args:
            copy: vertex array of the program that copies a texture.
            draw: draws every translucent surface with the peeling program.
        """
        context = self.context
        for number in range(MOST_LAYERS):
            now, before = number % 2, (number + 1) % 2
            self._layers[now].clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
            self._fields[1 + now].clear(2.0, 0.0, 0.0, 0.0)
            self._layers[now].use()
            self._places[before].use(BEFORE)
            self._solid_place.use(SOLID)
            found = context.query(samples=True)
            with found:
                draw()
            if not found.samples:
                break
            self._add(copy, self._layer_colour)
        self._add(copy, self._colour)
        return self.sum_colour

    def _add(self, copy: Any, picture: Any) -> None:
        """Put a picture (premultiplied) behind what is there."""
        context = self.context
        self._sum.use()
        picture.use(0)
        context.disable(context.DEPTH_TEST)
        context.disable(context.CULL_FACE)
        context.enable(context.BLEND)
        context.blend_func = context.ONE_MINUS_DST_ALPHA, context.ONE
        copy.render(context.TRIANGLES, vertices=3)
        context.disable(context.BLEND)
        context.enable(context.DEPTH_TEST)

    def release(self) -> None:
        """Free everything."""
        for item in reversed(self._owned):
            item.release()


def copy_program(context: Any) -> Any:
    """The vertex array that copies texture unit 0, sample by sample."""
    return context.vertex_array(context.program(vertex_shader=AVERAGE_VERTEX, fragment_shader=COPY_FRAGMENT), [])
