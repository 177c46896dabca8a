"""Schema of a training run: model, data, stages, loss, optimiser, EMA, checkpoints, tracking, validation, gates.

A run is a list of stages that the loop goes through by itself, so that "40k steps on static orbits, then 20k on
dynamic ones" (SV4D, Training Details) is data, not code.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from viewtime.errors import UserError

from .adversarial import CriticSection
from .loss import LossSection
from .student import StudentSection

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters whose names match get their own learning rate; the first matching group counts.

    Attributes:
        match: regular expression searched in the parameter's name.
        lr_scale: factor on the learning rate; 0 freezes.
    """

    match: str
    lr_scale: float = 1.0


@dataclass(frozen=True)
class LoraSection:
    """Low-rank adapters through peft; everything else is frozen.

    Attributes:
        target_modules: regular expression of the linear layers' names.
        rank: of the adapters.
        alpha: their scale times the rank.
        dropout: probability of zeroing an adapter's input in training.
    """

    target_modules: str
    rank: int = 16
    alpha: int = 16
    dropout: float = 0.0


@dataclass(frozen=True)
class ModelSection:
    """What is trained.

    Attributes:
        name: a key of `viewtime.train.registry.MODELS`, or "package.module:function".
        config: arguments of the builder.
        weights: file to start from, or mini for those that ship; None starts from the initialisation.
        grown: the weights are of a smaller network; tensors that they lack keep their initialisation.
        train: parameter groups; empty trains everything at the stage's learning rate. Parameters that no group
            matches are frozen when the list is not empty.
        lora: train adapters only.
        activation_checkpointing: recompute activations in the backward pass (less memory, about a third more time).
        compile: torch.compile the network.
        channels_last: memory format of convolution weights.
    """

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    grown: bool = False
    train: list[ParameterGroup] = field(default_factory=list)
    lora: LoraSection | None = None
    activation_checkpointing: bool = False
    compile: bool = False
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.grown and self.weights is None:
            raise UserError("model.grown needs model.weights, the file of the smaller network")


@dataclass(frozen=True)
class DataSection:
    """Where batches come from.

    Attributes:
        factory: a key of `viewtime.train.registry.STREAMS`, or "package.module:function".
        options: arguments of the factory (listed below: those of grids and family); a stage's `data` overrides single
            keys.
    """

    factory: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ConditioningSection:
    """What the network is told in training.

    Attributes:
        masking: mode -> probability: "first_view" (view 0 known), "first_view_and_frame" (view 0 and frame 0),
            "random" (view 0's first cell and each other cell with a random share). Empty: the stream's own mask.
        dropout: condition key -> probability of being zeroed for a sample (classifier-free guidance); keys joined
            by "+" drop together. "known" makes every cell of the sample unknown.
    """

    masking: dict[str, float] = field(default_factory=dict)
    dropout: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class OptimizerSection:
    """AdamW, or Muon for matrices with AdamW for the rest.

    Attributes:
        name: "adamw" or "muon".
        betas: of AdamW.
        eps: of AdamW.
        weight_decay: of AdamW, on matrices only.
        muon_lr_scale: Muon's learning rate is the stage's learning rate times this.
        muon_momentum: Nesterov momentum of Muon.
        clip_norm: global gradient norm limit; 0 switches clipping off.
        accumulate: micro-batches per step.
        skip_limit: the run stops after this many skipped (non-finite) steps in a row.
    """

    name: Literal["adamw", "muon"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.0
    muon_lr_scale: float = 1.0
    muon_momentum: float = 0.95
    clip_norm: float = 1.0
    accumulate: int = 1
    skip_limit: int = 20


@dataclass(frozen=True)
class ScheduleSection:
    """Learning rate over the run; progress p runs from 0 to 1 over all stages (in steps or seconds).

    Attributes:
        warmup_steps: linear rise from 0.
        decay: "constant", "linear" or "cosine" fall to `final` over the last `decay_share` of the run.
        decay_share: share of the run that the fall takes.
        final: share of the learning rate that is left at its end.
    """

    warmup_steps: int = 100
    decay: Literal["constant", "linear", "cosine"] = "constant"
    decay_share: float = 0.2
    final: float = 0.0


@dataclass(frozen=True)
class Stage:
    """One part of the run.

    Attributes:
        name: shown in logs.
        lr: learning rate.
        batch_size: samples per process and micro-batch.
        steps: length in steps; exactly one of this and `seconds`.
        seconds: length in seconds of training.
        data: keys of `data.options` that differ in this stage (orbits, resolution, views, frames…).
        factory: another stream than `data.factory`.
        loss: keys of `loss` that differ in this stage.
    """

    name: str
    lr: float
    batch_size: int
    steps: int | None = None
    seconds: float | None = None
    data: dict[str, Any] = field(default_factory=dict)
    factory: str | None = None
    loss: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise UserError(f"stage {self.name}: give exactly one of steps and seconds")
        if self.batch_size < 1 or self.lr <= 0:
            raise UserError(f"stage {self.name}: batch_size {self.batch_size} and lr {self.lr} must be above 0")


@dataclass(frozen=True)
class EmaSection:
    """Power-function EMA (EDM2, section 3.1).

    Attributes:
        lengths: relative widths sigma_rel, each kept apart; empty switches EMA off.
        every: steps between updates.
        export: the length whose weights are exported.
    """

    lengths: list[float] = field(default_factory=lambda: [0.05, 0.1])
    every: int = 1
    export: float | None = None


@dataclass(frozen=True)
class CheckpointSection:
    """When the state is written.

    Attributes:
        every_steps: steps between checkpoints; 0: only `every_seconds` counts.
        every_seconds: the same in seconds, whichever comes first; 0: only `every_steps` counts.
        keep_last: newest checkpoints kept.
        keep_every: checkpoints at multiples of this many steps are kept for ever; 0 keeps none.
        background: write while the training goes on; takes host memory for a copy of the state, which the processes
            share. Not under DeepSpeed, which writes its own shards.
    """

    every_steps: int = 1000
    every_seconds: float = 0.0
    keep_last: int = 2
    keep_every: int = 0
    background: bool = False


@dataclass(frozen=True)
class Gate:
    """A condition that the run must meet, or it stops.

    Attributes:
        metric: name in the validation record, e.g. "val/mse@1.0".
        below: upper limit; exactly one of this and `above`.
        above: lower limit.
        at_step: from here on the newest validation must meet the limit; exactly one of this and `at_seconds`.
        at_seconds: the same in seconds of training.
    """

    metric: str
    below: float | None = None
    above: float | None = None
    at_step: int | None = None
    at_seconds: float | None = None

    def __post_init__(self) -> None:
        if (self.below is None) == (self.above is None):
            raise UserError(f"gate {self.metric}: give exactly one of below and above")
        if (self.at_step is None) == (self.at_seconds is None):
            raise UserError(f"gate {self.metric}: give exactly one of at_step and at_seconds")


@dataclass(frozen=True)
class ValidationSection:
    """Held-out data through the EMA weights.

    Attributes:
        every_steps: steps between validations; 0: only `every_seconds` counts.
        every_seconds: the same in seconds, whichever comes first; 0: only `every_steps` counts.
        data: keys of `data.options` for the held-out stream; must differ from training.
        factory: another stream than `data.factory`.
        batches: how many, the same ones each time.
        batch_size: samples in each of them.
        levels: noise levels (t, or sigma for EDM) at which the error in x0 is measured.
        sample_steps: sampler steps of the sampled grids; 0 samples none.
        sample_grids: how many grids are sampled, with PSNR and LPIPS, and written as a picture.
        gates: what the metrics must reach.
    """

    every_steps: int = 0
    every_seconds: float = 0.0
    data: dict[str, Any] = field(default_factory=dict)
    factory: str | None = None
    batches: int = 2
    batch_size: int = 2
    levels: list[float] = field(default_factory=lambda: [0.2, 0.5, 0.8, 1.0])
    sample_steps: int = 0
    sample_grids: int = 2
    gates: list[Gate] = field(default_factory=list)


@dataclass(frozen=True)
class TrackingSection:
    """What is shown.

    Attributes:
        log_every: steps between console lines and records in metrics.jsonl.
        trackers: accelerate's trackers, e.g. ["wandb"]; without an account wandb runs offline.
        project: name of the project in the tracker.
        sigma_buckets: number of noise-level buckets of the loss.
        peak_flops: the machine's rate for the utilisation, in FLOP/s; None leaves utilisation out.
    """

    log_every: int = 20
    trackers: list[str] = field(default_factory=list)
    project: str = "viewtime"
    sigma_buckets: int = 5
    peak_flops: float | None = None


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        config: preset or YAML file that this came from.
        output: run folder; the same command resumes there.
        seed: of noise, masks and data.
        precision: of the forward pass; weights and optimiser state stay float32 (except under DeepSpeed).
        max_seconds: wall-clock budget of the whole run; the learning-rate decay ends with it.
        context_parallel: processes that work on each grid together, each on its share of the views, so that longer
            grids fit: of activations each holds that share. It divides the number of processes, the views and, for
            4real and 4real-upsampler, the frames; SV4D's family can be shared too.
        wait_minutes: how long processes wait for one another before the run is given up; one renders a family while
            the others wait.
        device: "auto" takes CUDA where there is one.
        dry_run: print the resolved config, parameter counts, the first batch's shapes, a step's work beside what an
            H100 and an H200 do, memory of each process on 8, 16 and 64 GPUs by strategy, and exit.
        allow_config_change: resume although the config differs from the checkpoint's.
    """

    model: ModelSection
    data: DataSection
    stages: list[Stage]
    config: str = ""
    output: str = "runs/train"
    seed: int = 0
    precision: Precision = "fp32"
    max_seconds: float | None = None
    context_parallel: int = 1
    wait_minutes: float = 120.0
    device: Literal["auto", "cpu"] = "auto"
    loss: LossSection = field(default_factory=LossSection)
    conditioning: ConditioningSection = field(default_factory=ConditioningSection)
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    critic: CriticSection = field(default_factory=CriticSection)
    student: StudentSection = field(default_factory=StudentSection)
    schedule: ScheduleSection = field(default_factory=ScheduleSection)
    ema: EmaSection = field(default_factory=EmaSection)
    checkpoint: CheckpointSection = field(default_factory=CheckpointSection)
    validation: ValidationSection = field(default_factory=ValidationSection)
    tracking: TrackingSection = field(default_factory=TrackingSection)
    dry_run: bool = False
    allow_config_change: bool = False

    def __post_init__(self) -> None:
        if not self.stages:
            raise UserError("stages is empty; a run needs at least one stage")
        if len({stage.steps is None for stage in self.stages}) > 1:
            raise UserError("stages mix steps and seconds; limit all of them the same way")
        if self.context_parallel < 1:
            raise UserError(f"context_parallel is {self.context_parallel}; give 1 for no sharing, or more")
        if self.wait_minutes <= 0:
            raise UserError(f"wait_minutes is {self.wait_minutes:g}; processes need some time, so give more than 0")
        if self.ema.export is not None and self.ema.export not in self.ema.lengths:
            raise UserError(f"ema.export {self.ema.export} is not in ema.lengths {self.ema.lengths}")


class TrainCommand(TrainConfig):
    """The config of `viewtime train`, read by the deep parser: its dictionaries and lists are free-form."""

    @staticmethod
    def from_argv(argv: list[str], prog: str) -> TrainConfig:
        """See `viewtime.configs.overrides.parse_overrides`.

        A preset's `validation.data` are options of the preset's own stream: where the command line names another
        stream and says nothing of validation, there is none.
        """
        from viewtime.configs.load import load_preset
        from viewtime.configs.overrides import parse_overrides
        from viewtime.log import log

        from .data import DataConfig

        config = parse_overrides(TrainConfig, argv, prog, {"data.options": DataConfig})
        own = load_preset(config.config, "train").get("data", {}).get("factory")
        told = any(argument.startswith("--validation") for argument in argv)
        if config.data.factory == own or told or not config.validation.data or config.validation.factory:
            return config
        log.warning("no validation: that of %s is for the stream %s; give --validation.data", config.config, own)
        return replace(config, validation=ValidationSection())
