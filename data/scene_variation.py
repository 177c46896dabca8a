"""Random changes to an asset before it is rendered: light, colours of parts, proportions, what it carries."""

from __future__ import annotations

import numpy as np

from viewtime.render_objaverse.gl import Light
from viewtime.render_objaverse.gltf import Scene

SLOT = "slot"  # in the name of a bone that carries one thing at a time, e.g. "handslot.r"
LONGEST_BONE_CHANGE = 1.25


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
