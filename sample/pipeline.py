"""The Python API, in the shape that users of diffusers know: `Pipeline.from_pretrained(...)`, `pipe(video, ...)`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.configs.schema.sample import CameraOptions, PlanOptions, PreprocessOptions, SamplerOptions
from viewtime.device import choose_device
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.hub import push
from viewtime.images import composite
from viewtime.log import progress_bar
from viewtime.model.attention import Backend
from viewtime.model.weight_names import find_weights
from viewtime.sample.forms import OutputType, PipelineOutput, in_form
from viewtime.sample.input.preprocess import prepare_video
from viewtime.sample.input.read import as_video, finer_side, read_beginning
from viewtime.sample.models.grid_model import GridModel, ModelTraits
from viewtime.sample.models.loading import load_model
from viewtime.sample.plan.plan import Window, input_row
from viewtime.sample.plan.trajectory import make_cameras
from viewtime.sample.run.job import Job
from viewtime.sample.run.processes import Processes
from viewtime.sample.run.references import ReferenceViews
from viewtime.sample.run.resume import goes_on, job_mark
from viewtime.sample.run.runner import own_steps, run_plan
from viewtime.sample.run.settle import settle_plan, settle_sampler
from viewtime.sample.run.store import CellStore
from viewtime.video import Video


class Pipeline:
    """A model with everything around it: video in, `FrameGrid` out.

    >>> pipe = Pipeline.from_pretrained().to("cpu")
    >>> grid = pipe("in.mp4", frames=3, num_inference_steps=1, generator=torch.Generator().manual_seed(0))
    >>> grid.shape  # the input and eight novel views
    (9, 3, 4, 128, 128)

    Args:
        model: what is sampled.
        reference: makes reference views of frame 0 for a model that needs them.
        weights: files that both were read from, by which a kept run is told from others.
        held: how the weights are held, where not by default: `dtype` and `int8` of the sample command; likewise.
    """

    def __init__(
        self,
        model: GridModel,
        reference: ReferenceViews | None = None,
        weights: Sequence[Path] = (),
        held: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.reference, self.weights = model, reference, tuple(weights)
        self.held = {"dtype": None, "int8": False} | dict(held or {})

    @staticmethod
    def from_pretrained(
        name_or_file: str | Path = "mini-generalist",
        *,
        model: str | None = None,
        torch_dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        chunk: int = 8,
        offload: bool = False,
        reference_weights: str | Path | None = None,
        attention: Backend = "sdpa",
        compile: bool = False,
        offline: bool = False,
        int8: bool = False,
    ) -> Pipeline:
        """Load weights by name ("mini", "stabilityai/sv4d2.0", "hf://…"), file or folder; see `find_weights`.

        Args:
            model: what the file must hold.
            torch_dtype: of all parts; default: float32 on the CPU, on CUDA what each part loses least by
                (`viewtime.model.precision`).
            device: default: CUDA where there is one.
            chunk, offload: see `MemoryOptions`.
            reference_weights: SV3D weights, for SV4D.
            attention, compile, int8: see `load_model`.
            offline: download nothing.

        Raises:
            UserError: no such weights, or another model's.
        """
        place = choose_device(device)
        options = {
            "chunk": chunk, "offload": offload, "attention": attention, "compile": compile, "offline": offline,
            "int8": int8,
        }  # fmt: skip
        loaded = load_model(str(name_or_file), place, torch_dtype, model, **options)
        reference = None
        if reference_weights is not None:
            source = load_model(str(reference_weights), place, torch_dtype, **options)
            reference = ReferenceViews(source)
        names = [str(name) for name in (name_or_file, reference_weights) if name is not None]
        held = {"dtype": named(torch_dtype), "int8": int8}
        return Pipeline(loaded, reference, [find_weights(name, offline) for name in names], held)

    @property
    def traits(self) -> ModelTraits:
        """What the model is made for."""
        return self.model.traits

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Pipeline:
        """Move the model; returns itself."""
        self.model.to(device, dtype)
        if self.reference is not None:
            self.reference.model.to(device, dtype)
        if dtype is not None:
            self.held["dtype"] = named(dtype)
        return self

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the weights into a folder that `from_pretrained` reads.

        Raises:
            UserError: they are held in 8 bits.
        """
        self.model.save(Path(folder))
        return Path(folder)

    def push_to_hub(self, repo: str, *, private: bool = False) -> str:
        """Upload what `save_pretrained` writes as the model repository `repo` ("owner/name"); the commit's address.

        Raises:
            UserError: no token, no right to write there, or no network.
        """
        with tempfile.TemporaryDirectory() as folder:
            return push(self.save_pretrained(folder), repo, private)

    def prepare(
        self,
        video: str | Path | Video | np.ndarray | Tensor,
        *,
        views: int | None = None,
        frames: int | None = None,
        size: int | None = None,
        seed: int = 0,
        camera: CameraOptions | None = None,
        cameras: Cameras | None = None,
        preprocess: PreprocessOptions | None = None,
        mask: str | Path | np.ndarray | None = None,
        sampler: SamplerOptions | None = None,
        plan: PlanOptions | None = None,
        reference_views: Tensor | None = None,
        batch_windows: int = 1,
        split_guidance: bool = False,
    ) -> Job:
        """Check and settle everything; samples nothing.

        Args:
            frames: at most that many of the video, from its start, counted at the rate of `preprocess.fps`.
            mask: of the object, one per frame of the video: files as `--mask` takes them, or uint8 [F, H, W].

        Raises:
            UserError: an input that cannot be used, or options that do not fit the model.
        """
        traits = self.traits
        cell = self.cell(size)
        novel = traits.novel_views if views is None else views
        plan = plan or PlanOptions()
        self._check_views(novel, plan)
        fps = None if preprocess is None else preprocess.fps
        prepared = prepare_video(as_video(video, frames, fps), cell, preprocess, traits.object_share, mask, frames)
        if isinstance(video, (str, Path)):  # a small object, from the pixels that there are
            side = finer_side(prepared.source_size, min(crop.side for crop in prepared.crops), cell[0])
            if side is not None:
                fine = read_beginning(video, frames, fps, side)
                prepared = prepare_video(fine, cell, preprocess, traits.object_share, mask, frames)
        count = len(prepared.cells)
        orbit = cameras or make_cameras(camera or CameraOptions(), novel, count, traits.azimuths, traits.elevation)
        if cameras is not None and cameras.shape != (1 + novel, count):
            raise UserError(f"cameras are {cameras.shape}; the grid has {1 + novel} rows × {count} frames")
        given = set(input_row(count))
        if reference_views is not None:
            if len(reference_views) != novel:
                raise UserError(f"{len(reference_views)} reference views; {novel} are needed, one per novel view")
            given |= {(view, 0) for view in range(1, novel + 1)}
        elif traits.needs_reference and self.reference is None:
            raise UserError(
                f"{traits.name} needs reference views of the first frame: give a freeze-time video "
                "(--freeze-video), your own views (--reference.orbit), or SV3D weights (--reference.weights)"
            )
        if len(given) == (1 + novel) * count:
            raise UserError(f"a grid of {1 + novel} rows × {count} frames is all given: nothing is left to make")
        settled = settle_plan(traits, novel, count, frozenset(given), plan)
        settings = settle_sampler(traits, self.model.denoiser.schedule_kind, sampler or SamplerOptions(), seed)
        settings = replace(settings, batch_windows=batch_windows, split_guidance=split_guidance)
        told = cameras is not None or (camera is not None and bool(camera.azimuths or camera.trajectory))
        return Job(prepared, orbit, settled, settings, traits.sees_cameras or told, reference_views)

    def cell(self, size: int | None) -> tuple[int, int]:
        """(height, width) of a cell in pixels for this height, which the model is set to; None leaves the model's own.

        Raises:
            UserError: the model makes no cells of this size.
        """
        if size is None or size == self.traits.size:
            return self.traits.cell
        if size < 1:
            raise UserError(
                f"--size {size}; at least 1 pixel is needed, and {self.traits.name} makes {self.traits.size}"
            )
        resize = getattr(self.model, "resize", None)
        if resize is None:
            raise UserError(
                f"{self.traits.name} makes cells of {self.traits.size} pixels; --size {size} is not possible"
            )
        resize(size)
        return self.traits.cell

    def _check_views(self, novel: int, plan: PlanOptions) -> None:
        if novel < 1:
            raise UserError(f"--views {novel}; at least 1 novel view is needed")
        if novel > self.traits.novel_views and (plan.kind or self.traits.plan) != "autoregressive":
            raise UserError(
                f"{novel} novel views; {self.traits.name} takes at most {self.traits.novel_views} at once: "
                "ask for fewer --views, or extend along the views with --plan.kind autoregressive"
            )

    def run(
        self,
        job: Job,
        store: CellStore,
        processes: Processes | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> Iterator[Window]:
        """Sample a job's windows into a store, yielding each as soon as it is finished; resumes what is there.

        Args:
            on_step: called with the number of sampling steps done, over all windows.
        """
        processes = processes or Processes()
        if processes.first:
            put_inputs(job, store, self.traits.channels)
        processes.wait()
        share = own_steps(job.plan, job.settings, processes)
        make = self.reference.maker(job.cameras, job.settings, store) if self.reference is not None else None
        with progress_bar("sampling steps", share, on_step) as bar:
            yield from run_plan(
                job.plan, self.model, store, job.cameras, job.settings,
                processes=processes, make_reference=make, bar=bar,
            )  # fmt: skip

    def __call__(
        self,
        video: str | Path | Video | np.ndarray | Tensor,
        *,
        views: int | None = None,
        generator: torch.Generator | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        folder: str | Path | None = None,
        output_type: OutputType = "grid",
        return_dict: bool = False,
        callback_on_step_end: Callable[[Pipeline, int, int, dict[str, Any]], Any] | None = None,
        **options: Any,
    ) -> Any:
        """Sample a grid.

        Args:
            video: a path, a `Video`, or frames [F, H, W, 3 | 4] (uint8, or floats in [0, 1]).
            views: number of novel views.
            generator: its seed is the seed of the grid; noise is drawn per cell on the CPU, so any device will do.
            num_inference_steps, guidance_scale: as in diffusers; the scale is constant over the cells.
            folder: keep finished windows there, and resume from them where input, options and weights are the same.
            output_type: "grid" (a `FrameGrid`), "pt" ([V, F, C, H, W] in [0, 1]), "np" ([V, F, H, W, C] in [0, 1]) or
                "pil" (a list of views, each a list of pictures).
            return_dict: wrap the result in a `PipelineOutput`, whose `frames` it is.
            callback_on_step_end: called after each sampling step with this pipeline, the steps done and all steps of
                the run, and an empty dict; diffusers' callbacks fit. It may raise to stop.
            options: see `prepare`.

        Returns:
            The grid, in the form asked for.
        """
        if output_type not in get_args(OutputType):
            raise UserError(f"output_type {output_type!r}; one of {', '.join(get_args(OutputType))}")
        sampler = options.pop("sampler", None) or SamplerOptions()
        if num_inference_steps is not None:
            sampler = replace(sampler, steps=num_inference_steps)
        if guidance_scale is not None:
            sampler = replace(sampler, guidance="constant", guidance_high=guidance_scale)
        if generator is not None:
            options["seed"] = generator.initial_seed()
        job = self.prepare(video, views=views, sampler=sampler, **options)
        with tempfile.TemporaryDirectory() as temporary:
            store = CellStore(Path(folder) if folder is not None else Path(temporary), job.plan)
            store.start(job_mark(job, self.weights, self.held), goes_on)
            steps = job.settings.schedule.steps * len(job.plan.windows)
            told = callback_on_step_end
            for _ in self.run(job, store, on_step=told and (lambda done: told(self, done, steps, {}))):
                pass
            grid = collect(job, store, self.traits)
        frames = in_form(grid, output_type)
        return PipelineOutput(frames, grid) if return_dict else frames


def named(dtype: torch.dtype | None) -> str | None:
    """A number format as the commands' options name it: "bfloat16"."""
    return None if dtype is None else str(dtype).removeprefix("torch.")


def put_inputs(job: Job, store: CellStore, channels: int) -> None:
    """Write the given cells into a store, on white where the model makes RGB (channels 3)."""
    given = {(0, frame): cell_tensor(cell) for frame, cell in enumerate(job.prepared.cells)}
    references = job.reference_views if job.reference_views is not None else ()
    given |= {(view, 0): cell for view, cell in enumerate(references, start=1)}
    for place, cell in given.items():
        store.put_given(place, cell if channels == 4 else composite(cell))


def cell_tensor(cell: np.ndarray) -> Tensor:
    """uint8 [H, W, C] -> float [C, H, W] in [0, 1]."""
    return rearrange(torch.from_numpy(cell).float() / 255.0, "h w c -> c h w")


def collect(job: Job, store: CellStore, traits: ModelTraits) -> FrameGrid:
    """The finished grid in memory."""
    rows = [store.row(view) for view in range(job.plan.problem.views)]
    return FrameGrid(torch.stack(rows), job.known, job.true_cameras, job.prepared.fps, provenance(job, traits))


def provenance(job: Job, traits: ModelTraits) -> dict[str, Any]:
    """What `grid.json` says of where the grid comes from."""
    return {
        "made_by": "viewtime sample",
        "model": traits.name,
        "plan": job.plan.name,
        "sampler": job.settings.sampler,
        "steps": job.settings.schedule.steps,
        "guidance": job.settings.guidance.kind,
        "alpha_range": list(job.settings.alpha_range),
        "seed": job.settings.seed,
        "input": job.prepared.record(),
    }
