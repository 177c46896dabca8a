"""mini on held-out clips against what needs no learning, and against itself without time.

    python benchmarks/mini_table.py --assets FOLDER_WITH_THE_KAYKIT_GLBS [--weights mini] [--limit 24]
    python benchmarks/mini_table.py --curated FOLDER_OF_CURATE --weights mini-generalist [--group kinds]

The specialist on every held-out clip of configs/families/kaykit.yaml; the generalist on clips of the groups of
configs/heldout/generalist.yaml: view 0 is the input, eight novel views are made. Writes table.md with the mask IoU by
kind and with the object's depth free (`benchmarks/depth_place.py`), one JSON per method, contact sheets (truth above
result) of the best, median and worst clip, and one of the ten worst.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.depth_place import iou_at_best_depth  # noqa: E402
from benchmarks.mini_truth import (  # noqa: E402
    FRAMES,
    HELD_OUT,
    VIEWS,
    Conditions,
    Truth,
    family_truth,
    held_out_clips,
    training_clips,
)
from viewtime.configs.schema.sample import PlanOptions, PreprocessOptions, SamplerOptions  # noqa: E402
from viewtime.data.live.asset_list import held_out_groups  # noqa: E402
from viewtime.grid import FrameGrid  # noqa: E402
from viewtime.images import composite, contact_sheet, to_uint8  # noqa: E402
from viewtime.log import progress, set_up_logging  # noqa: E402
from viewtime.sample.metrics.evaluator import GridEvaluator, Settings  # noqa: E402
from viewtime.sample.metrics.networks.filter_bank import FilterBank  # noqa: E402
from viewtime.sample.metrics.networks.perceptual import ImagePairMetric, LpipsStar, StLpips  # noqa: E402
from viewtime.sample.metrics.report import write_json  # noqa: E402
from viewtime.sample.metrics.summary import Summary, summarise  # noqa: E402
from viewtime.sample.pipeline import Pipeline  # noqa: E402

METRICS = (
    *("object_crop_psnr", "mask_iou", "st_lpips", "lpips_star", "flicker"),
    *("fvd_f", "fvd_v", "fvd_diag", "fv4d"),
)
RETRIEVAL = "nearest training instant"
Method = Callable[[FrameGrid], Tensor]  # the truth, of which only view 0 may be used -> frames [V, F, 4, H, W]


def copied(truth: FrameGrid) -> Tensor:
    """The input in every view."""
    return truth.frames[:1].expand_as(truth.frames).clone()


def mirrored(truth: FrameGrid) -> Tensor:
    """The input, mirrored in the views from behind."""
    assert truth.cameras is not None
    azimuth = truth.cameras.azimuth[:, 0] % 360
    behind = (azimuth > 90) & (azimuth < 270)
    return torch.where(behind[:, None, None, None, None], copied(truth).flip(-1), copied(truth))


def small(frames: Tensor) -> Tensor:
    """What retrieval compares: [..., 4, H, W] in [0, 1] -> [N, 3 · H/4 · W/4], on white."""
    return torch.nn.functional.avg_pool2d(composite(frames).flatten(0, -4), 4).flatten(1)


def retrieval(training: list[np.ndarray]) -> Method:
    """For each frame, the training instant whose image from some view is nearest to the input, turned to match."""
    bank = torch.from_numpy(np.concatenate(training, axis=1))  # uint8 [V, N, 4, H, W]
    keys = torch.cat([small(part.float() / 255).unflatten(0, part.shape[:2]) for part in bank.split(FRAMES, 1)], dim=1)
    count = bank.shape[1]

    def method(truth: FrameGrid) -> Tensor:
        nearest = torch.cdist(small(truth.frames[0]), keys.flatten(0, 1)).argmin(dim=1)
        view, instant = nearest // count, nearest % count
        frames = torch.stack([bank[(view + step) % VIEWS, instant] for step in range(VIEWS)]).float() / 255
        return torch.cat([composite(frames), frames[:, :, 3:]], dim=2)

    return method


def sampled(pipeline: Pipeline, sampler: SamplerOptions, plan: PlanOptions, seed: int = 0) -> Method:
    """The model, by its own plan or another; each clip starts from noise of its own (for the Fréchet distances)."""

    def method(truth: FrameGrid) -> Tensor:
        video = to_uint8(rearrange(truth.frames[0], "f c h w -> f h w c"))
        options = {
            "cameras": truth.cameras,
            "preprocess": PreprocessOptions(crop="none"),
            "sampler": sampler,
            "plan": plan,
            "size": video.shape[1],
        }
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}:{truth.provenance['id']}".encode()))
        return pipeline(video, **options, generator=generator).frames  # type: ignore[arg-type]

    return method


def score(
    method: Method, truths: list[FrameGrid], name: str, metrics: tuple[str, ...] = METRICS
) -> tuple[Summary, list[FrameGrid], list[float]]:
    """Run a method over all clips."""
    bank = FilterBank()
    pairs: dict[str, ImagePairMetric] = {"lpips_star": LpipsStar(bank)}
    if "st_lpips" in metrics:
        pairs["st_lpips"] = StLpips()
    evaluator = GridEvaluator(Settings(metrics=metrics), bank, pairs)
    made, iou = [], []
    for truth in progress(truths, name):
        grid = FrameGrid(method(truth), truth.known, truth.cameras, truth.fps, truth.provenance)
        iou.append(evaluator.add(grid, truth, truth.provenance["id"]).values["mask_iou"])
        made.append(grid)
    return summarise(evaluator, bootstrap=0), made, iou


def table(summaries: dict[str, Summary], clips: int, frames: int) -> str:
    """One row a method, one column a metric."""
    names = [row.name for row in next(iter(summaries.values())).rows]
    lines = [f"{clips} held-out clips, {VIEWS - 1} novel views × {frames} frames", ""]
    lines += ["| method | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for method, summary in summaries.items():
        lines.append(f"| {method} | " + " | ".join(f"{row.value:.3f}" for row in summary.rows) + " |")
    azimuths = list(next(iter(summaries.values())).iou_by_azimuth)
    lines += ["", "| mask IoU by azimuth | " + " | ".join(f"{a}°" for a in azimuths) + " |"]
    lines += ["|---|" + "---|" * len(azimuths)]
    for method, summary in summaries.items():
        lines.append(f"| {method} | " + " | ".join(f"{v:.3f}" for v in summary.iou_by_azimuth.values()) + " |")
    return "\n".join(lines) + "\n"


def by_kind(truths: list[FrameGrid], iou: dict[str, list[float]]) -> str:
    """Mean mask IoU of each group of held-out assets, one row a group, one column a method."""
    assets = [truth.provenance["id"].partition("/")[0] for truth in truths]
    lines = ["", "| mask IoU | clips | " + " | ".join(iou) + " |", "|---|---|" + "---|" * len(iou)]
    for group, ids in held_out_groups(HELD_OUT).items():
        chosen = [index for index, asset in enumerate(assets) if asset in ids]
        if chosen:
            means = [f"{np.mean([values[index] for index in chosen]):.3f}" for values in iou.values()]
            lines.append(f"| {group} | {len(chosen)} | " + " | ".join(means) + " |")
    return "\n".join(lines) + "\n"


def sheets(truths: list[FrameGrid], made: list[FrameGrid], iou: list[float], out: Path) -> None:
    """Truth and result row by row for the best, the median and the worst clip by IoU."""
    order = sorted(range(len(iou)), key=lambda index: -iou[index])
    for label, index in (("best", order[0]), ("median", order[len(order) // 2]), ("worst", order[-1])):
        pair = torch.stack([truths[index].rgb(), made[index].rgb()], dim=1)
        rows = rearrange(pair[::2], "v s f c h w -> (v s) f c h w")
        labels = [f"{text} {40 * v}°" for v in range(0, VIEWS, 2) for text in ("truth", "mini")]
        contact_sheet(rows, out / f"{label}.png", row_labels=labels, max_columns=6)
        print(f"{label}: {truths[index].provenance['id']} IoU {iou[index]:.3f}: {out / f'{label}.png'}")


def worst(truths: list[FrameGrid], made: list[FrameGrid], iou: list[float], out: Path, count: int = 10) -> None:
    """The first frame of the clips of the lowest IoU, all views in a row: truth above result, the lowest first."""
    order = sorted(range(len(iou)), key=lambda index: iou[index])[:count]
    rows = torch.stack([grid.rgb()[:, 0] for index in order for grid in (truths[index], made[index])])
    contact_sheet(rows, out / "worst_ten.png", row_labels=["truth", "mini"] * len(order), cell_size=64)
    print("worst: " + ", ".join(f"{truths[index].provenance['id']} {iou[index]:.3f}" for index in order))


def with_depth_free(truths: list[FrameGrid], placed: dict[str, list[tuple[float, float]]]) -> str:
    """Mean over the clips of the mask IoU at each clip's best depth, and how far off that is; one row a method."""
    lines = ["", f"| {len(truths)} clips, depth free | mask IoU | moved, half heights |", "|---|---|---|"]
    for method, values in placed.items():
        iou, moved = np.array(values).T
        lines.append(f"| {method} | {iou.mean():.3f} | {np.abs(moved).mean():.3f} |")
    return "\n".join(lines) + "\n"


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    domain = parser.add_mutually_exclusive_group(required=True)
    domain.add_argument("--assets", type=Path)
    domain.add_argument("--curated", type=Path)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "kaykit64")
    parser.add_argument("--group", choices=("nine", "kinds"), default="nine", help="of the list of held-out assets")
    parser.add_argument("--clips", type=int, default=2, help="of each held-out asset")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of a held-out asset's clip")
    parser.add_argument("--size", type=int, default=64, help="of its pictures")
    parser.add_argument("--elevation", type=float, default=12.0, help="of its cameras")
    parser.add_argument("--new-colours", action="store_true", help="of its parts")
    parser.add_argument("--methods", nargs="+", help="some of the table's rows, by name; default: all")
    parser.add_argument("--metrics", nargs="+", choices=METRICS, default=METRICS, help="mask_iou always")
    parser.add_argument("--weights", default="mini")
    parser.add_argument("--steps", type=int, help="default: the model's")
    parser.add_argument("--shift", type=float, help="of the schedule; default: the model's")
    parser.add_argument("--alpha-range", type=float, nargs=2, help="default: the model's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=24)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "mini_table")
    return parser.parse_args()


def truth_of(options: argparse.Namespace, chosen: Callable[[str], bool]) -> Truth:
    """What the methods are compared with; clips to retrieve from only where a chosen method does."""
    if not options.curated:
        return family_truth(options.assets, options.folder, options.limit)
    shown = Conditions(options.frames, options.size, options.elevation, options.new_colours)
    groups = ["nine"] if options.group == "nine" else [name for name in held_out_groups(HELD_OUT) if name != "nine"]
    held_out = held_out_clips(options.curated, [name for name in groups if name != "thin"], shown, options.clips)
    return Truth(held_out, training_clips(options.curated, shown, options.clips) if chosen(RETRIEVAL) else [])


def main() -> int:
    """Parse, score every method, write the table and the sheets."""
    options = arguments()
    set_up_logging()

    def chosen(name: str) -> bool:
        return not options.methods or name in options.methods

    measured = tuple(dict.fromkeys([*options.metrics, "mask_iou"]))
    truth = truth_of(options, chosen)
    pipeline = Pipeline.from_pretrained(options.weights, device="cpu")
    alpha_range = tuple(options.alpha_range) if options.alpha_range else None
    sampler = SamplerOptions(steps=options.steps, shift=options.shift, alpha_range=alpha_range)
    own, shared = (replace(sampler, frame_noise=kind) for kind in ("independent", "shared"))
    by_itself = PlanOptions(kind="independent", window_frames=1)  # no frame attention
    methods: dict[str, Callable[[], Method]] = {
        "input copied": lambda: copied,
        "copied, mirrored behind": lambda: mirrored,
        RETRIEVAL: lambda: retrieval(truth.training),
        "mini, frame by frame": lambda: sampled(pipeline, own, by_itself, options.seed),
        "mini, frame by frame, shared noise": lambda: sampled(pipeline, shared, by_itself, options.seed),
        "mini, all frames at once": lambda: sampled(pipeline, sampler, PlanOptions(kind="joint"), options.seed),
        "mini": lambda: sampled(pipeline, sampler, PlanOptions(), options.seed),
    }
    summaries, overlap, placed = {}, {}, {}
    options.out.mkdir(parents=True, exist_ok=True)
    for name, make in methods.items():
        if not chosen(name):
            continue
        summaries[name], made, overlap[name] = score(make(), truth.held_out, name, measured)
        write_json(summaries[name], options.out / f"{name.replace(' ', '_').replace(',', '')}.json")
        placed[name] = [iou_at_best_depth(*pair) for pair in zip(made, truth.held_out, strict=True)]
        if name == "mini":
            sheets(truth.held_out, made, overlap[name], options.out)
            worst(truth.held_out, made, overlap[name], options.out)
    text = table(summaries, len(truth.held_out), truth.held_out[0].shape[1]) + with_depth_free(truth.held_out, placed)
    if options.curated:
        text += by_kind(truth.held_out, overlap)
    (options.out / "table.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
