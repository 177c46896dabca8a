"""ActionBench's measures of animated meshes (ActionMesh, arXiv 2601.16148): CD-3D, CD-4D and CD-M."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from viewtime.configs.schema.evaluate import EvaluateConfig
from viewtime.device import choose_device
from viewtime.errors import UserError
from viewtime.log import progress
from viewtime.sample.metrics.measures.chamfer import QUERIES, chamfer, motion_chamfer
from viewtime.sample.metrics.measures.registration import align
from viewtime.sample.metrics.summary import Row, Summary, interval
from viewtime.sample.metrics.surfaces import SURFACES, MovingSurface, instants_in, meshes_in, read_surface

MEASURES = {
    "cd_3d": ("CD-3D", "aligned anew at every instant"),
    "cd_4d": ("CD-4D", "aligned at the first instant"),
    "cd_m": ("CD-M", "aligned at the first instant, neighbours found there and kept; all points"),
}


def check_meshes(config: EvaluateConfig) -> None:
    """What of the options can be refused before a file is read.

    Raises:
        UserError: one side alone, or a number that is too small.
    """
    if bool(config.mesh) != bool(config.mesh_truth):
        raise UserError("--mesh and --mesh-truth belong together: a moving surface and its truth")
    for name, value in (
        ("instants", config.mesh_instants), ("points", config.mesh_points), ("align-points", config.mesh_align_points),
    ):  # fmt: skip
        if value < 1:
            raise UserError(f"--mesh-{name} {value}; at least 1")


def score_meshes(config: EvaluateConfig) -> Summary:
    """The table of CD-3D, CD-4D and CD-M over all pairs.

    Raises:
        UserError: the sides do not pair, or a surface cannot be read; says which.
    """
    pairs = pair_surfaces(config.mesh, config.mesh_truth)
    device = str(choose_device(config.device))
    scores: list[dict[str, float]] = []
    for pred, truth, name in progress(pairs, "comparing surfaces", total=len(pairs)):
        try:
            instants = instants_in(truth) or config.mesh_instants
            made, given = read_surface(pred, instants).in_unit_cube(), read_surface(truth, instants)
            given = given if instants_in(truth) else given.in_unit_cube()
            scores.append(compare(made, given, config.mesh_points, config.mesh_align_points, config.seed, device))
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
    return _table(config, [name for *_, name in pairs], scores)


def compare(
    pred: MovingSurface,
    truth: MovingSurface,
    points: int = 100_000,
    align_points: int = 10_000,
    seed: int = 44,
    device: str = "cpu",
    iterations: int = 200,
) -> dict[str, float]:
    """The three distances in the truth's unit; CD-M is NaN where one of the surfaces has no tracks.

    Args:
        points: drawn of each surface of triangles at each instant.
        align_points: of those, for the alignment.
        iterations: steps of the alignment.
    """
    made, given = pred.points(points, seed), truth.points(points, seed + 1)

    def alignment(instant: int) -> Callable[[np.ndarray], np.ndarray]:
        random = np.random.default_rng(seed)
        few = [cloud[instant][random.permutation(cloud.shape[1])[:align_points]] for cloud in (made, given)]
        return align(few[0], few[1], iterations, device=device).apply

    each = [alignment(instant) for instant in range(len(made))]
    pairs = list(zip(made, given, each, strict=True))
    values = {
        "cd_3d": float(np.mean([chamfer(apply(cloud), there) for cloud, there, apply in pairs])),
        "cd_4d": float(np.mean([chamfer(each[0](cloud), there) for cloud, there, _ in pairs])),
        "cd_m": float("nan"),
    }
    if pred.tracked and truth.tracked:
        values["cd_m"] = motion_chamfer(each[0](pred.tracks(points, seed)), truth.tracks(points, seed + 1))
    return values


def pair_surfaces(pred: list[Path], truth: list[Path]) -> list[tuple[Path, Path, str]]:
    """Pairs by name where each side is one folder of surfaces, else in the order given.

    Raises:
        UserError: a path is missing, a surface has no partner, or the lists have unequal lengths.
    """
    for path in (*pred, *truth):
        if not path.exists():
            raise UserError(f"no such surface: {path}")
    made, given = (_inside(paths) for paths in (pred, truth))
    if made is not None and given is not None:
        if lonely := sorted(made.keys() ^ given.keys()):
            raise UserError(f"surfaces on one side only: {', '.join(lonely[:5])} ({len(lonely)} in all)")
        return [(made[name], given[name], name) for name in sorted(made)]
    if len(pred) != len(truth):
        raise UserError(f"{len(pred)} moving surfaces and {len(truth)} truths; give one truth per surface")
    return [(a, b, a.stem) for a, b in zip(pred, truth, strict=True)]


def _inside(paths: list[Path]) -> dict[str, Path] | None:
    """Surfaces by name in one folder of such folders; None where the paths are surfaces themselves."""
    if len(paths) != 1 or not paths[0].is_dir() or (paths[0] / SURFACES).is_file() or meshes_in(paths[0]):
        return None
    found = {child.name: child for child in paths[0].iterdir() if child.is_dir()}
    if not found:
        raise UserError(f"{paths[0]} holds no surface: neither meshes, nor {SURFACES}, nor folders of them")
    return found


def _table(config: EvaluateConfig, names: list[str], scores: list[dict[str, float]]) -> Summary:
    draws = np.random.default_rng(config.seed).integers(0, len(scores), (config.bootstrap, len(scores)))
    rows, missing = [], {}
    for metric, (name, how) in MEASURES.items():
        values = np.array([score[metric] for score in scores])
        if np.isnan(values).any():
            lacking = [label for label, value in zip(names, values, strict=True) if np.isnan(value)]
            missing[metric] = f"no tracks (triangles change from instant to instant): {', '.join(lacking[:5])}"
            continue
        estimate, bounds = float(values.mean()), (None, None)
        if len(scores) > 1 and config.bootstrap:
            bounds = interval(estimate, [float(values[draw].mean()) for draw in draws], floor=0.0)
        protocol = (
            f"{how}; {config.mesh_points} points a surface, {QUERIES} ask for their neighbour (CD-M: all), both ways "
            f"added; turn, scale per axis and shift by Adam (24 starts, 200 steps of 0.01) on "
            f"{config.mesh_align_points} points; no network; seed {config.seed}"
        )
        rows.append(Row(metric, name, "lower", estimate, *bounds, f"{len(scores)} pairs", protocol))
    common = {
        "unit": "half the longest side of the truth's box over its motion (surfaces.npy: as it is)",
        "instants": config.mesh_instants,
        "interval": f"95 %, {config.bootstrap} resamplings of pairs, seed {config.seed}",
    }
    details = [{"name": name, "values": score, "notes": []} for name, score in zip(names, scores, strict=True)]
    return Summary(rows, missing, {}, common, details)
