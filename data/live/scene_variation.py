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
BENDS = 4  # waves of a bend
BEND_LENGTHS = (0.9, 2.5)  # shortest and longest wavelength, in the object's longest side
STEEPEST = 0.45  # of a bend's displacement per length, all waves together: it folds nothing


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


def warped(posed: Posed, rng: np.random.Generator) -> Posed:
    """The posed scene, bent by the same smooth field at all times; half of the fields are mirror images of themselves.

    A point x goes to x + sum_k a_k sin(w_k · x + p_k). Normals follow by the inverse transpose of its derivative.
    """
    first = posed.positions[0]
    middle, size = (first.max(axis=0) + first.min(axis=0)) / 2, float(np.ptp(first, axis=0).max())
    wave = rng.standard_normal((BENDS, 3))
    wave *= 2 * np.pi / np.linalg.norm(wave, axis=1, keepdims=True)
    wave /= size * rng.uniform(*BEND_LENGTHS, size=(BENDS, 1))
    amplitude = rng.standard_normal((BENDS, 3))
    amplitude *= STEEPEST / (np.linalg.norm(amplitude, axis=1) * np.linalg.norm(wave, axis=1)).sum()
    phase = rng.uniform(0, 2 * np.pi, BENDS)
    if rng.random() < 0.5:  # about x = 0, an animal's left and right
        across = np.array([-1.0, 1.0, 1.0])
        wave, phase = np.concatenate([wave, wave * across]), np.concatenate([phase, phase])
        amplitude = np.concatenate([amplitude, amplitude * across]) / 2
    angle = (posed.positions - middle) @ wave.T.astype(np.float32) + phase.astype(np.float32)
    positions = posed.positions + np.sin(angle) @ amplitude.astype(np.float32)
    slopes = np.einsum("fnk,ki,kj->fnij", np.cos(angle), amplitude, wave) + np.eye(3)
    normals = np.linalg.solve(np.swapaxes(slopes, -1, -2), posed.normals[..., None])[..., 0]
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-20)
    return replace(posed, positions=positions.astype(np.float32), normals=normals.astype(np.float32))


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
