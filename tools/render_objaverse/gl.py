"""The GL engine: textured, lit, anti-aliased RGBA images of a posed asset, thousands a second on a GPU and hundreds
on a CPU. Needs EGL (Mesa's software driver will do), no display.

All views of a frame are instances of one draw call and all images of a call share one atlas, so that the cost per
image is its pixels and vertices and not the driver's. Edges and textures are smoothed by samples on a grid of half
pixels, averaged in linear light: on Mesa's software driver that is over twice as fast as 4x multisampling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from viewtime.errors import UserError, require

from .animation import Clip
from .gl_device import Atlases, SceneTextures
from .gl_layers import BEFORE, SOLID, copy_program
from .gl_mesh import SOLID_ALPHA, FlatMesh, Look, flatten, interleave, repeat_over_frames
from .gltf import Scene
from .pose import Placement, Posed, pose_scene
from .shaders import (
    AVERAGE_VERTEX,
    COLOUR_FRAGMENT,
    COLOUR_VERTEX,
    GEOMETRY_FRAGMENT,
    GEOMETRY_VERTEX,
    MAX_VIEWS,
    average_fragment,
)
from .textures import MIRROR

FRAMEBUFFER_SRGB = 0x8DB9
CLIP_DISTANCE0 = 0x3000
ATLAS_SIDE = 4096  # samples; every driver allows it and larger atlases gain nothing
CHUNK_INDICES = 6_000_000


@dataclass(frozen=True)
class Light:
    """Hemispheric ambient light and one key light, linear RGB.

    Attributes:
        direction: towards the key light, world axes (Z up).
        intensity: of the key light; colour: its linear RGB.
        ambient, ground: light from straight above and straight below.
        wrap: 0 is Lambert; larger values let the key light reach around the object.
    """

    direction: tuple[float, float, float] = (0.45, -0.65, 0.75)
    intensity: float = 0.75
    colour: tuple[float, float, float] = (1.0, 0.97, 0.92)
    ambient: tuple[float, float, float] = (0.62, 0.64, 0.68)
    ground: tuple[float, float, float] = (0.24, 0.22, 0.20)
    wrap: float = 0.15


class GLRenderer:
    """Images of one size. One per process and thread; `close()` or `with` frees the context.

    Args:
        size: pixels; side of a square, or (height, width).

    Raises:
        UserError: no EGL context can be made.
    """

    def __init__(self, size: int | tuple[int, int], *, supersample: int = 2) -> None:
        self.height, self.width = (size, size) if isinstance(size, int) else size
        for side in (self.height, self.width):
            if not 4 <= side <= 4096:
                raise UserError(f"image size {side} px: between 4 and 4096")
        if not 1 <= supersample <= 8:
            raise UserError(f"supersample {supersample}: 1 to 8 samples along each side of a pixel")
        moderngl = require("moderngl", "render")
        try:
            self.context = moderngl.create_context(standalone=True, backend="egl", require=330)
        except Exception as error:
            raise UserError(
                f"no OpenGL context through EGL ({str(error)[:100]}); install libegl1 and libgl1-mesa-dri"
            ) from error
        self.supersample = supersample
        self._colour = self.context.program(vertex_shader=COLOUR_VERTEX, fragment_shader=COLOUR_FRAGMENT)
        self._geometry = self.context.program(vertex_shader=GEOMETRY_VERTEX, fragment_shader=GEOMETRY_FRAGMENT)
        average = average_fragment(supersample, self.height, self.width)
        self._average = self.context.program(vertex_shader=AVERAGE_VERTEX, fragment_shader=average)
        self._full_screen = self.context.vertex_array(self._average, [])
        self._copy = copy_program(self.context)
        for name, unit in (("emissive_texture", 1), ("before", BEFORE), ("solid", SOLID)):
            self._colour[name].value = unit
        self._atlases = Atlases(self.context, self.height, self.width, supersample)
        self._textures = SceneTextures(self.context)
        self.context.enable(self.context.DEPTH_TEST)
        self.context.enable_direct(FRAMEBUFFER_SRGB)
        self.context.front_face = "cw"  # clip y points down the image

    @property
    def device(self) -> str:
        """The driver's name, e.g. llvmpipe on a CPU."""
        return str(self.context.info["GL_RENDERER"])

    def __enter__(self) -> GLRenderer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free everything on the device."""
        with self.context:
            self._atlases.release()
        self.context.release()

    def render(
        self,
        scene: Scene,
        clip: int | str | Clip | None,
        times: Sequence[float] | np.ndarray,
        cameras_c2w: np.ndarray,
        fov_y: float,
        *,
        placement: Placement | None = None,
        parts: Sequence[int] | None = None,
        node_scale: Mapping[int, float | Sequence[float]] | None = None,
        part_colours: Mapping[int, Sequence[float]] | None = None,
        colour_matrix: np.ndarray | None = None,
        light: Light | None = None,
    ) -> np.ndarray:
        """Pose and draw: uint8 [V, F, H, W, 4], sRGB with straight alpha.

        Args:
            times: [F] seconds in the clip.
            cameras_c2w: [V, F, 4, 4] camera-to-world, OpenCV axes.
            fov_y: vertical field of view in degrees.
            placement: from `framing.normalise`; the file's own size and place by default.
            parts, node_scale: see `pose.pose_scene`.
            part_colours: part index -> factors on its linear RGB.
            colour_matrix: [3, 3] on the linear RGB of the whole object (hue changes).
        """
        posed = pose_scene(scene, clip, times, parts=parts, node_scale=node_scale)
        return self.draw(
            posed,
            cameras_c2w,
            fov_y,
            placement=placement,
            part_colours=part_colours,
            colour_matrix=colour_matrix,
            light=light,
        )

    def draw(
        self,
        posed: Posed,
        cameras_c2w: np.ndarray,
        fov_y: float,
        *,
        placement: Placement | None = None,
        part_colours: Mapping[int, Sequence[float]] | None = None,
        colour_matrix: np.ndarray | None = None,
        light: Light | None = None,
    ) -> np.ndarray:
        """Colour images of vertices that are posed already: uint8 [V, F, H, W, 4], as `render`."""
        with self.context:
            return self._draw_colour(
                posed, cameras_c2w, fov_y, placement or Placement(), part_colours, colour_matrix, light or Light()
            )

    def _draw_colour(
        self,
        posed: Posed,
        cameras_c2w: np.ndarray,
        fov_y: float,
        placement: Placement,
        part_colours: Mapping[int, Sequence[float]] | None,
        colour_matrix: np.ndarray | None,
        light: Light,
    ) -> np.ndarray:
        direction = np.asarray(light.direction, np.float64)
        program = self._colour
        program["key_direction"].value = tuple(direction / np.linalg.norm(direction))
        program["key_colour"].value = tuple(light.intensity * np.asarray(light.colour))
        program["sky"].value = light.ambient
        program["ground"].value = light.ground
        program["wrap"].value = light.wrap
        matrix = np.eye(3) if colour_matrix is None else np.asarray(colour_matrix)
        program["colour_matrix"].write(matrix.T.astype("f4").tobytes())
        mesh = flatten(posed, part_colours)
        views, frames = cameras_c2w.shape[:2]
        out = np.empty((views, frames, self.height, self.width, 4), np.uint8)
        self._draw(program, posed, mesh, cameras_c2w, fov_y, placement, out)
        return out

    def draw_geometry(
        self, posed: Posed, cameras_c2w: np.ndarray, fov_y: float, *, placement: Placement | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Planar depth [V, F, H, W] (world units along the view axis, 0 where nothing is) and world-space unit
        normals towards the camera [V, F, H, W, 3] (0 where nothing is), float32, one sample per pixel centre."""
        mesh = flatten(posed, None)
        views, frames = cameras_c2w.shape[:2]
        out = np.empty((views, frames, self.height, self.width, 4), np.float32)
        with self.context:
            self._draw(self._geometry, posed, mesh, cameras_c2w, fov_y, placement or Placement(), out)
        return out[..., 3].copy(), out[..., :3].copy()

    def _draw(
        self,
        program: Any,
        posed: Posed,
        mesh: FlatMesh,
        cameras_c2w: np.ndarray,
        fov_y: float,
        placement: Placement,
        out: np.ndarray,
    ) -> None:
        cameras_c2w = np.asarray(cameras_c2w, np.float64)
        views, frames = cameras_c2w.shape[:2]
        if cameras_c2w.shape != (views, frames, 4, 4) or frames != len(posed.times):
            raise UserError(f"cameras {cameras_c2w.shape} for {len(posed.times)} times: need [V, F, 4, 4]")
        clip, eyes = clip_matrices(cameras_c2w, fov_y, placement, self.width / self.height)
        if program is self._colour and self.supersample % 2 == 0:
            # Half a sample to the right and down: one sample falls on each pixel's centre, the others around it on
            # its borders. With all of them inside, a straight edge leaves half of them covered wherever it runs
            # through the pixel's middle half, and no threshold tells on which side of the centre it is.
            shift = 1 / (self.supersample * np.array([self.width, self.height]))
            clip[..., :2, :] += shift[:, None] * clip[..., 3:, :]
        longest = max(self.height, self.width)
        per_side = max(1, ATLAS_SIDE // (longest * (self.supersample if program is self._colour else 1)))
        view_step = min(views, MAX_VIEWS, per_side)
        frame_step = min(frames, per_side, max(1, CHUNK_INDICES // len(mesh.indices)))
        count = posed.positions.shape[1]
        attributes, indices = repeat_over_frames(mesh, frame_step, count)
        context = self.context
        static, index = context.buffer(attributes), context.buffer(indices)
        moving = context.buffer(reserve=frame_step * count * 24)
        layout: list[tuple[Any, ...]] = [(moving, "3f 3f", "in_position", "in_normal")]
        if program is self._colour:
            layout.append((static, "4f 4f 4f", "in_uv", "in_colour", "in_emission"))
        else:
            layout.append((static, "4f 4f 16x", "in_uv", "in_colour"))
        array = context.vertex_array(program, layout, index_buffer=index)
        try:
            for frame in range(0, frames, frame_step):
                span = slice(frame, min(frame + frame_step, frames))
                moving.write(interleave(posed, span))
                for view in range(0, views, view_step):
                    chosen = slice(view, min(view + view_step, views))
                    tiles = out[chosen, span]
                    self._draw_atlas(program, array, posed.scene, mesh, clip[chosen, span], eyes[chosen, span], tiles)
        finally:
            for item in (array, static, index, moving):
                item.release()

    def _draw_atlas(
        self,
        program: Any,
        array: Any,
        scene: Scene,
        mesh: FlatMesh,
        clip: np.ndarray,
        eyes: np.ndarray,
        out: np.ndarray,
    ) -> None:
        views, frames = clip.shape[:2]
        colour = program is self._colour
        target = self._atlases.get("colour" if colour else "geometry", views, frames)
        textures = self._textures.of(scene)
        padding = np.zeros((MAX_VIEWS - views, 4, 4), np.float32)

        def draw(translucent: bool | None) -> None:
            """Draw the solid surfaces, the translucent ones, or (None) all."""
            for plane in range(4):
                self.context.enable_direct(CLIP_DISTANCE0 + plane)
            for frame in range(frames):
                transposed = clip[:, frame].transpose(0, 2, 1).astype(np.float32)
                program["clip_from_world"].write(np.concatenate([transposed, padding]).tobytes())
                program["eyes"].write(np.concatenate([eyes[:, frame].astype(np.float32), padding[:, 0, :3]]).tobytes())
                program["tile"].value = (1 / views, 1 / frames, (2 * frame + 1) / frames - 1, 2 / views)
                for group in mesh.groups:
                    # What is blended may still be solid in places: it belongs to both pictures.
                    if not translucent or group.look.translucent:
                        self._bind(program, group.look, scene, textures, translucent)
                        first = frame * len(mesh.indices) + group.first
                        array.render(self.context.TRIANGLES, vertices=group.count, first=first, instances=views)
            for plane in range(4):
                self.context.disable_direct(CLIP_DISTANCE0 + plane)
            self.context.disable(self.context.CULL_FACE)

        picture = target.colour
        if colour and mesh.translucent:
            layers = target.layered(self.context)
            layers.clear()
            layers.solid.use()
            draw(False)
            picture = layers.compose(self._copy, lambda: draw(True))
        else:
            target.samples.use()
            target.samples.clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
            draw(None)
        dtype, source = "f4", target.samples
        if target.pixels is not None:
            target.pixels.use()
            picture.use(0)
            self._full_screen.render(self.context.TRIANGLES, vertices=3)
            dtype, source = "f1", target.pixels
        atlas = np.frombuffer(source.read(components=4, dtype=dtype), out.dtype)
        out[:] = atlas.reshape(frames, self.height, views, self.width, 4).transpose(2, 0, 1, 3, 4)

    def _bind(self, program: Any, look: Look, scene: Scene, textures: list[Any], translucent: bool | None) -> None:
        uses = (look.texture, look.emissive)
        program["textured"].value = tuple(float(index is not None) for index in uses)
        folds = [(0, 0) if index is None else scene.textures[index].wrap for index in uses]
        program["mirrored"].value = tuple(float(mode == MIRROR) for wrap in folds for mode in wrap)
        for unit, index in enumerate(uses):
            if index is not None:
                textures[index].use(unit)
        cutoff, ceiling = look.cutoff if look.alpha_mode == "MASK" else -1.0, 2.0
        if look.translucent and program is not self._colour:
            cutoff = 0.5  # as Cycles' passes: depth and normal belong to a surface that is seen rather than not
        elif look.translucent:
            cutoff, ceiling = (0.004, SOLID_ALPHA) if translucent else (SOLID_ALPHA, 2.0)
        program["cutoff"].value = cutoff
        if program is self._colour:
            program["ceiling"].value = ceiling
            program["blended"].value = program["peeled"].value = bool(translucent)
        if look.culled:
            self.context.enable(self.context.CULL_FACE)
        else:
            self.context.disable(self.context.CULL_FACE)


def clip_matrices(
    cameras_c2w: np.ndarray, fov_y: float, placement: Placement, aspect: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """File coordinates to clip space [V, F, 4, 4] (y down the image) and eyes in file coordinates [V, F, 3].

    The placement is folded in, so that posed vertices go to the device as they are. clip.w is the planar depth in
    world units. The near and far planes follow each camera's distance from the origin; `aspect` is width / height.
    """
    rotation, eye = cameras_c2w[..., :3, :3], cameras_c2w[..., :3, 3]
    view = np.zeros(cameras_c2w.shape)
    view[..., :3, :3] = np.swapaxes(rotation, -1, -2)
    view[..., :3, 3] = -np.einsum("vfji,vfj->vfi", rotation, eye)
    view[..., 3, 3] = 1
    distance = np.linalg.norm(eye, axis=-1)
    near, far = np.maximum(distance - 2.0, 0.05), distance + 10.0
    focal = 1 / np.tan(np.radians(fov_y) / 2)
    projection = np.zeros(cameras_c2w.shape)
    projection[..., 0, 0], projection[..., 1, 1] = focal / aspect, focal
    projection[..., 2, 2] = (far + near) / (far - near)
    projection[..., 2, 3] = -2 * far * near / (far - near)
    projection[..., 3, 2] = 1
    centre, scale = np.asarray(placement.centre, np.float64), float(placement.scale)
    model = np.eye(4)
    model[:3, :3] *= scale
    model[:3, 3] = -centre * scale
    return projection @ view @ model, eye / scale + centre
