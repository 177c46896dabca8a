"""The paper's motion measure: the largest L1 distance between subsampled key renders of a clip (SV4D 3.1)."""

from __future__ import annotations

import numpy as np

from viewtime.cameras import regular_orbit
from viewtime.render_objaverse.animation import Clip
from viewtime.render_objaverse.framing import FOV_Y, camera_distance, normalise
from viewtime.render_objaverse.gl import GLRenderer
from viewtime.render_objaverse.gltf import Scene
from viewtime.render_objaverse.orbits import with_distance
from viewtime.render_objaverse.pose import pose_scene

KEY_RENDERS = 8
VIEWS = 2  # from the front and from the side: no motion hides from both
SIZE = 64  # pixels


def pixel_motion(renderer: GLRenderer, scene: Scene, clip: Clip) -> float:
    """Largest distance between two key renders of one view.

    The distance is the mean absolute difference of RGB on white in [0, 1], over the pixels that the object covers in
    any key render: 0 for a still object, whatever its size in the picture.

    Raises:
        AssetError: the clip cannot be posed, or its object has no extent.
    """
    posed = pose_scene(scene, clip, clip.frame_times(KEY_RENDERS))
    placement = normalise(posed.positions)
    cameras = regular_orbit(VIEWS, KEY_RENDERS, azimuth_range=VIEWS * 90.0, fov_y=FOV_Y)
    rotations = cameras.camera_to_world()[..., :3, :3].numpy()
    distance = camera_distance(placement.apply(posed.positions), rotations, fit="projected")
    matrices = with_distance(cameras, distance).camera_to_world().numpy()
    images = renderer.draw(posed, matrices, FOV_Y, placement=placement).astype(np.float32) / 255
    alpha = images[..., 3:]
    on_white = images[..., :3] * alpha + 1 - alpha
    largest = 0.0
    for view, covered in zip(on_white, alpha[..., 0].max(axis=1) > 0):
        pixels = view[:, covered]
        for first in range(KEY_RENDERS - 1):
            distances = np.abs(pixels[first + 1 :] - pixels[first]).mean(axis=(1, 2)) if covered.any() else [0.0]
            largest = max(largest, float(np.max(distances)))
    return largest
