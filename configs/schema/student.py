"""Schema of a few-step student."""

from __future__ import annotations

from dataclasses import dataclass, field

from viewtime.errors import UserError

from .sample import SamplerOptions


@dataclass(frozen=True)
class StudentSection:
    """A model that is sampled in few steps, taught by what the run starts from; there is one where `steps` is above 0.

    Attributes:
        steps: sampling steps of the student; its noise levels are those of `viewtime sample --sampler.steps`.
        teacher: how the teacher, the model as the run finds it, is sampled. Its steps are a multiple of the student's,
            and its guidance becomes part of the student.
        unconditional: conditions of a batch that are zero in guidance's second branch.
    """

    steps: int = 0
    teacher: SamplerOptions = field(default_factory=lambda: SamplerOptions(name="euler", steps=32, guidance="none"))
    unconditional: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise UserError(f"student.steps is {self.steps}; give 1 or more, or 0 for no student")
        many = self.teacher.steps
        if self.steps and (not many or many % self.steps):
            raise UserError(f"student.teacher.steps is {many}; it must be a multiple of student.steps {self.steps}")
        if self.steps and (self.teacher.guidance in (None, "none")) == bool(self.unconditional):
            raise UserError(
                "student.teacher.guidance and student.unconditional, the conditions that guidance leaves out, "
                "are given together or not at all"
            )
        unused = {"cache": "none", "frame_noise": None, "alpha_range": None, "levels": ()}
        for name, default in unused.items():
            if getattr(self.teacher, name) != default:
                raise UserError(f"student.teacher.{name} has no part in training; leave it out")
