"""The critic's pull against its slow reference, what it may look at, and whole adversarial runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.distributed.checkpoint import FileSystemReader

from viewtime.configs.schema.loss import LossSection
from viewtime.errors import UserError
from viewtime.files import read_jsonl
from viewtime.model.critic import Critic, NeighbourMix
from viewtime.train.loop import Trainer
from viewtime.train.objective.adversarial import Adversary, balanced
from viewtime.train.objective.losses import sample_generator
from viewtime.train.state.checkpoint import checkpoints

ADVERSARIAL = {"loss": {"adversarial": 0.5}, "critic": {"width": 4, "warmup_steps": 0, "lr": 1e-3}}


def case() -> dict[str, Any]:
    """Two samples of three views and three frames; the input view misses a frame, another view has one."""
    torch.manual_seed(0)
    x0, denoised = torch.rand(2, 2, 3, 3, 4, 16, 16).unbind(0)
    unknown = torch.ones(2, 3, 3, dtype=torch.bool)
    unknown[:, 0] = False
    unknown[0, 0, 1] = True
    unknown[1, 2, 0] = False
    known = ~unknown[..., None, None, None]
    angles = torch.rand(2, 2, 3, 3) * 90
    cond = {"known_frames": x0 * known, "elevation": angles[0], "azimuth": angles[1]}
    return {"denoised": denoised * 2 - 1, "x0": x0 * 2 - 1, "cond": cond, "unknown": unknown}


def adversary(tiny) -> Adversary:
    made = Trainer(tiny(**ADVERSARIAL)).adversary
    assert made is not None
    for parameter in made.critic.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made


def generators() -> list[torch.Generator]:
    return [sample_generator(0, index) for index in range(2)]


def reference(critic: torch.nn.Module, batch: dict[str, Any], denoised: Tensor, penalty: float, sigma: float):
    """(model's loss, critic's loss), cell by cell: one sample, one call, no sharing of forward passes."""
    margins, penalties = [], []
    noises = [torch.randn(batch["x0"].shape[1:], generator=g) * sigma for g in generators()]
    for b in range(2):
        unknown, real = batch["unknown"][b], batch["x0"][b, 1:][None]
        grid = torch.where(unknown[..., None, None, None], denoised[b], batch["x0"][b])[1:][None]
        given = torch.stack([batch["cond"]["known_frames"][b, 0]] * 2)[None]
        seen = torch.stack([~unknown[0]] * 2)[None]
        camera = (batch["cond"]["elevation"][b, 1:][None], batch["cond"]["azimuth"][b, 1:][None])
        on_real, on_made = (critic(x, given, seen, *camera)[0] for x in (real, grid))
        near = critic(real + noises[b][1:], given, seen, *camera)[0]
        for v in range(2):
            for f in range(3):
                if unknown[v + 1, f]:
                    margins.append(on_real[v, f] - on_made[v, f])
                    penalties.append((near[v, f] - on_real[v, f]).square())
    margin, change = torch.stack(margins), torch.stack(penalties)
    return F.softplus(margin).mean(), (F.softplus(-margin) + penalty * change).mean()


def test_the_pull_and_the_critics_gradients_are_those_of_the_reference(tiny):
    ours, batch = adversary(tiny), case()
    pull, margin = ours.pull(**batch, generators=generators())
    gradients = {name: p.grad.clone() for name, p in ours.critic.named_parameters()}
    ours.critic.zero_grad()
    denoised = batch["denoised"].clone().requires_grad_()
    section = ours.section
    for_model, for_critic = reference(ours.critic, batch, denoised, section.penalty, section.penalty_noise)
    (expected,) = torch.autograd.grad(for_model, denoised, retain_graph=True)
    assert torch.allclose(pull, expected, atol=1e-7, rtol=1e-3)
    assert (pull[~batch["unknown"]] == 0).all()
    assert (pull[:, 0] == 0).all()
    assert float(pull.abs().max()) > 1e-6
    for_critic.backward()
    for name, parameter in ours.critic.named_parameters():
        assert torch.allclose(gradients[name], parameter.grad, atol=1e-6, rtol=1e-3), name
    assert F.softplus(margin) <= for_model + 1e-6  # Jensen


def test_a_step_against_the_pull_makes_real_and_made_harder_to_tell_apart(tiny):
    ours, batch = adversary(tiny), case()
    pull, _ = ours.pull(**batch, generators=generators())
    step = 0.01 * pull / pull.norm()
    before, after = (reference(ours.critic, batch, batch["denoised"] - s, 0, 0.1)[0] for s in (0 * step, step))
    assert float(before - after) == pytest.approx(0.01 * float(pull.norm()), rel=0.05)


def test_a_critic_learns_to_tell_noise_from_pictures(tiny):
    ours, batch = adversary(tiny), case()
    batch["x0"] = batch["x0"].mean(dim=(-1, -2), keepdim=True).expand_as(batch["x0"]).contiguous()
    margins = []
    for _ in range(40):
        margins.append(float(ours.pull(**batch, generators=generators())[1]))
        ours.update(finite=True)
    assert margins[-1] > margins[0] + 1
    before = [p.detach().clone() for p in ours.critic.parameters()]
    ours.pull(**batch, generators=generators())
    ours.update(finite=False)
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, ours.critic.parameters()))


def test_balanced_pulls_are_as_strong_as_the_squared_error_sample_by_sample():
    pull, gradient = torch.randn(2, 3, 2, 2, 4, 8, 8).unbind(0)
    norms = balanced(pull, gradient).flatten(1).norm(dim=1)
    assert torch.allclose(norms, gradient.flatten(1).norm(dim=1))
    assert (balanced(torch.zeros_like(pull), gradient) == 0).all()


def test_the_critic_sees_neighbours_cameras_and_the_input_only_where_it_is_known():
    torch.manual_seed(0)
    critic = Critic(4, 4)
    for parameter in critic.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    grid, given, other = torch.randn(3, 1, 4, 4, 4, 16, 16).unbind(0)
    seen = torch.tensor([True, True, False, True]).expand(1, 4, 4)
    zero = torch.zeros(1, 4, 4)
    base = critic(grid, given, seen, zero, zero)
    assert base.shape == (1, 4, 4, 2, 2)
    changed = given.clone()
    changed[:, :, 2] = other[:, :, 2]
    assert torch.equal(critic(grid, changed, seen, zero, zero), base)
    assert not torch.equal(critic(grid, other, seen, zero, zero), base)
    assert not torch.equal(critic(grid, given, seen, zero, zero + 40), base)
    moved = grid.clone()
    moved[:, 3, 3] = other[:, 3, 3]
    difference = (critic(moved, given, seen, zero, zero) - base).abs().amax(dim=(0, 3, 4))
    for row in (difference[3], difference[:, 3]):  # frames of the view, views of the instant
        assert row[1] > 1e-4  # two mixes reach two neighbours far
        assert row[0] < 1e-6
    with pytest.raises(UserError, match="multiples of 8"):
        critic(grid[..., :12], given[..., :12], seen, zero, zero)


@pytest.mark.parametrize("axis", ["frames", "views"])
def test_mixes_of_neighbours_start_as_the_identity(axis):
    x = torch.randn(12, 8, 4, 4)
    assert torch.equal(NeighbourMix(8, axis)(x, 2, 3), x)


def run(config, killed_at: int | None = None) -> Path:
    trainer = Trainer(config)
    inner = trainer.step

    def stepping(*arguments: Any) -> None:
        if trainer.progress.step == killed_at:
            raise KeyboardInterrupt
        inner(*arguments)

    trainer.step = stepping  # type: ignore[method-assign]
    trainer.run()
    AcceleratorState._reset_state(True)
    return Path(config.output)


def test_a_killed_adversarial_run_resumes_bit_equal_with_its_critic(tiny, tmp_path):
    stages = [
        {"name": "plain", "lr": 1e-3, "batch_size": 2, "steps": 3},
        {"name": "judged", "lr": 1e-3, "batch_size": 2, "steps": 6, "loss": {"adversarial": 0.5}},
    ]
    settings = {"stages": stages, "critic": {"width": 4, "warmup_steps": 2}, "checkpoint": {"every_steps": 2}}
    whole = run(tiny(**settings, output=str(tmp_path / "whole")))
    config = tiny(**settings, output=str(tmp_path / "killed"))
    with pytest.raises(KeyboardInterrupt):
        run(config, killed_at=7)
    AcceleratorState._reset_state(True)
    killed = run(config)
    records = [read_jsonl(folder / "metrics.jsonl") for folder in (whole, killed)]
    assert ["critic_margin" in record for record in records[0]] == [False] * 3 + [True] * 6
    for key in ("loss", "critic_margin"):
        assert [record.get(key) for record in records[0]] == [record.get(key) for record in records[1]]
    stored = FileSystemReader(checkpoints(whole / "checkpoints")[-1] / "shards").read_metadata().state_dict_metadata
    owners = {name.partition("/")[0] for name in stored}
    assert {"model", "critic", "model.optimizer", "critic.optimizer"} <= owners


def test_the_models_gradient_is_that_of_the_squared_error_and_the_pull_as_a_share_of_it(tiny):
    ours, batch = adversary(tiny), case()
    pull, _ = ours.pull(**batch, generators=generators())
    denoised = batch.pop("denoised").requires_grad_()
    loss = (denoised - batch["x0"]).square().mean()
    (plain,) = torch.autograd.grad(loss, denoised, retain_graph=True)
    value, _ = ours.with_pull(loss, 0.3, denoised, *batch.values(), generators())
    (both,) = torch.autograd.grad(value, denoised)
    for sample in range(2):
        added = both[sample] - plain[sample]
        assert float(added.norm()) == pytest.approx(0.3 * float(plain[sample].norm()), rel=1e-4)
        assert float(F.cosine_similarity(added.flatten(), pull[sample].flatten(), dim=0)) == pytest.approx(1, abs=1e-4)


def test_what_a_critic_cannot_do_is_refused(tiny):
    with pytest.raises(UserError, match=r"loss\.adversarial is -1"):
        LossSection(adversarial=-1)
    with pytest.raises(UserError, match='known_cells "clean"'):
        LossSection(adversarial=0.5, known_cells="ignored")
    with pytest.raises(UserError, match="penalty_noise must be above 0"):
        tiny(critic={"penalty_noise": 0})
    ours, batch = adversary(tiny), case()
    del batch["cond"]["azimuth"]
    with pytest.raises(UserError, match="azimuth"):
        ours.pull(**batch, generators=generators())
