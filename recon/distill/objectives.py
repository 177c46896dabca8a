"""What to do with a guidance's prediction, as data; each names the loss of `losses/` that it drives."""

from __future__ import annotations

from dataclasses import dataclass, field

from .losses.guided import GuidanceForm
from .losses.sds import Weighting
from .scalars import Scalar, TimestepRange


@dataclass(frozen=True)
class Sds:
    """`losses.sds`; images, views and videos."""

    scale: float = 100.0
    form: GuidanceForm = "A"
    weighting: Weighting = "sds"
    clamp: Scalar | None = None
    motion: float = 1.0
    timesteps: TimestepRange = field(default_factory=TimestepRange)


@dataclass(frozen=True)
class Reconstruction:
    """`losses.reconstruction`; one timestep for the whole batch."""

    scale: float = 50.0
    form: GuidanceForm = "B"
    rescale: float = 0.5
    timesteps: TimestepRange = field(default_factory=TimestepRange)


@dataclass(frozen=True)
class Vsd:
    """`losses.vsd`; gives the losses "vsd" (to the scene) and "lora" (to the copy).

    Attributes:
        camera_dropped: probability that the copy is trained without the camera.
    """

    scale: float = 7.5
    scale_of_copy: float = 1.0
    camera_dropped: float = 0.1
    timesteps: TimestepRange = field(default_factory=TimestepRange)


@dataclass(frozen=True)
class OneStep:
    """`losses.one_step`; gives "sds_video" and, with `color`, "sds_color"; one timestep for the whole batch."""

    scale: float = 100.0
    form: GuidanceForm = "A"
    steps: int = 1
    color: bool = True
    timesteps: TimestepRange = field(default_factory=TimestepRange)


Objective = Sds | Reconstruction | Vsd | OneStep
