"""Random changes to an asset before it is rendered: light, colours of parts, proportions, pose, what it carries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from viewtime.render_objaverse.animation import Clip
from viewtime.render_objaverse.gl import Light
from viewtime.render_objaverse.gltf import Scene
from viewtime.render_objaverse.pose import Posed

from .recombine import random_turn, turned

SLOT = "slot"  # in the name of a bone that carries one thing at a time, e.g. "handslot.r"
LONGEST_BONE_CHANGE = 1.7
LARGEST_STRETCH = 1.6
TURNED_SHARE = 0.3  # of the joints, in a changed pose
LARGEST_TURN = 35.0  # degrees


def draw_light(rng: np.random.Generator) -> Light:
    """A key light from anywhere in the upper hemisphere, of random strength, with fill light to match."""
    azimuth, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1.0)
    flat = float(np.sqrt(1 - height**2))
    fill = float(rng.uniform(0.75, 1.15))
    usual = Light()
    return Light(
        direction=(flat * float(np.cos(azimuth)), flat * float(np.sin(azimuth)), float(height)),
        intensity=float(rng.uniform(0.45, 1.0)),
        ambient=tuple(fill * value for value in usual.ambient),
        ground=tuple(fill * value for value in usual.ground),
    )


def draw_part_colours(rng: np.random.Generator, scene: Scene) -> dict[int, tuple[float, float, float]]:
    """Factors on the linear RGB of each part, the same for parts of one material."""
    factors = rng.uniform(0.35, 1.6, size=(len(scene.materials), 3))
    return {index: tuple(factors[part.material].tolist()) for index, part in enumerate(scene.parts)}


def draw_proportions(rng: np.random.Generator, scene: Scene) -> dict[int, float]:
    """Random scales of the joints; joints whose names differ in left/right alone get the same."""
    joints = sorted({int(joint) for skin in scene.skins for joint in skin.joints})
    scales: dict[str, float] = {}
    chosen = {}
    for joint in joints:
        factor = float(np.exp(rng.uniform(-1, 1) * np.log(LONGEST_BONE_CHANGE)))
        depth_share = 0.5  # children inherit: full changes would add up along a limb
        chosen[joint] = scales.setdefault(_sideless(scene.names[joint]), factor**depth_share)
    return chosen


def draw_pose(rng: np.random.Generator, scene: Scene, clip: Clip) -> Clip:
    """The clip with some joints turned, for its whole length, each by its own random rotation."""
    joints = sorted({int(joint) for skin in scene.skins for joint in skin.joints})
    chosen = [joint for joint in joints if rng.random() < TURNED_SHARE]
    return turned(scene, clip, {joint: random_turn(rng, LARGEST_TURN)[None] for joint in chosen})


def draw_stretch(rng: np.random.Generator) -> np.ndarray:
    """Factors [3] on width, depth and height of the whole object."""
    return np.exp(rng.uniform(-1, 1, size=3) * np.log(LARGEST_STRETCH) / 2).astype(np.float32)


def stretched(posed: Posed, factors: np.ndarray) -> Posed:
    """The posed scene, scaled along the world's axes by `factors` [3]."""
    normals = posed.normals / factors
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-20)
    return replace(posed, positions=posed.positions * factors, normals=normals)


def _sideless(name: str) -> str:
    """A bone's name without its side: "upperarm.l" and "UpperArm_R" -> "upperarm"."""
    name = name.lower().replace("left", "").replace("right", "")
    for ending in (".l", ".r", "_l", "_r", "-l", "-r"):
        name = name.removesuffix(ending)
    return name


def draw_parts(rng: np.random.Generator, scene: Scene) -> list[int]:
    """Parts to draw: of the things that hang on one slot bone (swords, shields), at most one."""
    by_slot: dict[int, set[int]] = {}
    for part in scene.parts:
        parent = int(scene.parents[part.node])
        if part.skin is None and parent >= 0 and SLOT in scene.names[parent].lower():
            by_slot.setdefault(parent, set()).add(part.node)
    hidden: set[int] = set()
    for slot in sorted(by_slot):
        nodes = sorted(by_slot[slot])
        if len(nodes) > 1:
            hidden |= set(nodes) - {nodes[int(rng.integers(len(nodes)))]}
    return [index for index, part in enumerate(scene.parts) if part.node not in hidden]
