"""What a creature is made of: bones that swing, solids on them, and chains of both on either side.

glTF's axes: y is up, the creature looks along +z, its left is +x. Every bone's rest rotation is the identity.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from viewtime.data.creatures.shapes import Shape

MIRROR = np.diag([-1.0, 1.0, 1.0])
LAG = 0.7  # radians of phase from one segment of a chain to the next


@dataclass(frozen=True)
class Swing:
    """A bone's rotation over a clip: `amplitude` radians about `axis`, a sine of `cycles` periods from `phase`."""

    axis: np.ndarray
    amplitude: float
    phase: float
    cycles: int

    def later(self, phase: float) -> Swing:
        """The same swing, `phase` radians ahead."""
        return replace(self, phase=self.phase + phase)


@dataclass(frozen=True)
class Bone:
    """A joint at `head` [3] (rest pose, of the whole creature) below the bone `parent` (-1: none)."""

    parent: int
    head: np.ndarray
    swing: Swing


@dataclass(frozen=True)
class Chain:
    """A limb, neck or tail: segments from `root` along `direction`, each turned by `bend` [3, 3] from the last.

    `lengths` and `radii` [n], `colours` (n) of the segments; `flatness` is their thickness over their width.
    """

    root: np.ndarray
    direction: np.ndarray
    lengths: np.ndarray
    radii: np.ndarray
    bend: np.ndarray
    colours: list[int]
    swing: Swing
    squareness: tuple[float, float] = (1.0, 1.0)
    flatness: float = 1.0

    def mirrored(self) -> Chain:
        """The chain of the other side. Axes of rotation mirror as axial vectors."""
        swing = replace(self.swing, axis=-MIRROR @ self.swing.axis)
        bend = MIRROR @ self.bend @ MIRROR
        return replace(self, root=MIRROR @ self.root, direction=MIRROR @ self.direction, bend=bend, swing=swing)


@dataclass
class Creature:
    """Bones, parents first, and the solids that hang on them, each about its bone's head."""

    bones: list[Bone] = field(default_factory=list)
    solids: list[tuple[int, Shape]] = field(default_factory=list)

    def bone(self, parent: int, head: np.ndarray, swing: Swing) -> int:
        """Add a bone; returns its index."""
        self.bones.append(Bone(parent, np.asarray(head, float), swing))
        return len(self.bones) - 1

    def solid(self, bone: int, shape: Shape) -> None:
        """Hang a solid, whose centre is given in the creature's frame, on a bone."""
        self.solids.append((bone, replace(shape, centre=shape.centre - self.bones[bone].head)))

    def chain(self, parent: int, chain: Chain) -> tuple[int, np.ndarray]:
        """Add a chain; returns its last bone and where it ends."""
        bone, head = parent, chain.root
        direction = chain.direction / np.linalg.norm(chain.direction)
        for index, (length, radius) in enumerate(zip(chain.lengths, chain.radii, strict=True)):
            bone = self.bone(bone, head, chain.swing.later(-LAG * index))
            radii = (float(radius), 0.6 * float(length), chain.flatness * float(radius))
            middle = head + direction * length / 2
            self.solid(bone, Shape(radii, frame(direction), middle, chain.squareness, colour=chain.colours[index]))
            head = head + direction * length
            direction = chain.bend @ direction
        return bone, head

    def pair(self, parent: int, chain: Chain, *, alternate: bool) -> list[tuple[int, np.ndarray]]:
        """Add a chain and its mirror image, which swing together, or half a period apart."""
        other = chain.mirrored()
        other = replace(other, swing=other.swing.later(np.pi * alternate))
        return [self.chain(parent, chain), self.chain(parent, other)]


def frame(direction: np.ndarray) -> np.ndarray:
    """Right-handed axes [3, 3] in columns whose y is `direction`; z is as nearly forward as that allows."""
    up = direction / np.linalg.norm(direction)
    forward = np.array([0.0, 0.0, 1.0]) if abs(up[2]) < 0.9 else np.array([0.0, 1.0, 0.0])
    side = np.cross(up, forward)
    side /= np.linalg.norm(side)
    return np.stack([side, up, np.cross(side, up)], axis=1)


def turn(axis: int, degrees: float) -> np.ndarray:
    """Rotation matrix [3, 3] about the axis number `axis`."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    result = np.eye(3)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    result[[first, second], [first, second]] = cosine
    result[second, first], result[first, second] = sine, -sine
    return result
