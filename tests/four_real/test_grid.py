"""The two-stream model: what must be equal is equal, and gradients reach only what should train."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange

from tests.four_real.conftest import FRAMES, VIEWS, grid_model, stir
from viewtime.errors import UserError
from viewtime.model.four_real.base import DYNAMIC, FREEZE_TIME
from viewtime.model.four_real.config import GridConfig


def base_pass(model, kind, x, label, cond):
    """The base model alone on all rows or all columns of the grid."""
    videos = "b v f ... -> (b v) f ..." if kind == DYNAMIC else "b v f ... -> (b f) v ..."
    copies = VIEWS if kind == DYNAMIC else FRAMES
    velocity = model.base.video(
        rearrange(x, videos),
        rearrange(label / 1000, videos),
        kind,
        rearrange(cond["known"], videos),
        rearrange(cond["known_frames"], videos),
        cond["text"].repeat_interleave(copies, dim=0),
    )
    back = "(b v) f c h w -> b v f c h w" if kind == DYNAMIC else "(b f) v c h w -> b v f c h w"
    return rearrange(velocity, back, b=2)


@pytest.fixture
def one_thread():
    """Threads cut an element-wise operation where vectors end, which rounds differently for other shapes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_zero_effect_is_two_independent_base_passes_bit_for_bit(inputs):
    model = grid_model(variant="soft", soft_start="zero")
    time, view = model.stream_velocities(*inputs)
    rows, columns = base_pass(model, DYNAMIC, *inputs), base_pass(model, FREEZE_TIME, *inputs)
    assert torch.equal(time, rows)
    assert torch.equal(view, columns)
    assert (rows - columns).abs().max() > 0.1
    assert torch.equal(model(*inputs), (rows + columns) / 2)


@pytest.mark.parametrize("variant", ["soft", "hard"])
def test_untrained_synchronisation_joins_the_streams(variant, inputs):
    model = grid_model(variant=variant)
    time, view = model.stream_velocities(*inputs)
    assert (time - base_pass(model, DYNAMIC, *inputs)).abs().max() > 1e-2
    apart = grid_model(variant="soft", soft_start="zero").stream_velocities(*inputs)
    assert (time - view).abs().mean() < (apart[0] - apart[1]).abs().mean()


def test_permuting_views_permutes_the_time_stream_and_nothing_else(inputs):
    x, label, cond = inputs
    model = grid_model(variant="soft", soft_start="zero")
    order = torch.tensor([2, 0, 1])
    shuffled = {**cond, **{key: cond[key][:, order] for key in ("known", "known_frames")}}
    time, view = model.stream_velocities(x, label, cond)
    time_shuffled, view_shuffled = model.stream_velocities(x[:, order], label[:, order], shuffled)
    torch.testing.assert_close(time_shuffled, time[:, order], rtol=0, atol=2e-5)
    # Along views the order matters, unless the places along the axis travel with the views.
    assert (view_shuffled - view[:, order]).abs().max() > 1e-3


@pytest.mark.parametrize("variant", ["soft", "hard", "sequential", "fused"])
def test_views_with_their_places_are_a_set(variant, inputs):
    x, label, cond = inputs
    model = grid_model(variant=variant)
    order = torch.tensor([2, 0, 1])
    places = torch.tensor([0.0, 1.0, 2.0]).expand(2, 3)
    shuffled = {**cond, **{key: cond[key][:, order] for key in ("known", "known_frames")}}
    straight = model(x, label, {**cond, "view_order": places})
    permuted = model(x[:, order], label[:, order], {**shuffled, "view_order": places[:, order]})
    torch.testing.assert_close(permuted, straight[:, order], rtol=0, atol=5e-5)
    torch.testing.assert_close(straight, model(x, label, cond), rtol=0, atol=0)


@pytest.mark.parametrize("variant", ["soft", "hard", "sequential", "fused"])
def test_known_cells_reach_the_others_and_their_noise_does_not(variant, inputs):
    x, label, cond = inputs
    model = grid_model(variant=variant)
    reference = model(x, label, cond)
    noisy = torch.where(cond["known"][..., None, None, None], x + 5, x)
    assert torch.equal(model(noisy, label, cond), reference)
    # Cell (2, 3) shares neither row nor column with (0, 0), yet hears of it through (0, 3) and (2, 0).
    changed = cond["known_frames"].clone()
    changed[:, 0, 0] += 1
    assert (model(x, label, {**cond, "known_frames": changed}) - reference)[:, 2, 3].abs().max() > 1e-4


@pytest.mark.parametrize(
    ("variant", "trained"),
    [
        ("soft", "synchronisation."),
        ("hard", "synchronisation."),
        ("sequential", "time_attention."),
        ("fused", ".attention."),
    ],
)
def test_gradient_reaches_only_what_should_train(variant, trained, inputs):
    model = grid_model(variant=variant)
    model(*inputs).square().mean().backward()
    for name, parameter in model.named_parameters():
        if trained in name:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
        else:
            assert not parameter.requires_grad, name
            assert parameter.grad is None, name
    assert set(model.trained_parameters()) == {name for name, p in model.named_parameters() if p.requires_grad}


def test_sequential_starts_as_the_base_in_turn(inputs):
    model = grid_model(variant="sequential")
    with_own = model(*inputs)
    for own, block in zip(model.time_attention, model.base.blocks, strict=True):
        for mine, theirs in zip(own.parameters(), block.attention.parameters(), strict=True):
            assert torch.equal(mine, theirs)
            assert mine is not theirs
    stir(model.time_attention, seed=3)
    assert (model(*inputs) - with_own).abs().max() > 1e-3


def test_only_fused_adds_no_parameters():
    counts = {
        variant: sum(p.numel() for p in grid_model(variant=variant).parameters())
        for variant in ("soft", "hard", "sequential", "fused")
    }
    assert counts["fused"] == sum(p.numel() for p in grid_model(variant="fused").base.parameters())
    assert counts["fused"] < min(counts["soft"], counts["hard"], counts["sequential"])


def test_dropping_text_equals_no_text(inputs):
    x, label, cond = inputs
    model = grid_model(variant="soft")
    without = {key: value for key, value in cond.items() if key != "text"}
    zeros = model(x, label, {**cond, "text": torch.zeros_like(cond["text"])})
    torch.testing.assert_close(model(x, label, without), zeros, rtol=0, atol=2e-5)
    assert (model(x, label, cond) - zeros).abs().max() > 1e-3
    with pytest.raises(UserError, match="5 wide"):
        model(x, label, {**cond, "text": torch.zeros(2, 3, 5)})


def test_a_wrong_variant_is_named():
    with pytest.raises(UserError, match="'softer'"):
        GridConfig(variant="softer")  # type: ignore[arg-type]
