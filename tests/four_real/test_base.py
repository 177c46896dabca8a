"""The base video model: fresh start, masked conditioning, kinds of video, size, and reading of grids."""

from __future__ import annotations

import pytest
import torch

from tests.four_real.conftest import SMALL, stir
from viewtime.errors import UserError
from viewtime.model.denoiser import add_noise
from viewtime.model.four_real.base import DYNAMIC, FREEZE_TIME, BaseVideoModel
from viewtime.model.four_real.config import BaseConfig
from viewtime.model.four_real.positions import image_ids, rotary_angles, rotate, token_ids
from viewtime.model.registry import build_denoiser


@pytest.fixture
def base() -> BaseVideoModel:
    torch.manual_seed(0)
    return stir(BaseVideoModel(SMALL))  # type: ignore[return-value]


def video(frames: int = 4):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, frames, 3, 8, 16, generator=generator)
    known = torch.zeros(2, frames, dtype=torch.bool)
    known[:, 1] = True
    return (
        x,
        torch.full((2, frames), 0.6),
        known,
        torch.rand(x.shape, generator=generator) * known[..., None, None, None],
    )


def test_a_fresh_model_predicts_no_velocity():
    x, t, known, clean = video()
    assert torch.equal(BaseVideoModel(SMALL).video(x, t, DYNAMIC, known, clean), torch.zeros_like(x))


def test_any_subset_of_frames_conditions_the_rest(base):
    x, t, _, _ = video()
    clean = torch.rand(x.shape, generator=torch.Generator().manual_seed(2))
    outputs = []
    for subset in ([], [0], [3], [0, 2], [0, 1, 2]):
        known = torch.zeros(2, 4, dtype=torch.bool)
        known[:, subset] = True
        outputs.append(
            base.video(x, t, DYNAMIC, known, clean * known[..., None, None, None])[:, 3 if subset != [3] else 0]
        )
    for index, output in enumerate(outputs):
        for other in outputs[:index]:
            assert (output - other).abs().max() > 1e-3


def test_the_two_kinds_of_video_differ(base):
    x, t, known, clean = video()
    dynamic, freeze = (base.video(x, t, kind, known, clean) for kind in (DYNAMIC, FREEZE_TIME))
    assert (dynamic - freeze).abs().max() > 1e-3


def test_rotation_depends_on_differences_of_ids_only():
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 2, 16, generator=generator)
    image = torch.tensor([[1.5, 2.5]])
    products = []
    for shift in (0.0, 7.0):
        places = [rotary_angles(token_ids(torch.tensor([[place + shift]]), image + shift), 16) for place in (1.0, 3.0)]
        products.append((rotate(q, places[0]) * rotate(k, places[1])).sum(-1))
    torch.testing.assert_close(products[0], products[1], rtol=0, atol=1e-5)
    other = rotary_angles(token_ids(torch.tensor([[4.0]]), image), 16)
    first = rotary_angles(token_ids(torch.tensor([[1.0]]), image), 16)
    assert ((rotate(q, first) * rotate(k, other)).sum(-1) - products[0]).abs().max() > 1e-3


def test_positions_cover_the_same_range_at_another_resolution():
    low, high = image_ids(36, 64, 4, 36), image_ids(72, 128, 4, 36)
    assert low.shape == (9 * 16, 2)
    assert high.shape == (18 * 32, 2)
    torch.testing.assert_close(low[0], torch.tensor([0.5, 0.5]))
    # Four tokens of the larger frame lie around the place of one of the smaller.
    four = torch.stack([high[0], high[1], high[32], high[33]]).mean(dim=0)
    torch.testing.assert_close(four, low[0])


def test_grids_are_read_as_rows_and_columns(base):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 3, 4, 3, 8, 16, generator=generator)
    cond = {"known": torch.zeros(2, 3, 4, dtype=torch.bool), "known_frames": torch.zeros_like(x)}
    label = torch.full((2, 3, 4), 400.0)
    velocity = base(x, label, cond)
    row = base.video(x[0, 1:2], label[0, 1:2] / 1000, DYNAMIC, cond["known"][0, 1:2], cond["known_frames"][0, 1:2])
    torch.testing.assert_close(velocity[0, 1], row[0], rtol=0, atol=2e-5)
    columns = {key: value[1, None, :, 2] for key, value in cond.items()}
    column = base.video(x[1, None, :, 2], label[1, None, :, 2] / 1000, FREEZE_TIME, **columns)
    torch.testing.assert_close(velocity[1, :, 2], column[0], rtol=0, atol=2e-5)
    one_view = {key: value[:, :1] for key, value in cond.items()}
    single = base(x[:, :1], label[:, :1], one_view)
    torch.testing.assert_close(single[0, 0], velocity[0, 0], rtol=0, atol=2e-5)
    with pytest.raises(UserError, match="batch of 1"):
        base(x[:1], label[:1], {key: value[:1] for key, value in cond.items()})


def test_errors_name_the_value():
    with pytest.raises(UserError, match="9 x 16"):
        BaseVideoModel(SMALL).embed(torch.zeros(1, 1, 3, 9, 16), torch.zeros(1, 1), torch.zeros(1, 1, 3, 9, 16))
    with pytest.raises(UserError, match="head_dim 24"):
        BaseConfig(head_dim=24)


def test_two_steps_lower_the_velocity_loss_on_a_fixed_batch():
    """Through the denoiser call that training uses."""
    torch.manual_seed(0)
    config = {"patch": 4, "width": 32, "depth": 2, "head_dim": 16, "text_width": 0, "frame_size": (8, 16)}
    denoiser = build_denoiser("4real-base", config)
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=1e-2)
    x0 = torch.rand(2, 2, 3, 3, 8, 16) * 2 - 1
    known = torch.zeros(2, 2, 3, dtype=torch.bool)
    known[..., 0] = True
    sigma = torch.full((2, 2, 3), 0.7) * ~known
    x = add_noise("flow", x0, torch.randn_like(x0), sigma)
    cond = {"known": known, "known_frames": x0 * known[..., None, None, None]}
    losses = []
    for _ in range(3):
        loss = ((denoiser(x, sigma, cond) - x0)[~known]).square().mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[2] < losses[1] < losses[0]
