"""A creature as a scene with one clip, as if it had been read from a file."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np

from viewtime.data.creatures.anatomy import DARK, LIGHT, draw_creature
from viewtime.data.creatures.body import Bone, Creature
from viewtime.data.creatures.shapes import surface, triangles
from viewtime.render_objaverse.animation import Clip, Track
from viewtime.render_objaverse.gltf import Scene
from viewtime.render_objaverse.materials import Material
from viewtime.render_objaverse.primitives import Part, Skin

KEYS_PER_CYCLE = 8
NAME = "creature"
LOOKS_DOWN = -0.3  # y of the normals of an underside


def creature_scene(rng: np.random.Generator) -> Scene:
    """A random creature that moves for one to two seconds."""
    creature = draw_creature(rng)
    bones, count = creature.bones, len(creature.bones)
    parents = np.array([bone.parent for bone in bones])
    heads = np.stack([bone.head for bone in bones])
    above = np.where(parents[:, None] >= 0, heads[parents], 0.0)
    inverse = np.tile(np.eye(4, dtype=np.float32), (count, 1, 1))
    inverse[:, :3, 3] = -heads
    rest = np.tile(np.array([0, 0, 0, 1], np.float32), (count, 1))
    return Scene(
        path=Path(NAME),
        names=[f"bone_{index}" for index in range(count)],
        parents=parents,
        order=np.arange(count),
        translations=(heads - above).astype(np.float32),
        rotations=rest,
        scales=np.ones((count, 3), np.float32),
        matrices={},
        morph_weights={},
        parts=[_part(creature, draw_palette(rng))],
        skins=[Skin(np.arange(count), inverse)],
        materials=[Material()],
        textures=[],
        clips=[_clip(bones, float(rng.uniform(1.0, 2.0)))],
    )


def draw_palette(rng: np.random.Generator) -> np.ndarray:
    """Linear RGB [5, 3]: three colours of the body, a dark and a light one."""
    colours = [colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.9), rng.uniform(0.15, 1.0)) for _ in range(5)]
    palette = np.array(colours) ** 2.2
    palette[DARK] *= 0.1
    palette[LIGHT] = 0.7 + 0.3 * palette[LIGHT]
    return palette


def _part(creature: Creature, palette: np.ndarray) -> Part:
    """All solids as one skinned part, each vertex on one bone."""
    positions, normals, colours, joints = [], [], [], []
    for bone, shape in creature.solids:
        points, directions = surface(shape)
        colour = np.ones((len(points), 4), np.float32)
        colour[:, :3] = palette[shape.colour]
        if shape.underside is not None:
            colour[directions[:, 1] < LOOKS_DOWN, :3] = palette[shape.underside]
        positions.append(points + creature.bones[bone].head.astype(np.float32))
        normals.append(directions)
        colours.append(colour)
        joints.append(np.full((len(points), 1), bone))
    each, number = len(positions[0]), len(positions)
    faces = triangles()[None] + each * np.arange(number, dtype=np.int32)[:, None, None]
    nothing = np.zeros((0, each * number, 3), np.float32)
    return Part(
        name=NAME,
        node=0,
        skin=0,
        material=0,
        positions=np.concatenate(positions),
        normals=np.concatenate(normals),
        uvs=np.zeros((each * number, 2), np.float32),
        colours=np.concatenate(colours),
        triangles=faces.reshape(-1, 3),
        joints=np.concatenate(joints),
        weights=np.ones((each * number, 1), np.float32),
        morph_positions=nothing,
        morph_normals=nothing,
    )


def _clip(bones: list[Bone], seconds: float) -> Clip:
    """Every bone's swing, keyed so that a sine of two periods is followed."""
    share = np.linspace(0, 1, 2 * KEYS_PER_CYCLE + 1)
    axes = np.stack([bone.swing.axis for bone in bones])
    cycles, phases, amplitudes = np.array([[b.swing.cycles, b.swing.phase, b.swing.amplitude] for b in bones]).T
    angle = amplitudes[:, None] * np.sin(2 * np.pi * cycles[:, None] * share + phases[:, None])
    values = np.concatenate([np.sin(angle / 2)[..., None] * axes[:, None], np.cos(angle / 2)[..., None]], axis=-1)
    track = Track("rotation", "LINEAR", np.arange(len(bones)), seconds * share, values.astype(np.float32))
    return Clip("swing", 0.0, seconds, [track])
