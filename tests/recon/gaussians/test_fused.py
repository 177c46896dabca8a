"""The compiled parts of a fit's step against the plain ones, in value and gradient."""

from types import SimpleNamespace

import pytest
import torch

from viewtime.configs.load import build
from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.recon.gaussians import canonical, fit, fused, motion
from viewtime.recon.gaussians.canonical import Gaussians
from viewtime.recon.gaussians.motion import ControlPointMotion
from viewtime.recon.render.renderer import Picture

pytestmark = pytest.mark.skipif(not fused.is_fused(torch.zeros(1)), reason="no compiler on this machine")
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5}
MODULES = {"canonical": canonical, "motion": motion, "fit": fit}


def assert_same(patch, module, work, inputs, tolerance):
    """Values and gradients of `work` are the same with the compiled functions and without them."""
    sides = []
    for compiled in (True, False):
        if not compiled:
            patch.setattr(MODULES[module], "is_fused", lambda tensor: False)
        leaves = [value.clone().requires_grad_() for value in inputs]
        values = work(*leaves)
        generator = torch.Generator().manual_seed(5)
        loss = sum((value * torch.randn(value.shape, generator=generator).to(value)).sum() for value in values)
        sides.append([*values, *torch.autograd.grad(loss, leaves, allow_unused=True)])
    for one, other in zip(*[[None if v is None else v.detach() for v in side] for side in sides], strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert (one - other).abs().max() <= tolerance * max(1.0, float(other.abs().max()))


def draw(*shape, kind, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(kind)


@pytest.mark.parametrize("kind", TOLERANCE)
def test_covariance(monkeypatch, kind):
    gaussians = Gaussians(torch.zeros(50, 3), torch.ones(50), torch.zeros(50, 3), isotropic=False)

    def work(quaternion, log_scale):
        gaussians._parameters.update(quaternion=quaternion, log_scale=log_scale)
        return [gaussians.covariance()]

    assert_same(
        monkeypatch,
        "canonical",
        work,
        [draw(50, 4, kind=kind, seed=1), draw(50, 3, kind=kind, seed=2)],
        TOLERANCE[kind],
    )


def moving(kind, scale):
    """A motion of 12 control points over 5 frames, 60 points that hang on them, and its learned parts."""
    centres, position = draw(12, 3, kind=kind, seed=1), draw(60, 3, kind=kind, seed=2)
    model = ControlPointMotion(centres.float(), position.float(), 5).to(kind)
    parts = [scale * draw(5, 12, 3, kind=kind, seed=3), scale * draw(5, 12, 3, kind=kind, seed=4)]
    return model, [position, *parts, draw(60, 4, kind=kind, seed=6)]


@pytest.mark.parametrize("frames", [[2], [0, 3, 4], [1, 2, 3, 1]])
@pytest.mark.parametrize("scale", [1e-5, 1.0, 3.0])
@pytest.mark.parametrize("kind", TOLERANCE)
def test_control_points(monkeypatch, kind, scale, frames):
    model, inputs = moving(kind, scale)

    def work(position, translation, rotation, logits):
        model._parameters.update(translation=translation, rotation=rotation, logits=logits)
        chosen = torch.tensor(frames)
        return [*model.affine(position, chosen), model.regulariser(position, chosen)]

    # Where hardly anything turns, the plain quotients of small numbers are the rougher side.
    loose = {torch.float64: 1e-5, torch.float32: 5e-2}[kind] if scale < 1e-3 else TOLERANCE[kind] * 20
    assert_same(monkeypatch, "motion", work, inputs, loose)


@pytest.mark.parametrize("frames", [1, 4])
def test_one_control_point_has_no_neighbours_to_agree_with(monkeypatch, frames):
    kind = torch.float64
    position = draw(5, 3, kind=kind, seed=2)
    model = ControlPointMotion(torch.zeros(1, 3), position.float(), frames).to(kind)
    inputs = [draw(frames, 1, 3, kind=kind, seed=seed) for seed in (3, 4)]

    def work(translation, rotation):
        model._parameters.update(translation=translation, rotation=rotation)
        return [model.affine(position, torch.arange(frames))[1], model.regulariser(position, torch.arange(frames))]

    assert_same(monkeypatch, "motion", work, inputs, 1e-12)
    assert (float(work(*inputs)[1]) > 0) == (frames > 2)


def test_gradient_where_nothing_turns():
    model, (position, translation, rotation, logits) = moving(torch.float64, 0.0)
    fixed = model.index, model.centres
    chosen = torch.tensor([0, 1])

    def work(rotation):
        return fused.carry(position, logits, *fixed, translation, rotation, chosen)[1]

    assert torch.autograd.gradcheck(work, [rotation.requires_grad_()], eps=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(5, 3), (16, 16), (40, 31)])
@pytest.mark.parametrize("kind", TOLERANCE)
def test_errors_of_pictures(monkeypatch, kind, size):
    images = draw(2, 3, 4, *size, kind=kind, seed=1).sigmoid()
    owner = SimpleNamespace(
        targets=SimpleNamespace(images=images), device=images.device,
        config=build(ReconstructConfig, {"grid": "g"}, where="test"),
        compensation=SimpleNamespace(expose=lambda rgb, alpha, cells: rgb + (1 - alpha)),
    )  # fmt: skip
    cells = torch.tensor([4, 0, 4])

    def work(drawn):
        return fit.GaussianFit._data(owner, Picture(drawn[:, :3], drawn[:, 3:], drawn=drawn), cells)

    assert_same(monkeypatch, "fit", work, [draw(3, 4, *size, kind=kind, seed=2).sigmoid()], TOLERANCE[kind])
    shown = images.flatten(0, 1)[cells]
    same = torch.cat([shown[:, :3] - (1 - shown[:, 3:]), shown[:, 3:]], dim=1)
    assert max(float(value.max()) for value in work(same)) < 1e-6
