"""`viewtime sample` and `python sample.py`: one video in, a grid of views × frames out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from viewtime.configs.schema.sample import SampleConfig
from viewtime.device import choose_device
from viewtime.errors import UserError
from viewtime.log import log
from viewtime.model.four_real.text import ClipText
from viewtime.model.weight_names import find_weights
from viewtime.run_folder import start_run
from viewtime.run_lock import alone_in
from viewtime.sample.first_words import first_words
from viewtime.sample.input.preprocess import write_preview
from viewtime.sample.output import write_outputs, write_small_grid, write_stream
from viewtime.sample.pipeline import Job, Pipeline, provenance
from viewtime.sample.plan import plan_view
from viewtime.sample.run.memory import fit_card, fit_windows
from viewtime.sample.run.processes import Processes, join_processes
from viewtime.sample.run.references import check_same_start, read_freeze_video, read_reference_views
from viewtime.sample.run.resume import goes_on, run_mark
from viewtime.sample.run.store import CellStore
from viewtime.sample.run.upsample import Enlarger
from viewtime.sample.run_place import check_place, run_folder_of
from viewtime.video import read_video

SMALL_LOOK = 256  # pixels of the longer side, enough to see that a video can be read
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def run(config: SampleConfig) -> list[Path]:
    """Sample a video and write the grid; returns what was written.

    Raises:
        UserError: see `Pipeline.prepare` and `load_pipeline`; or the output folder cannot be written.
    """
    if config.freeze_video is not None:
        check_same_start(config.video, config.freeze_video)
    processes = join_processes()
    folder = run_folder_of(config)
    if not processes.first:
        processes.wait()
        return _run(config, folder, processes)
    check_place(config, folder)
    with alone_in(folder):
        start_run(folder, "sample", config, config.seed)
        processes.wait()
        return _run(config, folder, processes)


def _run(config: SampleConfig, folder: Path, processes: Processes) -> list[Path]:
    memory, note = fit_card(config.memory)
    config = replace(config, memory=memory)
    if note is not None and processes.first:
        log.info(note)
    check_inputs(config)
    pipeline = load_pipeline(config, processes)
    job = prepare_job(pipeline, config)
    enlarger = Enlarger(config, pipeline.model.device, pipeline.traits) if config.upsampler is not None else None
    for note in job.prepared.notes if processes.first else ():
        log.warning(note)
    if config.show_plan:
        print(plan_view.table(job.plan))
        return [plan_view.draw(job.plan, folder / "plan.png")]
    preview = folder / "preview.png"
    if processes.first:
        write_preview(job.prepared, preview)
        for line in first_words(pipeline, job, config.weights, preview, config.memory):
            log.info(line)
    store = CellStore(folder / "windows", job.plan)
    _open_store(store, config, job, processes, folder / "stream")
    for window in pipeline.run(job, store, processes):
        if config.stream:
            write_stream(job, store, window, folder / "stream")
    if not processes.first:
        return []
    facts = provenance(job, pipeline.traits) | ({"prompt": config.text.prompt} if config.text.prompt else {})
    if enlarger is None:
        written = write_outputs(job, store.read, facts, config, folder)
    else:
        small = write_small_grid(job, store.read, facts, folder)
        read, more = enlarger(store)
        written = [small, *write_outputs(job, read, facts | more, config, folder)]
    if not config.keep_windows:
        store.remove()
    return [preview, *written]


def check_inputs(config: SampleConfig) -> None:
    """Open every input before gigabytes of weights are read: the first frame of each video, and each weight file.

    Raises:
        UserError: one of them is not there or is nothing that can be read.
    """
    for source in (config.video, config.freeze_video, config.reference.orbit):
        if source is not None:
            read_video(source, 1, SMALL_LOOK)
    for weights in (config.weights, config.reference.weights, config.upsampler, config.text.weights):
        if weights is not None:
            find_weights(weights, config.offline)


def load_pipeline(config: SampleConfig, processes: Processes) -> Pipeline:
    """The model with its prompt and, where named, the one that makes reference views.

    Raises:
        UserError: a prompt without a text encoder, or for a model that takes none.
    """
    device = choose_device(config.device)
    if device.type == "cuda" and device.index is None and processes.world > 1:
        device = torch.device("cuda", processes.local_rank)
    pipeline = Pipeline.from_pretrained(
        config.weights,
        model=config.model,
        torch_dtype=DTYPES[config.dtype] if config.dtype else None,
        device=device,
        chunk=config.memory.chunk,
        offload=config.memory.offload,
        reference_weights=config.reference.weights,
        attention=config.attention,
        compile=config.compile,
        offline=config.offline,
        int8=config.int8,
    )
    if config.text.prompt:
        describe = getattr(pipeline.model, "describe", None)
        if describe is None:
            raise UserError(f"{pipeline.traits.name} takes no prompt; leave --text.prompt out")
        if config.text.weights is None:
            raise UserError("--text.prompt needs --text.weights: the text encoder that the model was trained with")
        describe(
            config.text.prompt,
            ClipText(str(find_weights(config.text.weights, config.offline)), config.text.architecture, device),
        )
    return pipeline


def prepare_job(pipeline: Pipeline, config: SampleConfig) -> Job:
    """Everything settled from the options."""
    for name, value in (("batch-windows", config.memory.batch_windows), ("chunk", config.memory.chunk)):
        if value < 1:
            raise UserError(f"--memory.{name} {value}; at least 1 is needed")
    references, views = None, config.views
    if config.freeze_video is not None:
        if config.reference.orbit is not None:
            raise UserError("--freeze-video and --reference.orbit both give the views of frame 0; give one of them")
        references = read_freeze_video(config.freeze_video, pipeline.cell(config.size), config.preprocess, views)
        views = len(references)
    if config.reference.orbit is not None:
        references = read_reference_views(config.reference.orbit, pipeline.cell(config.size), config.preprocess)
    job = pipeline.prepare(
        config.video,
        views=views,
        frames=config.frames,
        size=config.size,
        seed=config.seed,
        camera=config.camera,
        preprocess=config.preprocess,
        mask=config.mask,
        sampler=config.sampler,
        plan=fit_windows(config.plan, config.memory.card, pipeline.traits),
        reference_views=references,
        batch_windows=config.memory.batch_windows,
        split_guidance=config.memory.split_guidance,
    )
    if config.dnerf and not job.cameras_known:
        raise UserError(
            f"--dnerf needs cameras, which {pipeline.traits.name} does not see: give --camera.azimuths or "
            "--camera.trajectory, or leave it out"
        )
    return job


def _open_store(store: CellStore, config: SampleConfig, job: Job, processes: Processes, stream: Path) -> None:
    """Resume what an interrupted run of the same options and the same input left, otherwise start anew.

    Args:
        stream: where finished cells go with --stream; what the interrupted run owed is written.
    """
    if processes.first:
        if store.start(run_mark(config, job), goes_on):
            done = [window for window in job.plan.windows if store.finished(window)]
            log.info(f"resuming: {len(done)} of {len(job.plan.windows)} windows are there")
            for window in done if config.stream else ():
                write_stream(job, store, window, stream)
        elif config.stream:
            for path in stream.glob("view_*/frame_*.png"):  # of another run
                path.unlink(missing_ok=True)
    processes.wait()
