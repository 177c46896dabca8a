"""The plans: SV4D's mixed sampling, the paper's ablations, SV4D 2.0's and 4Real-Video's windows, all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise, product

from viewtime.errors import UserError

from .plan import Cell, Direction, Plan, Problem, Window, consecutive, spans


class _Builder:
    """Collects windows and remembers which cells exist after the last one."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.windows: list[Window] = []
        self.existing: set[Cell] = set(problem.given)

    def view_groups(self) -> list[tuple[int, ...]]:
        """Novel views in groups that fit into a window; the input row alone where there is nothing else."""
        novel = range(1, self.problem.views)
        return consecutive(novel, self.problem.novel_views_per_window) or [()]

    def has_column(self, views: Iterable[int], frame: int) -> bool:
        """Whether all these views exist at that frame."""
        return all((view, frame) in self.existing for view in views)

    def rectangle_views(self, views: Sequence[int]) -> tuple[int, ...]:
        """Rows of the network's rectangle for a group of novel views."""
        if self.problem.inside:
            return (*views, 0) if self.problem.input_last else (0, *views)
        return tuple(views)

    def add(
        self,
        stage: str,
        views: Sequence[int],
        frames: Sequence[int],
        references: Sequence[tuple[str, Sequence[int]]] = (("", ()),),
        *,
        exact_views: bool = False,
        kept: Iterable[int] = (),
    ) -> None:
        """Append a window unless everything in it is there and need not be sampled again.

        Args:
            references: one (name, frames) per direction: the frames whose existing cells (of the window's views)
                condition the window. A backward direction shows the frames in reverse order where the network
                takes its references beside the grid.
            exact_views: the rectangle has just these rows.
            kept: frames whose cells, which are there, keep their content.
        """
        rows = tuple(views) if exact_views else self.rectangle_views(views)
        rectangle = set(product(rows, frames))
        directions = tuple(self._direction(name, rows, tuple(frames), of) for name, of in references)
        sampled = rectangle - self.problem.given - set(product(rows, kept))
        if self.problem.inside:
            sampled -= set.intersection(*(set(direction.conditions) for direction in directions))
        if not sampled:
            return
        self.windows.append(Window(len(self.windows), stage, rows, tuple(frames), frozenset(sampled), directions))
        self.existing |= sampled

    def interpolate(self, stage: str, views: Sequence[int], frames: Sequence[int]) -> None:
        """Append a window whose inner frames come from its first and last, unless everything in it is there."""
        rows = self.rectangle_views(views)
        ends = set(product(rows, (frames[0], frames[-1])))
        sampled = set(product(rows, frames)) - ends - self.existing
        if sampled:
            direction = Direction("", tuple(frames), tuple(sorted(ends)))
            self.windows.append(Window(len(self.windows), stage, rows, tuple(frames), frozenset(sampled), (direction,)))
            self.existing |= sampled

    def _direction(
        self, name: str, rows: tuple[int, ...], frames: tuple[int, ...], references: Sequence[int]
    ) -> Direction:
        referred = {(view, frame) for view, frame in product(rows, references) if (view, frame) in self.existing}
        if self.problem.inside:
            conditions = {cell for cell in product(rows, frames) if cell in self.problem.given} | referred
            return Direction(name, frames, tuple(sorted(conditions)))
        order = frames[::-1] if name == "backward" else frames
        inputs = [(0, frame) for frame in order]
        return Direction(name, order, (*inputs, *sorted(referred)))

    def plan(self, name: str) -> Plan:
        """The finished plan, checked."""
        plan = Plan(name, self.problem, tuple(self.windows))
        plan.check()
        return plan


def _start(problem: Problem) -> _Builder:
    """A builder, with the reference stage where a multi-view model makes the views of frame 0."""
    builder = _Builder(problem)
    novel = tuple(range(1, problem.views))
    if problem.reference_stage and novel and not builder.has_column(novel, 0):
        sampled = frozenset((view, 0) for view in novel) - problem.given
        direction = Direction("", (0,), ((0, 0),))
        builder.windows.append(Window(0, "reference", novel, (0,), sampled, (direction,)))
        builder.existing |= sampled
    return builder


def joint(problem: Problem) -> Plan:
    """Everything at once; the grid must fit into one window."""
    rows = problem.views if problem.inside else max(problem.views - 1, 1)
    if rows > problem.window_views or problem.frames > problem.window_frames:
        largest = problem.novel_views_per_window
        raise UserError(
            f"{problem.views - 1} novel views × {problem.frames} frames do not fit into one window of this model "
            f"({largest} × {problem.window_frames}); ask for fewer, or choose --plan.kind sv4d2 or autoregressive"
        )
    builder = _start(problem)
    views = tuple(range(1, problem.views))
    builder.add("window", views, range(problem.frames), [("", (0,) if builder.has_column(views, 0) else ())])
    return builder.plan("joint")


def independent(problem: Problem) -> Plan:
    """Consecutive frames, each window on its own (SV4D, A.6, figure 9)."""
    builder = _start(problem)
    for views in builder.view_groups():
        reference = (0,) if builder.has_column(views, 0) and not problem.inside else ()
        for frames in spans(problem.frames, problem.window_frames, overlap=0):
            builder.add("window", views, frames, [("", reference)])
    return builder.plan("independent")


def interleaved(problem: Problem) -> Plan:
    """Every n-th frame, each window on its own (SV4D, A.6, figure 10)."""
    builder = _start(problem)
    stride = -(-problem.frames // problem.window_frames)
    for views in builder.view_groups():
        reference = (0,) if builder.has_column(views, 0) and not problem.inside else ()
        for start in range(min(stride, problem.frames)):
            builder.add("window", views, range(start, problem.frames, stride), [("", reference)])
    return builder.plan("interleaved")


def sv4d(problem: Problem) -> Plan:
    """SV4D's mixed sampling (section 3.1, A.3): interleaved anchors, then dense windows between anchors.

    A network that sees known cells inside its grid is given both anchors of a dense window at every step. SV4D's
    takes the reference views of one frame: there the steps alternate between the last (backward, even steps) and
    the first anchor (forward, odd steps). Alternation integrates the mean of the two predictions, which is no
    posterior mean: the drift is that of neither conditional distribution, and even an exact denoiser then makes
    cells whose spread is too small (by 1 - c²(1 - c²)/2 of the variance midway between two anchors whose correlation
    with the cell is c; tests/sample/plan/test_alternation.py).

    Where the anchors do not fit into one window, they are themselves sampled by this plan, so the number of frames
    has no limit. It needs two anchors and a frame between them: windows of fewer than 3 frames slide forward instead.
    """
    if problem.window_frames < 3 and problem.frames > problem.window_frames:
        return Plan("sv4d", problem, sv4d2(problem).windows)
    builder = _start(problem)
    for views in builder.view_groups():
        _mixed(builder, views, list(range(problem.frames)))
    return builder.plan("sv4d")


def sv4d_apart(problem: Problem) -> Plan:
    """SV4D's mixed sampling with dense windows that do not wait for each other, for several GPUs.

    A dense window of `sv4d` samples its two anchors again, and the next one starts from the last of them. Here anchors
    keep the content that they have from the anchor stage, so that all dense windows between them are one wave. Only a
    window that was moved back to be full, at the end of a length that does not divide, still waits for the one before.
    """
    if problem.window_frames < 3 and problem.frames > problem.window_frames:
        return Plan("sv4d-apart", problem, sv4d2(problem).windows)
    builder = _start(problem)
    for views in builder.view_groups():
        _mixed(builder, views, list(range(problem.frames)), keep_anchors=True)
    return builder.plan("sv4d-apart")


def _mixed(builder: _Builder, views: tuple[int, ...], frames: list[int], keep_anchors: bool = False) -> None:
    """Sample all `frames` (indices into the grid, the first is frame 0) of these views."""
    width = builder.problem.window_frames
    referred = bool(views) and builder.has_column(views, 0)
    # A reference beside the grid need not be an anchor itself; inside the grid it must be in the rectangle.
    to_sample = frames[1:] if referred and not builder.problem.inside and len(frames) > 1 else frames
    if len(to_sample) <= width:
        builder.add("anchor", views, to_sample, [("", (0,) if referred else ())])
        return
    anchors = _anchors(len(frames), width)
    anchor_frames = [frames[position] for position in anchors]
    _mixed(builder, views, anchor_frames, keep_anchors)
    for first, last in pairwise(anchors):
        span = frames[max(0, min(first, last - width + 1)) : last + 1]
        alternating = [("backward", (span[-1],)), ("forward", (span[0],))]
        kept = anchor_frames if keep_anchors else ()
        builder.add("dense", views, span, [("", span)] if builder.problem.inside else alternating, kept=kept)


def anchors_between(problem: Problem, stage: str) -> Plan:
    """SV4D's anchors alone, and what an interpolation makes between them (SV4D, tables 5 and 6).

    Anchors that do not fit into one window are sampled by mixed sampling, as in `sv4d`.

    Args:
        stage: "linear" or "flow", see `viewtime.sample.run.between`.

    Raises:
        UserError: windows of fewer than 3 frames leave none between two anchors.
    """
    if problem.window_frames < 3 and problem.frames > problem.window_frames:
        raise UserError(
            f"windows of {problem.window_frames} frames leave nothing between two anchors; give --plan.window-frames 3"
        )
    builder = _start(problem)
    for views in builder.view_groups():
        anchors = _anchors(problem.frames, max(problem.window_frames, 2))
        _mixed(builder, views, anchors)
        for first, last in pairwise(anchors):
            builder.interpolate(stage, views, range(first, last + 1))
    return builder.plan(f"anchors-{stage}")


def _anchors(length: int, width: int) -> list[int]:
    """Positions of the anchors: 0, every (width − 1)-th, and the last."""
    return sorted({*range(0, length, width - 1), length - 1})


def sv4d2(problem: Problem) -> Plan:
    """SV4D 2.0's windows: forward in time, each referring to the overlap with the one before.

    With known cells inside the grid all frames of the overlap are given; beside it, the window's first frame.
    """
    builder = _start(problem)
    for views in builder.view_groups():
        for frames in spans(problem.frames, problem.window_frames, problem.overlap):
            referred = frames if problem.inside else frames[:1]
            builder.add("window", views, frames, [("", referred)])
    return builder.plan("sv4d2")


def autoregressive(problem: Problem) -> Plan:
    """Sliding windows along time and views (4Real-Video, "Extending to a wider view and longer time")."""
    builder = _start(problem)
    if not problem.inside:
        view_spans = [tuple(group) for group in builder.view_groups()]
    elif problem.keep_input:
        novel = spans(problem.views - 1, problem.novel_views_per_window, problem.overlap) if problem.views > 1 else []
        view_spans = [(0, *(view + 1 for view in span)) for span in novel] or [(0,)]
    else:
        view_spans = [tuple(span) for span in spans(problem.views, problem.window_views, problem.overlap)]
    for views in view_spans:
        for frames in spans(problem.frames, problem.window_frames, problem.overlap):
            referred = frames if problem.inside else frames[:1]
            builder.add("window", views, frames, [("", referred)], exact_views=True)
    return builder.plan("autoregressive")


PLANS: dict[str, Callable[[Problem], Plan]] = {
    "joint": joint,
    "sv4d": sv4d,
    "sv4d-apart": sv4d_apart,
    "independent": independent,
    "interleaved": interleaved,
    "sv4d2": sv4d2,
    "autoregressive": autoregressive,
    "anchors-linear": partial(anchors_between, stage="linear"),
    "anchors-flow": partial(anchors_between, stage="flow"),
}


def make_plan(name: str, problem: Problem) -> Plan:
    """The plan of that name.

    Raises:
        UserError: no such plan, or the grid does not fit (joint).
    """
    if name not in PLANS:
        raise UserError(f"unknown plan {name!r}; one of: {', '.join(PLANS)}")
    return PLANS[name](problem)
