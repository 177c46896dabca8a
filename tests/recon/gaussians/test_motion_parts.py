"""How points move and what pulls a fit back: values by hand, and pins of each model at parameters away from zero."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from tests.pins import assert_pinned
from viewtime.cameras import regular_orbit
from viewtime.configs.schema.reconstruct import ImperfectOptions
from viewtime.errors import UserError
from viewtime.recon.gaussians.compensation import Compensation
from viewtime.recon.gaussians.motion import ControlPointMotion, FreeMotion, MlpMotion, Motion, rotation_from_axis_angle
from viewtime.recon.render.splats import Viewpoints

FRAMES = 5


def cloud(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) - 0.5


def stirred(module: nn.Module, by: float = 0.1) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))
    return module


def models() -> dict[str, Motion]:
    torch.manual_seed(0)
    position = cloud(40)
    made = {
        "control": ControlPointMotion(cloud(12, 3), position, FRAMES),
        "free": FreeMotion(position, FRAMES),
        "mlp": MlpMotion(FRAMES, width=16),
    }
    return {name: stirred(model) for name, model in made.items()}  # type: ignore[misc]


@pytest.mark.parametrize("name", ["control", "free", "mlp"])
def test_motions_are_what_they_were(name: str) -> None:
    model, position, frames = models()[name], cloud(40), torch.tensor([0, 2, 4])
    for share in (0.0, 0.3, 1.0):
        model.anneal(share)
        linear, moved = model.affine(position, frames)
        assert_pinned(f"{name} moved {share}", moved.detach(), 1e-4)
        assert_pinned(f"{name} linear {share}", linear.detach(), 1e-4)
    for frames in ([1, 2], [0, 4], [0, 1, 3]):
        assert_pinned(f"{name} pull {frames}", model.regulariser(position, torch.tensor(frames)).detach(), 1e-4)
    for frame, known in ((3, 2), (1, 2), (1, 0), (3, 4)):
        model.enter(frame, known)
    assert_pinned(f"{name} entered", model.affine(position, torch.arange(FRAMES))[1].detach(), 1e-4)
    rates = [group["lr"] for group in model.groups(2.0)]
    assert rates == pytest.approx({"control": [4e-3, 1.6e-2, 4e-2], "free": [4e-3], "mlp": [2e-3]}[name])


def test_a_rigid_turn_of_control_points_costs_nothing_and_turns_the_points() -> None:
    centres, position = cloud(10, 3), cloud(30)
    model = ControlPointMotion(centres, position, FRAMES)
    turn = torch.tensor([0.0, 0.0, 0.5])
    matrix = rotation_from_axis_angle(turn)
    with torch.no_grad():
        model.rotation[2] = turn
        model.translation[2] = centres @ matrix.T - centres
    _, moved = model.affine(position, torch.tensor([2]))
    torch.testing.assert_close(moved[0], position @ matrix.T, atol=1e-5, rtol=0)
    assert float(model.regulariser(position, torch.tensor([4]))) == pytest.approx(0, abs=1e-9)
    # Seen at frame 1 and 3, where the paths are straight but for what frame 2 does: second differences alone.
    square = float((model.translation[2] ** 2).sum(-1).mean() / model.edge_length**2) + 0.25
    assert float(model.regulariser(position, torch.tensor([1, 3]))) == pytest.approx(0.02 * square, rel=1e-4)
    assert float(model.regulariser(position, torch.tensor([2]))) == pytest.approx(0.02 * 4 * square, rel=1e-3)


def test_free_points_are_pulled_to_their_neighbours_and_to_even_speed() -> None:
    position = torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0]])
    model = FreeMotion(position, FRAMES, neighbours=1)  # neighbours: 1, 0, 1
    with torch.no_grad():
        model.displacement[:, 2, 1] = torch.tensor([0.0, 0.2, 0.6])
    rough = (0.2**2 + 0.2**2 + 0.4**2) / 3
    assert float(model.regulariser(position, torch.tensor([2]))) == pytest.approx(
        300 * rough + 10 * 4 * (0.2**2 + 0.6**2) / 3
    )
    assert float(model.regulariser(position, torch.tensor([0, 4]))) == 0
    assert float(model.regulariser(position, torch.tensor([1]))) == pytest.approx(10 * (0.2**2 + 0.6**2) / 3)


def test_rows_of_gaussians_follow_their_parents() -> None:
    model = FreeMotion(torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0], [3.5, 0, 0]]), 2, neighbours=1)
    model.select(torch.tensor([0, 1, 1, 3]))
    # 0 keeps its neighbour 1 in one of that one's places; 3 loses the third and has itself.
    assert model.around[0, 0].item() in (1, 2)
    assert model.around[1:, 0].tolist() == [0, 0, 3]
    with pytest.raises(UserError, match="MlpMotion cannot start from tracks"):
        MlpMotion(2).follow(torch.zeros(2, 1, 3), torch.zeros(1, 3))


def compensation(**options: bool) -> tuple[Compensation, Viewpoints]:
    views = Viewpoints.of(regular_orbit(2, 3), 12, 16)
    module = Compensation(ImperfectOptions(**options), 2, 3, cloud(6, 3))
    return module, views


def test_what_a_compensation_costs() -> None:
    module, _ = compensation(offset=True, exposure=True, view_deformation=True)
    for name, value, cost in (
        ("shift", 2.0, 4e-3), ("log_zoom", 0.1, 0.1), ("log_gain", 0.2, 0.12), ("view_translation", 0.1, 0.2 + 10.0),
    ):  # fmt: skip
        parameter = getattr(module, name)
        with torch.no_grad():
            parameter.fill_(value)
        assert float(module.regulariser()) == pytest.approx(cost)
        with torch.no_grad():
            parameter.zero_()
    with torch.no_grad():  # opposite in the two views: no common shift
        module.view_translation[0], module.view_translation[1] = 0.1, -0.1
    assert float(module.regulariser()) == pytest.approx(0.2)
    rates = {group["name"]: group["lr"] for group in module.groups(2.0)}
    assert rates == pytest.approx({"shift": 4e-2, "zoom": 1e-3, "gain": 2e-3, "view": 1e-3})


def test_what_a_compensation_does_and_what_it_leaves() -> None:
    module, views = compensation(offset=True, exposure=True, view_deformation=True)
    stirred(module)
    cells = torch.tensor([1, 4])
    moved = module.views(views, cells)
    torch.testing.assert_close(moved.focal, views.focal[cells] * module.log_zoom[cells].exp())
    torch.testing.assert_close(moved.centre, views.centre[cells] + module.shift[cells])
    rgb, alpha = torch.full((2, 3, 1, 1), 0.4), torch.full((2, 1, 1, 1), 0.5)
    torch.testing.assert_close(module.expose(rgb, alpha, cells)[:, :, 0, 0], 0.4 * module.log_gain[cells].exp() + 0.5)
    near = module.displacement(module.control, torch.tensor([1]))
    assert near is not None
    assert_pinned("view displacement", near.detach(), 1e-4)
    images = torch.rand(2, 3, 4, 12, 16, generator=torch.Generator().manual_seed(2))
    assert_pinned("corrected", module.correct(images, views), 1e-3)
    plain, _ = compensation()
    assert not plain.active
    assert plain.groups(1.0) == []
    assert plain.displacement(module.control, torch.tensor([0])) is None
    stirred(plain)
    assert torch.equal(plain.views(views, cells).focal, views.focal[cells])
    assert torch.equal(plain.expose(rgb, alpha, cells), rgb + 0.5)
    for name in ("offset", "exposure", "view_deformation"):
        assert compensation(**{name: True})[0].active


def test_the_width_of_a_compensation_is_the_mean_way_to_three_neighbours_and_itself() -> None:
    control = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]])
    module = Compensation(ImperfectOptions(view_deformation=True), 1, 1, control)
    assert float(module.width) == pytest.approx((6 + 4 + 4 + 6) / 16)
    with torch.no_grad():
        module.view_translation[0, :, 2] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    weights = [math.exp(-((0.5 - x) ** 2) / (2 * 1.25**2)) for x in range(4)]
    found = module.displacement(torch.tensor([[0.5, 0, 0]]), torch.tensor([0]))
    assert found is not None
    assert found[0, 0].tolist() == pytest.approx([0, 0, weights[1] / sum(weights)], rel=1e-5)
