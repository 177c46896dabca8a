"""Optimiser, averages, schedule, masks, config: each against its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from viewtime.configs.overrides import parse_overrides
from viewtime.configs.schema.train import (
    ConditioningSection,
    ModelSection,
    OptimizerSection,
    ParameterGroup,
    ScheduleSection,
    TrainConfig,
)
from viewtime.errors import UserError
from viewtime.model.weight_names import find_weights
from viewtime.train.objective.conditioning import apply_conditioning, draw_mask
from viewtime.train.objective.losses import sample_generator
from viewtime.train.optimizers import build_optimizer, orthogonalised, select_parameters, set_learning_rate
from viewtime.train.registry import build_model, network_of
from viewtime.train.schedule import Progress, lr_factor, run_share
from viewtime.train.state.ema import PowerEma, gamma_from_sigma_rel

from .conftest import write_config


def test_orthogonalised_has_singular_values_near_one():
    values = torch.linalg.svdvals(orthogonalised(torch.randn(3, 24, 40)))
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3


def test_muon_updates_vectors_as_torch_adamw_does():
    torch.manual_seed(0)
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    section = OptimizerSection(name="muon", betas=(0.9, 0.99))
    mine = build_optimizer(ours, section, select_parameters(ours, []))
    reference = torch.optim.AdamW([theirs.bias], lr=0.01, betas=(0.9, 0.99), weight_decay=0.0)
    set_learning_rate(mine, 0.01)
    before = ours.weight.detach().clone()
    for step in range(5):
        gradient = torch.randn(3, generator=torch.Generator().manual_seed(step))
        ours.bias.grad, theirs.bias.grad = gradient.clone(), gradient.clone()
        ours.weight.grad = torch.randn(3, 4, generator=torch.Generator().manual_seed(step))
        mine.step()
        reference.step()
    assert torch.allclose(ours.bias, theirs.bias, atol=1e-6)
    # Five updates of singular values near 1, each scaled by lr * 0.2 * sqrt(4).
    assert 0 < float((ours.weight - before).norm()) < 5 * 0.01 * 0.2 * 2 * 1.3 * 3**0.5


def test_parameter_groups_freeze_scale_and_complain():
    network = nn.ModuleDict({"old": nn.Linear(2, 2), "new": nn.Linear(2, 2), "rest": nn.Linear(2, 2)})
    scales = select_parameters(network, [ParameterGroup("^new"), ParameterGroup("^old", 0.1)])
    assert scales == {"old.weight": 0.1, "old.bias": 0.1, "new.weight": 1.0, "new.bias": 1.0}
    assert not network["rest"].weight.requires_grad
    optimizer = build_optimizer(network, OptimizerSection(), scales)
    set_learning_rate(optimizer, 2.0)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == pytest.approx([0.2, 2.0])
    with pytest.raises(UserError, match="nothing_here"):
        select_parameters(network, [ParameterGroup("nothing_here")])


@pytest.mark.parametrize("length", [0.05, 0.1, 0.25])
def test_power_ema_has_the_profile_of_its_width(length: float):
    """Feeding t = 1, 2, … gives the profile's mean: (gamma + 1)/(gamma + 2) of the run."""
    gamma = gamma_from_sigma_rel(length)
    spread = np.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)))
    assert spread == pytest.approx(length, rel=1e-6)
    module = nn.Linear(1, 1, bias=False)
    ema = PowerEma(module, [length])
    steps = 4000
    for step in range(1, steps + 1):
        module.weight.data.fill_(step / steps)
        ema.update(module, samples=step * 8, new_samples=8)
    assert float(ema.of(length)["weight"]) == pytest.approx((gamma + 1) / (gamma + 2), rel=5e-3)
    with ema.swapped_in(module, length):
        assert float(module.weight) < 1
    assert float(module.weight) == 1


def test_schedule_warms_up_and_reaches_zero():
    section = ScheduleSection(warmup_steps=10, decay="linear", decay_share=0.5)
    assert lr_factor(section, 0, 0.0) == pytest.approx(0.1)
    assert lr_factor(section, 9, 0.1) == pytest.approx(1.0)
    assert lr_factor(section, 500, 0.75) == pytest.approx(0.5)
    assert lr_factor(section, 999, 1.0) == pytest.approx(0.0)


def test_run_share_counts_stages_and_the_wall_clock(tiny):
    stages = [{"name": n, "lr": 1e-3, "batch_size": 1, "steps": s} for n, s in (("a", 30), ("b", 10))]
    config = tiny(stages=stages)
    assert run_share(config, Progress(stage=1, stage_step=5)) == pytest.approx(35 / 40)
    timed = tiny(stages=stages, max_seconds=100.0)
    assert run_share(timed, Progress(stage=0, stage_step=1, seconds=90.0)) == pytest.approx(0.9)


def test_masks_and_dropout_have_their_shares():
    generators = [sample_generator(0, i) for i in range(600)]
    x0 = torch.ones(600, 3, 2, 1, 1, 1)
    cond = {"known": torch.zeros(600, 3, 2, dtype=torch.bool), "known_frames": torch.ones_like(x0)}
    section = ConditioningSection({"first_view": 0.7, "first_view_and_frame": 0.3}, {"known+known_frames": 0.2})
    changed = apply_conditioning(x0, cond, section, generators)
    count = changed["known"].flatten(1).sum(1)
    assert float((count == 0).float().mean()) == pytest.approx(0.2, abs=0.05)
    assert float((count == 4).float().mean()) == pytest.approx(0.8 * 0.3, abs=0.05)
    assert torch.equal(changed["known_frames"].flatten(1).sum(1), count.float())
    assert not cond["known"].any()
    known = draw_mask("random", 2, 2, sample_generator(0, 3))
    assert bool(known[0, 0])
    assert not bool(known.all())


def test_overrides_reach_lists_and_dictionaries(tmp_path):
    path = str(write_config(tmp_path))
    arguments = ["--config", path, "--stages.0.steps", "3", "--model.config.depth=4", "--allow-config-change"]
    config = parse_overrides(TrainConfig, arguments, "train.py")
    assert config.stages[0].steps == 3
    assert config.model.config["depth"] == 4
    assert config.allow_config_change
    with pytest.raises(UserError, match="did you mean batch_size"):
        parse_overrides(TrainConfig, ["--config", path, "--stages.0.batchsize", "3"], "train.py")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": {"kind": "edm", "weighting": "v"}}, "weighting"),
        ({"stages": []}, "at least one stage"),
        ({"stages": [{"name": "a", "lr": 1e-3, "batch_size": 1}]}, "exactly one of steps and seconds"),
        ({"ema": {"lengths": [0.1], "export": 0.2}}, "ema.export"),
    ],
)
def test_bad_configs_are_refused(tiny, changes: dict, said: str):
    with pytest.raises(UserError, match=said):
        tiny(**changes)


def test_a_preset_starts_from_the_shipped_half_precision_weights_in_float32():
    section = parse_overrides(TrainConfig, ["--config", "mini-critic"], "train").model
    network = network_of(build_model(section))
    shipped = load_file(find_weights("mini"))
    assert {tensor.dtype for tensor in shipped.values()} == {torch.float16}
    for name, parameter in network.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, shipped[name].float())


def test_nothing_grows_from_no_weights():
    with pytest.raises(UserError, match=r"model\.grown needs model\.weights"):
        ModelSection("mini", grown=True)


def test_weights_that_are_not_there_are_one_line():
    with pytest.raises(UserError, match=r"no such weights: nowhere\.safetensors"):
        build_model(ModelSection("mini", weights="nowhere.safetensors"))
