"""`viewtime evaluate`: pairs of grids in, a table with the protocol of every number out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from viewtime.configs.schema.evaluate import EvaluateConfig
from viewtime.device import choose_device
from viewtime.dnerf import open_grid
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.log import log, progress
from viewtime.many import videos_in
from viewtime.run_folder import RunFolder, start_run
from viewtime.run_lock import alone_in
from viewtime.sample.metrics.action_bench import check_meshes, score_meshes
from viewtime.sample.metrics.assets import render_asset
from viewtime.sample.metrics.clip_score import clip_score, clip_score_summary
from viewtime.sample.metrics.consistent4d import objects_in, open_pair
from viewtime.sample.metrics.evaluator import FRECHET, PIXEL_METRICS, GridEvaluator, Settings
from viewtime.sample.metrics.four_real import FourRealEvaluator, load_plugin
from viewtime.sample.metrics.networks.filter_bank import FilterBank
from viewtime.sample.metrics.networks.inception import Inception
from viewtime.sample.metrics.networks.perceptual import ClipSimilarity, ImagePairMetric, Lpips, LpipsStar, StLpips
from viewtime.sample.metrics.networks.video import VideoNetwork, load_video_network
from viewtime.sample.metrics.picture import write_picture
from viewtime.sample.metrics.report import markdown, write_json, write_markdown
from viewtime.sample.metrics.summary import NAMES, Summary, summarise
from viewtime.sample.metrics.tables import as_the_table, table_protocol
from viewtime.where import grids_in

PERCEPTUAL = ("lpips", "st_lpips", "lpips_star", "clip_s")
EVERYTHING = (*PIXEL_METRICS, *PERCEPTUAL, "flicker", *FRECHET)


def run(config: EvaluateConfig) -> list[Path]:
    """Score every pair; write evaluate.json, evaluate.md and evaluate.png (and asset.*) into the run folder.

    Raises:
        UserError: nothing to compare, unequal lists, grids that differ, or a metric asked for that cannot be had.
    """
    config = as_the_table(config)
    _check(config)
    gt = expand(config.gt)
    pred = expand(config.pred)
    pairs = match(pred, gt, config.intersect) if gt and pred else []
    if config.asset and len(config.asset) != len(gt):
        raise UserError(f"{len(config.asset)} assets and {len(gt)} truths; give one truth per asset")
    networks = build_metrics(config, bool(gt))
    with alone_in(config.out):
        return _evaluate(config, pred, gt, pairs, networks)


def _evaluate(config: EvaluateConfig, pred: list[Path], gt: list[Path], pairs: list, networks: tuple) -> list[Path]:
    network, pair_metrics, missing = networks
    folder = start_run(config.out, "evaluate", config, config.seed)
    written: list[Path] = []
    if pairs:
        loaded = ((*open_pair(a, b), name_of(a)) for a, b in pairs)
        written += _score(config, loaded, [b for _, b in pairs], network, pair_metrics, missing, folder, "evaluate")
    if config.asset:
        rendered = (
            (render_asset(path, truth), truth, path.stem)
            for path, truth in ((path, open_grid(where)) for path, where in zip(config.asset, gt, strict=True))
        )
        written += _score(config, rendered, gt, network, pair_metrics, missing, folder, "asset")
    if config.mesh:
        written += _write(score_meshes(config), folder, "mesh")
    if config.prompt:
        written += _clip_score(config, pred, folder)
    if config.four_real:
        written += _four_real(config, pred, network, folder)
    return written


def expand(paths: list[Path]) -> list[Path]:
    """Grid folders, or objects in Consistent4D's layout; a folder that is none itself stands for those in it.

    Raises:
        UserError: a path is missing or holds no grid.
    """
    grids: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UserError(f"no such grid folder: {path}")
        runs = sorted(path.iterdir()) if path.is_dir() else []
        inside = grids_in(path) or objects_in(path) or [grid for run in runs for grid in grids_in(run)]
        if not inside:
            raise UserError(f"{path} is no grid folder and holds none (no grid.json)")
        grids += inside
    return grids


def name_of(path: Path) -> str:
    """What a grid is called: its folder's name, or that of the run whose `grid` it is."""
    return path.resolve().parent.name if path.name == "grid" else path.name


def match(pred: list[Path], gt: list[Path], intersect: bool = False) -> list[tuple[Path, Path]]:
    """Pairs by name where the two sides have names in common, else in the order given.

    Raises:
        UserError: a grid has no partner (and `intersect` is not set), or the lists have unequal lengths.
    """
    names = {name_of(path): path for path in gt}
    made = {name_of(path): path for path in pred}
    by_name = len(names) == len(gt) and len(made) == len(pred)
    common = [name for name in made if name in names]
    if by_name and common and (len(pred) > 1 or len(gt) > 1):
        lonely = sorted(made.keys() ^ names.keys())
        if lonely and not intersect:
            shown = ", ".join(lonely[:5]) + (f" and {len(lonely) - 5} more" if len(lonely) > 5 else "")
            raise UserError(f"grids on one side only: {shown}; use --intersect to score the {len(common)} others")
        if lonely:
            log.info("left out, on one side only: %s", ", ".join(lonely))
        return [(made[name], names[name]) for name in common]
    if len(pred) != len(gt):
        raise UserError(f"{len(pred)} predictions and {len(gt)} truths without names in common; give equal lists")
    return list(zip(pred, gt, strict=True))


def build_metrics(
    config: EvaluateConfig, with_truth: bool = True
) -> tuple[VideoNetwork | None, dict[str, ImagePairMetric], dict[str, str]]:
    """The networks, and for each metric that cannot be had the reason.

    Args:
        with_truth: False loads none of the metrics of pairs.

    Raises:
        UserError: a metric was asked for by name and its network is not there.
    """
    wanted = tuple(config.metrics) or EVERYTHING
    device = str(choose_device(config.device))
    pair_metrics: dict[str, ImagePairMetric] = {}
    missing: dict[str, str] = {}
    # A network that was named must be there: falling back to another would be a silent substitute.
    network = None
    if config.four_real or any(name in FRECHET for name in wanted):
        network = load_video_network(config.network, config.network_weights, device, config.offline)
    builders = {
        "lpips": lambda: Lpips(config.lpips_net, device, config.offline),
        "st_lpips": lambda: StLpips(device=device),
        "lpips_star": lambda: LpipsStar(FilterBank(device)),
        "clip_s": lambda: ClipSimilarity(config.clip_model, config.clip_weights, device, config.offline),
    }
    for name in wanted:
        if name not in builders or not with_truth:
            continue
        try:
            pair_metrics[name] = builders[name]()
        except UserError as error:
            if config.metrics:
                raise
            log.warning("%s is left out: %s", NAMES[name], error)
            missing[name] = str(error)
    return network, pair_metrics, missing


def _score(
    config: EvaluateConfig,
    loaded: Iterator[tuple[FrameGrid, FrameGrid, str]],
    truths: list[Path],
    network: VideoNetwork | None,
    pair_metrics: dict[str, ImagePairMetric],
    missing: dict[str, str],
    folder: RunFolder,
    stem: str,
) -> list[Path]:
    wanted = tuple(name for name in (config.metrics or EVERYTHING) if name not in missing)
    protocol = table_protocol(config.table, [name_of(path) for path in truths]) if config.table else {}
    settings = Settings(
        metrics=wanted,
        background=config.background,
        all_cells=config.all_cells,
        clip_frames=config.clip_frames,
        clip_stride=config.clip_stride,
        resize=config.resize,
        intersect=config.intersect,
        relative_azimuth=config.relative_azimuth,
        wrap_views=config.wrap_views,
    )
    evaluator = GridEvaluator(settings, network, pair_metrics)
    for pred, gt, name in progress(loaded, "scoring pairs", total=len(truths)):
        try:
            evaluator.add(pred, gt, name)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
    summary = summarise(evaluator, config.bootstrap, config.seed)
    summary.not_computed = missing | summary.not_computed
    summary.protocol |= protocol
    written = _write(summary, folder, stem)
    picture = write_picture(evaluator, folder.path(f"{stem}.png"))
    return written + ([picture] if picture else [])


def _clip_score(config: EvaluateConfig, pred: list[Path], folder: RunFolder) -> list[Path]:
    if len(config.prompt) != len(pred):
        raise UserError(f"{len(config.prompt)} prompts and {len(pred)} predictions; give one --prompt per --pred grid")
    device = str(choose_device(config.device))
    clip = ClipSimilarity(config.clip_model, config.clip_weights, device, config.offline)
    scores = [
        clip_score(open_grid(path), text, clip, config.background)
        for path, text in progress(list(zip(pred, config.prompt)), "CLIP score")
    ]
    return _write(clip_score_summary(scores, clip, config.background), folder, "clip_score")


def _four_real(config: EvaluateConfig, pred: list[Path], network: VideoNetwork | None, folder: RunFolder) -> list[Path]:
    assert network is not None, "build_metrics loads a network for this protocol"
    plugins = [load_plugin(target) for target in config.confidence_plugin]
    inception = None
    if config.fid_weights is not None:
        inception = Inception(config.fid_weights, str(choose_device(config.device)))
    evaluator = FourRealEvaluator(network, plugins, config.clip_frames, config.background, inception)
    for path in progress(pred, "4Real-Video's protocol"):
        evaluator.add(open_grid(path))
    if config.real_videos is not None:
        for path in progress(list(videos_in(config.real_videos).values()), "real videos"):
            evaluator.add_real_video(path)
    rows, missing = evaluator.rows()
    protocol = {"grids": len(pred), "background": config.background, "interval": "none"}
    if config.table is not None:
        protocol |= table_protocol(config.table, [name_of(path) for path in pred])
    return _write(Summary(rows, missing, {}, protocol), folder, "four_real")


def _write(summary: Summary, folder: RunFolder, stem: str) -> list[Path]:
    print(markdown(summary))
    return [
        write_json(summary, folder.path(f"{stem}.json")),
        write_markdown(summary, folder.path(f"{stem}.md")),
    ]


def _check(config: EvaluateConfig) -> None:
    check_meshes(config)
    if not config.pred and not config.asset and not config.mesh:
        raise UserError("nothing to score: give --pred GRID… (or --asset FILE…, or --mesh FILE…)")
    needs_truth = config.asset or (config.pred and not (config.four_real or config.prompt))
    if needs_truth and not config.gt:
        raise UserError("no truth: give --gt GRID…, one per prediction (only --four-real and --prompt measure without)")
    if not 0.0 <= config.background <= 1.0:
        raise UserError(f"--background {config.background}; a grey level from 0 (black) to 1 (white)")
    for name in ("clip_frames", "clip_stride"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} {value}; at least 1")
    if config.clip_stride is not None and config.clip_frames is None:
        raise UserError("--clip-stride changes nothing without --clip-frames")
    if config.bootstrap < 0:
        raise UserError(f"--bootstrap {config.bootstrap}; 0 for none, or the number of resamplings")
    if (config.confidence_plugin or config.real_videos or config.fid_weights) and not config.four_real:
        raise UserError("--confidence-plugin, --real-videos and --fid-weights belong to --four-real; add it")
    if config.real_videos is not None and not config.real_videos.is_dir():
        raise UserError(f"no such folder of real videos: {config.real_videos}")
    if config.real_videos is not None and not videos_in(config.real_videos):
        raise UserError(f"--real-videos {config.real_videos}: no film and no folder of pictures in it")
    if config.metrics and not config.gt:
        raise UserError("--metrics compares with a truth: give --gt GRID… (--four-real has its own measures)")
    if config.four_real and not config.pred:
        raise UserError("--four-real measures predictions: give --pred GRID…")
