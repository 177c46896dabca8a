"""Losses on the solid that a prediction passes through: none where it is right, with gradients, refused without one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from viewtime.configs.load import build, load_preset
from viewtime.configs.schema.loss import LossSection
from viewtime.configs.schema.train import TrainConfig
from viewtime.errors import UserError
from viewtime.model.mini.config import MiniConfig
from viewtime.model.mini.network import MiniNetwork
from viewtime.train.objective.solid import SolidLosses, filling_errors, some_pictures

SIDE, SIZE = 16, 32


def config_of(**model) -> TrainConfig:
    config = build(TrainConfig, load_preset("mini-generalist-cpu"), "test")
    return replace(config, model=replace(config.model, **model))


def ball() -> torch.Tensor:
    """[1, SIDE, SIDE, SIDE], 1 inside."""
    line = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    return ((x**2 + y**2 + z**2) < 0.4).float()[None]


def batch() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A grid of 1 × 3 views × 2 frames, and its conditions."""
    torch.manual_seed(0)
    full = ball()
    x0 = torch.ones(1, 3, 2, 4, SIZE, SIZE)
    x0[:, :, :, 3] = torch.nn.functional.interpolate(full.amax(1)[:, None], scale_factor=2)[0, 0] * 2 - 1
    known = torch.tensor([True, False, False])[None, :, None].expand(1, 3, 2)
    azimuth = torch.tensor([0.0, 100.0, 200.0])[None, :, None].expand(1, 3, 2)
    cond = {
        "known": known, "known_frames": x0 * known[..., None, None, None], "azimuth": azimuth,
        "elevation": torch.full((1, 3, 2), 10.0), "fov_y": torch.tensor([33.8]),
        "solid": full.expand(2, -1, -1, -1)[None],
    }  # fmt: skip
    return x0, cond


def network() -> MiniNetwork:
    return MiniNetwork(MiniConfig(size=SIZE, depth=0, frustum_width=8, frustum_hints=True, frustum_readouts=True))


def test_the_right_solid_has_no_error_and_a_wrong_one_more_the_wronger_it_is() -> None:
    full, outline = ball(), torch.nn.functional.interpolate(ball().amax(1)[:, None], scale_factor=2) * 2 - 1
    errors = []
    for shift in (0, 1, 4):
        solid = torch.cat([torch.zeros(1, 3, SIDE, SIDE, SIDE), 20.0 * full.roll(shift, 1)[:, None]], dim=1)
        errors.append(float(filling_errors(solid, full, outline)))
    assert errors[0] < 1e-3
    assert errors[0] < errors[1] < errors[2]


def test_cells_beside_the_object_do_not_count() -> None:
    full, outline = ball(), torch.nn.functional.interpolate(ball().amax(1)[:, None], scale_factor=2) * 2 - 1
    solid = torch.cat([torch.zeros(1, 3, SIDE, SIDE, SIDE), 20.0 * full[:, None]], dim=1)
    beside = solid.clone()
    beside[:, 3, :, 0, 0] = 20.0
    assert torch.equal(filling_errors(solid, full, outline), filling_errors(beside, full, outline))


def test_both_losses_reach_the_weights_through_a_forward_pass() -> None:
    pytest.importorskip("stlpips_pytorch")
    model, (x0, cond) = network(), batch()
    judge = SolidLosses(config_of(), model, torch.device("cpu"))
    for part in ("solid", "perceptual"):
        model.zero_grad()
        model(torch.zeros_like(x0), torch.ones(1, 3, 2), cond)
        loss = replace(LossSection(), **{part: 1.0})
        value = judge(x0, cond, loss, torch.Generator().manual_seed(0))
        value.backward()
        assert float(value.detach()) > 0
        assert model.frustum is not None
        gradient = model.frustum.network.read_deep.weight.grad
        assert gradient is not None
        assert float(gradient.abs().sum()) > 0
        assert judge.solid is None  # nothing is held between steps


def test_pictures_of_the_true_solid_are_the_truth_of_the_same_view_and_frame() -> None:
    x0, cond = batch()
    solid = torch.zeros(2, 4, SIDE, SIDE, SIDE)
    solid[:, 3] = 20.0 * ball()
    solid[1, :3] = 1.0  # the second frame is white, as the truth of both is
    x0[:, :, 0, :3] = torch.where(x0[:, :, 0, 3:] > 0, -1.0, 1.0)  # the first frame is black
    for seed in range(4):
        made, true = some_pictures(solid, x0, cond, 2, torch.Generator().manual_seed(seed))
        assert ((made > 0) != (true > 0)).float().mean() < 0.15  # the ball is no ball from the side


def test_what_the_network_was_not_given_is_not_judged() -> None:
    x0, cond = batch()
    judge, loss = SolidLosses(config_of(), model := network(), torch.device("cpu")), replace(LossSection(), solid=1.0)
    cond["known"] = cond["known"].clone()
    cond["known"][:, 0, 1] = False
    model(torch.zeros_like(x0), torch.ones(1, 3, 2), cond)
    value = judge(x0, cond, loss, torch.Generator())
    model(torch.zeros_like(x0), torch.ones(1, 3, 2), cond)
    assert judge.solid is not None
    seen = judge.solid[:1]
    full, alpha = cond["solid"][0, :1], x0[:, 0, :1].flatten(0, 1)[:, 3:]
    torch.testing.assert_close(value, filling_errors(seen, full, alpha).mean())
    model(torch.zeros_like(x0), torch.ones(1, 3, 2), {**cond, "known": torch.zeros_like(cond["known"])})
    assert judge(x0, {**cond, "known": torch.zeros_like(cond["known"])}, loss, torch.Generator()) == 0
    model(torch.zeros_like(x0), torch.ones(1, 3, 2), cond)
    cond["solid"] = cond["solid"][..., :8]
    with pytest.raises(UserError, match="8 cells along an edge, the model's 16"):
        judge(x0, cond, loss, torch.Generator())


def test_it_is_refused_where_there_is_no_solid() -> None:
    x0, cond = batch()
    model = network()
    judge = SolidLosses(config_of(), model, torch.device("cpu"))
    model(torch.zeros_like(x0), torch.ones(1, 3, 2), cond)
    del cond["solid"]
    with pytest.raises(UserError, match=r"on_the_fly\.solid"):
        judge(x0, cond, replace(LossSection(), solid=1.0), torch.Generator())
    plain = MiniNetwork(MiniConfig(size=16, stem_widths=(8, 16), width=32, depth=2, head_dim=16))
    with pytest.raises(UserError, match="this model makes none"):
        SolidLosses(config_of(), plain, torch.device("cpu"))
    with pytest.raises(UserError, match="is compiled"):
        SolidLosses(config_of(compile=True), network(), torch.device("cpu"))
