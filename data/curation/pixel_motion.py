"""The paper's motion measure: the largest L1 distance between subsampled key renders of a clip (SV4D 3.1)."""

from __future__ import annotations

import numpy as np

from viewtime.cameras import regular_orbit
from viewtime.render_objaverse.animation import Clip
from viewtime.render_objaverse.framing import FOV_Y, camera_distance, normalise
from viewtime.render_objaverse.gl import GLRenderer
from viewtime.render_objaverse.gltf import Scene
from viewtime.render_objaverse.motion import BACKGROUNDS, over
from viewtime.render_objaverse.orbits import with_distance
from viewtime.render_objaverse.pose import pose_scene

KEY_RENDERS = 8
VIEWS = 2  # from the front and from the side: no motion hides from both
SIZE = 64  # pixels


def pixel_motion(renderer: GLRenderer, scene: Scene, clip: Clip) -> float:
    """Largest distance between two key renders of one view.

    The distance is the mean absolute difference of RGB in [0, 1] on white or on black, whichever shows more, over the
    pixels that the object covers in any key render: 0 for a still object, whatever its size in the picture.

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
    largest = 0.0
    for grey in BACKGROUNDS:
        for view, covered in zip(over(images, grey), alpha[..., 0].max(axis=1) > 0):
            largest = max(largest, largest_distance(view[:, covered]))
    return largest


def largest_distance(pixels: np.ndarray) -> float:
    """Largest mean absolute difference between two of F pictures of the same pixels [F, P, 3]; 0 for no pixels."""
    if not pixels.size:
        return 0.0
    return max(float(np.abs(pixels[first:] - pixels[first]).mean(axis=(1, 2)).max()) for first in range(len(pixels)))
