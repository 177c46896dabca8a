"""A plan as data: which cells are sampled together, which cells condition them, in which direction at each step.

Nothing here runs a network. A plan is a list of windows in an order that is always valid; windows of one wave do
not depend on each other and may run batched or on several processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from viewtime.errors import UserError

Cell = tuple[int, int]  # (view, frame)
GIVEN = -1  # producer of a cell that is there before the first window
INTERPOLATED = ("linear", "flow")  # stages of windows whose cells come from those that condition them, by no network


@dataclass(frozen=True)
class Problem:
    """What a plan must cover.

    Attributes:
        views, frames: the grid, V rows (row 0 is the input view) and F columns.
        window_views, window_frames: the largest rectangle that the network takes at once. Where the network sees
            known cells inside its grid, the known rows count.
        given: cells that are there before sampling.
        inside: known cells lie inside the network's rectangle (mini, 4Real-Video). Otherwise the rectangle holds
            only cells to be sampled, and input frames and reference views are conditions beside it (SV4D).
        reference_stage: a multi-view model makes the views of frame 0 first (SV3D for SV4D).
        keep_input: autoregressive windows along the view axis always include row 0; 4Real slides without it.
        overlap: views or frames that consecutive sliding windows share.
        input_last: row 0 comes last in the network's order of views (SV3D).
    """

    views: int
    frames: int
    window_views: int
    window_frames: int
    given: frozenset[Cell]
    inside: bool = True
    reference_stage: bool = False
    keep_input: bool = True
    overlap: int = 1
    input_last: bool = False

    def __post_init__(self) -> None:
        if self.views < 1 or self.frames < 1:
            raise UserError(f"a grid of {self.views} views × {self.frames} frames; at least 1 × 1 is needed")
        smallest = 2 if self.inside else 1
        if self.window_views < smallest or self.window_frames < 1:
            raise UserError(
                f"windows of {self.window_views} views × {self.window_frames} frames; at least {smallest} × 1 is needed"
            )
        outside = [cell for cell in self.given if cell not in self.cells]
        if outside:
            raise UserError(f"given cells outside the {self.views} × {self.frames} grid: {sorted(outside)[:3]}")
        if not self.inside and any((0, frame) not in self.given for frame in range(self.frames)):
            raise UserError("this model needs the whole input view; a frame of row 0 is not given")
        if self.overlap < 1:
            raise UserError(f"overlap {self.overlap}; sliding windows must share at least 1 view or frame")

    @cached_property
    def cells(self) -> frozenset[Cell]:
        """All cells of the grid."""
        return frozenset(product(range(self.views), range(self.frames)))

    @property
    def novel_views_per_window(self) -> int:
        """Rows other than the input row that fit into one window."""
        return self.window_views - 1 if self.inside else self.window_views


@dataclass(frozen=True)
class Direction:
    """One way of conditioning a window.

    Attributes:
        name: "forward", "backward" or "".
        frames: the window's frames in the order in which the network sees them.
        conditions: cells whose clean content the network is given.
    """

    name: str
    frames: tuple[int, ...]
    conditions: tuple[Cell, ...]


@dataclass(frozen=True)
class Window:
    """Cells sampled together.

    Attributes:
        index: position in the plan.
        stage: "reference", "anchor", "dense", "window", or how it is interpolated: "linear", "flow".
        views, frames: the rectangle of cells that the network denoises, in the network's order.
        sampled: the cells of the rectangle whose result is kept.
        directions: step i uses `directions[i % len(directions)]`.
    """

    index: int
    stage: str
    views: tuple[int, ...]
    frames: tuple[int, ...]
    sampled: frozenset[Cell]
    directions: tuple[Direction, ...]

    @property
    def denoised(self) -> bool:
        """Whether the network of the grid samples it."""
        return self.stage != "reference" and self.stage not in INTERPOLATED

    def direction(self, step: int) -> Direction:
        """The direction of a sampler step."""
        return self.directions[step % len(self.directions)]

    @cached_property
    def conditions(self) -> frozenset[Cell]:
        """Cells that condition the window in any direction."""
        return frozenset(cell for direction in self.directions for cell in direction.conditions)


@dataclass(frozen=True)
class Plan:
    """Windows that cover a grid; see the module's text."""

    name: str
    problem: Problem
    windows: tuple[Window, ...]

    @cached_property
    def _writers(self) -> dict[Cell, list[int]]:
        writers: dict[Cell, list[int]] = {}
        for window in self.windows:
            for cell in window.sampled:
                writers.setdefault(cell, []).append(window.index)
        return writers

    def producer(self, cell: Cell, before: int) -> int | None:
        """Where window `before` finds a cell: the last earlier window that samples it, GIVEN, or None."""
        earlier = [index for index in self._writers.get(cell, []) if index < before]
        if earlier:
            return earlier[-1]
        return GIVEN if cell in self.problem.given else None

    def final_producer(self, cell: Cell) -> int:
        """The window whose result the finished grid shows; GIVEN for given cells."""
        producer = self.producer(cell, len(self.windows))
        assert producer is not None
        return producer

    def draw(self, cell: Cell, window: Window) -> int:
        """How many earlier windows sample the cell."""
        return sum(index < window.index for index in self._writers.get(cell, []))

    def needs(self, window: Window) -> frozenset[int]:
        """Windows that must be finished before this one can start."""
        producers = {self.producer(cell, window.index) for cell in window.conditions}
        return frozenset(index for index in producers if index is not None and index != GIVEN)

    @cached_property
    def waves(self) -> tuple[tuple[Window, ...], ...]:
        """Windows grouped so that each group needs only earlier groups."""
        level: dict[int, int] = {}
        for window in self.windows:
            level[window.index] = 1 + max((level[index] for index in self.needs(window)), default=-1)
        groups = range(max(level.values(), default=-1) + 1)
        return tuple(tuple(w for w in self.windows if level[w.index] == group) for group in groups)

    def wave_of(self, window: Window) -> int:
        """Index of the wave that holds the window."""
        return next(number for number, wave in enumerate(self.waves) if window in wave)

    def check(self) -> None:
        """Prove that the plan is sound.

        Raises:
            AssertionError: a cell is never sampled, a given cell is overwritten, a window is larger than the
                network takes, or a window is conditioned on a cell that does not exist yet.
        """
        problem = self.problem
        for position, window in enumerate(self.windows):
            assert window.index == position
            assert window.sampled, f"window {position} samples nothing"
            rectangle = set(product(window.views, window.frames))
            assert window.sampled <= rectangle, f"window {position} keeps cells it does not sample"
            assert not window.sampled & problem.given, f"window {position} overwrites a given cell"
            if window.stage != "reference":
                assert len(window.views) <= problem.window_views, f"window {position} has too many views"
                assert len(window.frames) <= problem.window_frames, f"window {position} has too many frames"
            assert len(rectangle) == len(window.views) * len(window.frames), f"window {position} repeats a cell"
            assert window.directions, f"window {position} has no direction"
            for direction in window.directions:
                assert sorted(direction.frames) == sorted(window.frames)
                for cell in direction.conditions:
                    assert self.producer(cell, position) is not None, f"window {position}: {cell} does not exist yet"
            if problem.inside:
                hidden = {c for c in rectangle - window.sampled if self.producer(c, position) is None}
                assert not hidden, f"window {position} discards cells that nobody has sampled: {sorted(hidden)[:3]}"
        covered = problem.given.union(*(window.sampled for window in self.windows))
        missing = problem.cells - covered
        assert not missing, f"never sampled: {sorted(missing)[:5]}"


def input_row(frames: int) -> frozenset[Cell]:
    """The given cells of a single input video."""
    return frozenset((0, frame) for frame in range(frames))


def spans(length: int, width: int, overlap: int) -> list[range]:
    """Windows of `width` (or the whole length) over an axis; the last is moved back so that it is full too."""
    if length <= width:
        return [range(length)]
    step = max(1, width - overlap)
    starts = [*range(0, length - width, step), length - width]
    return [range(start, start + width) for start in starts]


def consecutive(items: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Items in groups of at most `size`."""
    return [tuple(items[start : start + size]) for start in range(0, len(items), size)]
