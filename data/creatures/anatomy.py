"""Draws a creature: a lying, upright or round torso; legs, arms or wings, neck, head, tail, and things that hang on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from viewtime.data.creatures.body import Chain, Creature, Swing, turn
from viewtime.data.creatures.shapes import Shape

BODY, SECOND, THIRD, DARK, LIGHT = range(5)  # colours of the palette
UP = np.array([0.0, 1.0, 0.0])
FORWARD = np.array([0.0, 0.0, 1.0])
LEFT = np.array([1.0, 0.0, 0.0])

Posture = Literal["lying", "upright", "round"]


@dataclass(frozen=True)
class _Torso:
    """Centres [n, 3] of its segments from hind to fore, its axis, and half its width, length and thickness."""

    posture: Posture
    centres: np.ndarray
    along: np.ndarray
    wide: float
    long: float
    thick: float

    @property
    def lies(self) -> bool:
        return self.posture == "lying"

    def at(self, place: float) -> np.ndarray:
        """A point of the axis, -1 at the hind end … 1 at the fore end."""
        return place * self.long * self.along

    def bone(self, point: np.ndarray) -> int:
        """The torso's bone nearest to a point."""
        return int(np.argmin(np.linalg.norm(self.centres - point, axis=1)))


def draw_creature(rng: np.random.Generator) -> Creature:
    """A random creature of about unit size."""
    creature = Creature()
    postures: list[Posture] = ["lying", "upright", "round"]
    torso = _torso(rng, creature, postures[int(rng.choice(3, p=[0.55, 0.3, 0.15]))])
    _legs(rng, creature, torso)
    _head(rng, creature, torso)
    if rng.random() < (0.8 if torso.lies else 0.25):
        _tail(rng, creature, torso)
    if torso.posture == "upright" or rng.random() < 0.35:
        _arms(rng, creature, torso)
    for _ in range(int(rng.integers(0, 4))):
        _attachment(rng, creature, torso)
    return creature


def _torso(rng: np.random.Generator, creature: Creature, posture: Posture) -> _Torso:
    """Adds the torso's bones, the first ones of the creature."""
    tilt = rng.uniform(-15, 15)
    along = turn(0, tilt) @ FORWARD if posture == "lying" else UP
    count = 1 if posture == "round" else int(rng.integers(1, 4))
    long = rng.uniform(0.15, 0.3) if posture == "round" else rng.uniform(0.17, 0.55)
    thick = long * (rng.uniform(0.7, 1.2) if posture == "round" else rng.uniform(0.3, 1.0))
    wide = thick * rng.uniform(0.6, 1.4)
    half = long / count
    centres = (2 * np.arange(count) - (count - 1))[:, None] * half * along
    axes = np.stack([LEFT, along, np.cross(LEFT, along)], axis=1)
    squareness, taper, colour = _squareness(rng), rng.uniform(-0.4, 0.4), _colour(rng)
    underside = SECOND if rng.random() < 0.4 else None
    for index, centre in enumerate(centres):
        bone = creature.bone(index - 1, centre - along * half, _swing(rng, 12))
        swell, reach = rng.uniform(0.8, 1.2), rng.uniform(1.1, 1.5) if count > 1 else 1.0
        radii = (wide * swell, half * reach, thick * swell)
        creature.solid(bone, Shape(radii, axes, centre, squareness, taper, colour, underside))
    return _Torso(posture, centres, along, wide, long, thick)


def _legs(rng: np.random.Generator, creature: Creature, torso: _Torso) -> None:
    """Pairs from hind to fore, each pair half a period from the next."""
    pairs = {"lying": [0, 0, 1, 2, 2, 2, 2, 3, 4, 4], "upright": [1], "round": [0, 1, 1, 2]}[torso.posture]
    count = int(rng.choice(pairs))
    spread = rng.uniform(0, 130) if count > 2 else rng.uniform(0, 20)
    lengths, radii, colours = _segments(rng, rng.uniform(0.2, 0.9))
    bend = turn(0, rng.uniform(-50, 50)) @ turn(2, -spread * rng.uniform())
    squareness, swing = _squareness(rng), _swing(rng, 40, axis=LEFT)
    foot = rng.uniform(0.8, 2.0) if rng.random() < 0.6 else 0.0
    for number, place in enumerate(np.linspace(-0.85, 0.85, count) if count > 1 else [0.0] * count):
        start = torso.at(float(place)) - 0.3 * torso.thick * UP if torso.lies else torso.at(-0.75)
        root = start + 0.7 * torso.wide * LEFT
        direction = turn(2, spread) @ -UP
        chain = Chain(root, direction, lengths, radii, bend, colours, swing.later(number * np.pi), squareness)
        for bone, end in creature.pair(torso.bone(start), chain, alternate=True):
            if foot:
                size = foot * float(radii[-1])
                half = (0.9 * size, 0.5 * size, 1.4 * size)
                creature.solid(bone, Shape(half, np.eye(3), end + 0.5 * size * FORWARD, squareness, colour=colours[-1]))


def _arms(rng: np.random.Generator, creature: Creature, torso: _Torso) -> None:
    """Arms, or flat wings and fins whose broad side looks forward."""
    flat = rng.random() < (0.25 if torso.posture == "upright" else 0.75)
    lengths, radii, colours = _segments(rng, rng.uniform(0.25, 0.8))
    drop = rng.uniform(-60, 40) if flat else rng.uniform(0, 85)
    direction = turn(2, -drop) @ LEFT + rng.uniform(-0.4, 0.4) * FORWARD
    start = torso.at(rng.uniform(0.2, 0.8))
    root = start + 0.75 * torso.wide * LEFT + (rng.uniform(-0.3, 0.7) * torso.thick * UP if torso.lies else 0.0)
    axis = FORWARD if flat else LEFT
    bend = turn(2 if flat else 0, rng.uniform(-40, 40))
    swing, squareness = _swing(rng, 50, axis=axis), _squareness(rng)
    flatness = rng.uniform(0.1, 0.3) if flat else 1.0
    wide = radii * (rng.uniform(1.5, 4.0) if flat else 1.0)
    chain = Chain(root, direction, lengths, wide, bend, colours, swing, squareness, flatness)
    hands = creature.pair(torso.bone(start), chain, alternate=not flat)
    if not flat and rng.random() < 0.5:
        bone, end = hands[int(rng.integers(2))]
        _held(rng, creature, bone, end)


def _held(rng: np.random.Generator, creature: Creature, bone: int, hand: np.ndarray) -> None:
    """A staff, a blade or a shield in a hand."""
    long, thick = rng.uniform(0.1, 0.6), float(np.exp(rng.uniform(np.log(0.01), np.log(0.05))))
    wide = thick if rng.random() < 0.6 else rng.uniform(thick, 0.6 * long)
    axes = turn(1, rng.uniform(0, 360)) @ turn(0, rng.uniform(-120, 120))
    centre = hand + rng.uniform(0.0, 0.9) * long * axes[:, 1]
    shape = Shape((wide, long, thick), axes, centre, _squareness(rng), rng.uniform(-0.6, 0.3), int(rng.integers(0, 5)))
    creature.solid(bone, shape)


def _head(rng: np.random.Generator, creature: Creature, torso: _Torso) -> None:
    """A neck and a head with a face; of a round body, the face alone."""
    fore = len(torso.centres) - 1
    if torso.posture == "round":
        _face(rng, creature, fore, 0.25 * torso.thick * FORWARD + 0.1 * torso.long * UP, 0.7 * torso.wide)
        return
    count = int(rng.integers(1, 4))
    long = rng.uniform(0.02, 0.5) if torso.lies else rng.uniform(0.02, 0.12)
    radii = np.full(count, min(torso.wide, torso.thick) * rng.uniform(0.3, 0.8))
    direction = torso.along + rng.uniform(0.0, 1.5) * UP
    bend = turn(0, rng.uniform(-25, 25))
    swing, colours = _swing(rng, 15), [_colour(rng)] * count
    neck = Chain(torso.at(0.85), direction, np.full(count, long / count), radii, bend, colours, swing)
    bone, end = creature.chain(fore, neck)
    radius = float(np.clip(rng.uniform(0.6, 1.6) * torso.wide, 0.05, 0.35))
    centre = end + 0.3 * radius * (UP + FORWARD)
    bone = creature.bone(bone, end, _swing(rng, 25))
    wide, high, deep = (radius * rng.uniform(0.75, 1.25, size=3)).tolist()
    shape = Shape((wide, high, deep), np.eye(3), centre, _squareness(rng), rng.uniform(-0.3, 0.3), _colour(rng))
    creature.solid(bone, shape)
    _face(rng, creature, bone, centre, radius)


def _face(rng: np.random.Generator, creature: Creature, bone: int, centre: np.ndarray, radius: float) -> None:
    """Snout, eyes, and ears or horns."""
    if rng.random() < 0.7:
        wide, long, high = (radius * rng.uniform([0.3, 0.3, 0.25], [0.7, 1.3, 0.6])).tolist()
        place = centre + radius * np.array([0.0, -0.25, 0.8])
        axes = turn(0, 90 + rng.uniform(-5, 25))
        creature.solid(
            bone, Shape((wide, long, high), axes, place, _squareness(rng), rng.uniform(-0.6, 0.0), _colour(rng))
        )
    apart, high, size = rng.uniform(0.3, 0.9), rng.uniform(0.05, 0.6), radius * rng.uniform(0.12, 0.3)
    forward = float(np.sqrt(max(0.05, 1.0 - apart**2 - 0.5 * high**2)))
    ears = rng.random() < 0.7
    ear = (radius * rng.uniform([0.1, 0.2, 0.05], [0.35, 1.0, 0.3])).tolist()
    lean, taper, colour = rng.uniform(-20, 70), rng.uniform(-0.9, 0.2), int(rng.integers(0, 5))
    for side in (1.0, -1.0):
        eye = centre + radius * np.array([side * apart, high, forward])
        creature.solid(bone, Shape((size, size, size), np.eye(3), eye, colour=LIGHT))
        pupil = eye + size * np.array([0.2 * side, 0.0, 0.6])
        creature.solid(bone, Shape((0.6 * size, 0.6 * size, 0.6 * size), np.eye(3), pupil, colour=DARK))
        if ears:
            axes = turn(2, -side * lean)
            root = centre + radius * np.array([0.6 * side, 0.7, 0.0]) + 0.7 * ear[1] * axes[:, 1]
            creature.solid(bone, Shape((ear[0], ear[1], ear[2]), axes, root, taper=taper, colour=colour))


def _tail(rng: np.random.Generator, creature: Creature, torso: _Torso) -> None:
    count = int(rng.integers(1, 6))
    back = -torso.along if torso.lies else -FORWARD
    direction = back + rng.uniform(-0.6, 0.8) * UP
    thick = min(torso.wide, torso.thick) * rng.uniform(0.2, 0.8)
    radii = thick * np.linspace(1.0, rng.uniform(0.2, 1.0), count)
    lengths = np.full(count, rng.uniform(0.15, 1.0) / count)
    bend, colours = turn(0, rng.uniform(-30, 30)), [_colour(rng)] * count
    swing = _swing(rng, 30, axis=UP if rng.random() < 0.7 else LEFT)
    root = torso.at(-0.85) if torso.lies else torso.at(-0.5) + 0.8 * torso.thick * back
    flatness = rng.uniform(0.15, 0.5) if rng.random() < 0.3 else 1.0
    creature.chain(0, Chain(root, direction, lengths, radii, bend, colours, swing, flatness=flatness))


def _attachment(rng: np.random.Generator, creature: Creature, torso: _Torso) -> None:
    """A fin, a shell or a pack on the back, or something on any bone."""
    if rng.random() < 0.6:
        place = torso.at(rng.uniform(-0.9, 0.9))
        bone = torso.bone(place)
        radii = rng.uniform(0.1, 0.9, size=3) * [torso.wide, torso.thick, torso.long]
        centre = place + rng.uniform(0.7, 1.1) * torso.thick * (UP if torso.lies else -FORWARD)
    else:
        bone = int(rng.integers(len(creature.bones)))
        radii = np.exp(rng.uniform(np.log(0.02), np.log(0.2), size=3))
        centre = creature.bones[bone].head + rng.uniform(-0.1, 0.1, size=3)
    wide, high, deep = radii.tolist()
    axes, colour = turn(0, rng.uniform(-90, 90)), int(rng.integers(0, 5))
    creature.solid(bone, Shape((wide, high, deep), axes, centre, _squareness(rng), rng.uniform(-0.9, 0.3), colour))


def _segments(rng: np.random.Generator, long: float) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Lengths, radii and colours of a limb of one to three segments."""
    count = int(rng.integers(1, 4))
    lengths = rng.dirichlet(np.full(count, 8.0)) * long
    thick = long * float(np.exp(rng.uniform(np.log(0.06), np.log(0.3))))
    radii = thick * np.linspace(1.0, rng.uniform(0.4, 1.2), count)
    return lengths, radii, sorted(_colour(rng) for _ in range(count))


def _colour(rng: np.random.Generator) -> int:
    return int(rng.choice(5, p=[0.6, 0.2, 0.12, 0.04, 0.04]))


def _squareness(rng: np.random.Generator) -> tuple[float, float]:
    """Round in half of the cases."""
    along, around = np.exp(rng.uniform(np.log(0.15), 0.0, size=2)).tolist()
    return (1.0, 1.0) if rng.random() < 0.5 else (along, around)


def _swing(rng: np.random.Generator, largest: float, axis: np.ndarray | None = None) -> Swing:
    """Up to `largest` degrees about an axis, or about any."""
    direction = rng.standard_normal(3) if axis is None else axis
    amplitude = float(np.radians(largest) * rng.uniform())
    phase, cycles = float(rng.uniform(0, 2 * np.pi)), int(rng.integers(1, 3))
    return Swing(direction / np.linalg.norm(direction), amplitude, phase, cycles)
