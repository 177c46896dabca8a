"""Fast paths against the slow reference in value and gradient; checkpointing, compilation, the paper's attention."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from golden_files import NETWORKS
from torch import nn

from viewtime.errors import UserError
from viewtime.model.attention import attend
from viewtime.model.memory_layout import channels_last
from viewtime.model.sv4d.convolution import convolve
from viewtime.model.sv4d.grid_attention import GridAttention
from viewtime.model.sv4d.linear import Linear
from viewtime.model.sv4d.transformer import SEQUENCES, SelfAttention, TransformerBlock, _sequences, _tokens
from viewtime.model.sv4d.unet import VideoUNet

GROUPS = (*SEQUENCES, "raster")


def inputs(config, batch=1, views=2, frames=2):
    if config.axes != "view-frame":
        views, frames = (1, 3) if config.axes == "frame" else (3, 1)
    torch.manual_seed(1)
    cond = {
        "concat": torch.randn(batch, 1, 1 if config.axes != "view-frame" else frames, 4, 8, 8),
        "vector": torch.randn(batch, views, frames, config.vector_dim),
        "image_tokens": torch.randn(batch, 1, frames if config.axes == "view-frame" else 1, 32),
        "reference_views": torch.randn(batch, views, 4, 8, 8),
    }
    return torch.randn(batch, views, frames, 4, 8, 8), torch.full((batch, views, frames), 0.3), cond


def gradients(config, **arguments):
    torch.manual_seed(0)
    unet = VideoUNet(config, **arguments)
    out = unet(*inputs(config))
    out.square().mean().backward()
    return out.detach(), {name: p.grad for name, p in unet.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("name", ["sv4d2", "svd"])
def test_fast_path_equals_reference_in_value_and_gradient(name):
    fast_value, fast = gradients(NETWORKS[name])
    slow_value, slow = gradients(NETWORKS[name], attention="reference")
    torch.testing.assert_close(fast_value, slow_value, atol=2e-5, rtol=0)
    for key, gradient in slow.items():
        torch.testing.assert_close(fast[key], gradient, atol=2e-5, rtol=1e-3, msg=key)


@pytest.mark.parametrize("told", ["none", "clip"])
def test_frame_attention_without_reference_views(told: str):
    """SV4D, table 7: they change nothing; in their place all frames see the embedding of the window's first one."""
    config = replace(NETWORKS["sv4d"], frame_context=told)
    torch.manual_seed(0)
    unet = VideoUNet(config)
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    seen = []
    for module in unet.modules():
        if isinstance(module, GridAttention):
            module.frame.register_forward_hook(lambda module, arguments, out: seen.append(arguments[1]))
    x, noise, cond = inputs(config)
    value = unet(x, noise, cond)
    assert torch.equal(value, unet(x, noise, {**cond, "reference_views": cond["reference_views"] + 3}))
    with_views = VideoUNet(NETWORKS["sv4d"])
    if told == "none":
        assert not bool(seen[0].any())
        with_views.load_state_dict(unet.state_dict())
        assert not torch.equal(value, with_views(x, noise, cond))
        blank = {**cond, "reference_views": torch.zeros_like(cond["reference_views"])}
        assert torch.equal(value, with_views(x, noise, blank))
    else:
        assert all(torch.equal(token[0, 0, 0, 0], cond["image_tokens"][0, 0, 0]) for token in seen)
        assert all(token.shape[1:4] == (1, 1, 1) for token in seen)


def test_checkpointing_changes_no_gradient():
    value, plain = gradients(NETWORKS["sv4d"])
    same_value, recomputed = gradients(NETWORKS["sv4d"], gradient_checkpointing=True)
    torch.testing.assert_close(same_value, value)
    assert set(plain) == set(recomputed)
    for key, gradient in plain.items():
        torch.testing.assert_close(recomputed[key], gradient, msg=key)


def test_every_trainable_parameter_gets_a_gradient():
    """What has no influence (query and key of one-token attention) is frozen, so that data parallel training runs."""
    for name in ("sv4d", "sv4d2", "sv3d_p"):
        _, found = gradients(NETWORKS[name])
        assert all(gradient is not None for gradient in found.values()), name
        frozen = [key for key, p in VideoUNet(NETWORKS[name]).named_parameters() if not p.requires_grad]
        assert all(".cross_attention." in key or ".norm_cross." in key for key in frozen)


@pytest.mark.parametrize("group", GROUPS)
def test_sequences_and_tokens_are_inverse(group):
    tokens = torch.randn(2, 3, 4, 5, 6)
    sequences = _sequences(tokens, group, 2)
    assert torch.equal(_tokens(sequences, group, (2, 3, 4, 5)), tokens)


def influence(group):
    """Which (view, pixel) of the same frame changes when one token changes: bool [F, V, S]."""
    torch.manual_seed(0)
    layer = SelfAttention(8, 4, group, "sdpa")
    x = torch.randn(1, 2, 3, 6, 8)
    moved = x.clone()
    moved[0, 0, 1, 2] += 1
    return (layer(moved) - layer(x)).abs().amax(-1)[0] > 1e-6


def test_each_group_reaches_exactly_its_tokens():
    expected = {group: torch.zeros(2, 3, 6, dtype=torch.bool) for group in GROUPS}
    expected["space"][0, 1, :] = True
    expected["view"][0, :, 2] = True
    expected["frame"][:, 1, 2] = True
    expected["view-space"][0] = True  # the 3D attention of the SV4D 2.0 paper: all views and pixels of a frame
    expected["raster"][0, 1, 0:3] = True  # the published grouping: V consecutive pixels of one image
    for group in GROUPS:
        assert torch.equal(influence(group), expected[group]), group


def test_joint_attention_mixes_views_where_the_published_grouping_does_not():
    """One attention layer: perturbing a view leaves the others alone with `raster`, not with `joint`."""
    for group, crosses in (("raster", False), ("view-space", True)):
        torch.manual_seed(0)
        block = TransformerBlock(8, 5, 4, group, mlp_in=True)
        x, token = torch.randn(1, 2, 3, 6, 8), torch.randn(1, 1, 1, 1, 5)
        moved = x.clone()
        moved[:, :, 0] = torch.randn(1, 2, 6, 8)
        changed = (block(moved, token) - block(x, token))[:, :, 1:].abs().max() > 1e-6
        assert bool(changed) == crosses


@pytest.mark.parametrize(
    ("stride", "padding", "kernel"), [(1, (1, 1), (3, 3)), (2, (1, 1), (3, 3)), (1, (1, 0), (3, 1))]
)
@pytest.mark.parametrize("size", [(2, 2), (4, 6), (40, 30)])
def test_convolution_as_one_product(stride, padding, kernel, size, monkeypatch):
    """Few pixels: windows times weight, in either layout of the weight; many, or with gradients: the library's."""
    x = torch.randn(3, 16, *size, dtype=torch.float64)
    layer = nn.Conv2d(16, 64, kernel, dtype=torch.float64)
    expected = F.conv2d(x, layer.weight, layer.bias, stride, padding)
    calls = []
    library = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda *arguments: calls.append(1) or library(*arguments))
    with torch.no_grad():
        for images in (x, x.contiguous(memory_format=torch.channels_last)):
            for weight in (layer.weight, layer.weight.contiguous(memory_format=torch.channels_last)):
                torch.testing.assert_close(convolve(images, weight, layer.bias, stride, padding), expected)
    few = expected[:, 0].numel() < 64
    assert len(calls) == (0 if few else 4)
    convolve(x, layer.weight, layer.bias, stride, padding).sum().backward()
    assert layer.weight.grad is not None
    assert len(calls) == (1 if few else 5)


def test_channels_last_changes_the_layout_and_nothing_else():
    config = NETWORKS["sv4d"]
    torch.manual_seed(0)
    unet = VideoUNet(config).requires_grad_(False)
    plain, names = unet(*inputs(config)), {name: (p.shape, p.clone()) for name, p in unet.named_parameters()}
    channels_last(unet)
    torch.testing.assert_close(unet(*inputs(config)), plain, atol=1e-5, rtol=0)
    for name, parameter in unet.named_parameters():
        assert (parameter.shape, True) == (names[name][0], torch.equal(parameter, names[name][1])), name
    assert unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    grid = unet.encoder[0].residual.grid.conv_in.weight
    assert grid.squeeze(-1).is_contiguous(memory_format=torch.channels_last)


def test_attention_backends():
    query, key, value = (torch.randn(2, 3, 5, 4, dtype=torch.float64) for _ in range(3))
    torch.testing.assert_close(attend(query, key, value), attend(query, key, value, "reference"))
    with pytest.raises(UserError, match="no attention backend 'flash'"):
        attend(query, key, value, "flash")  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="xformers' kernels need a CUDA device")
def test_xformers_attention():
    pytest.importorskip("xformers")
    query, key, value = (torch.randn(2, 3, 5, 8, device="cuda", dtype=torch.float16) for _ in range(3))
    fast = attend(query, key, value, "xformers")
    torch.testing.assert_close(fast, attend(query, key, value, "reference"), atol=2e-3, rtol=0)


def test_the_network_is_one_graph():
    """torch.compile traces the whole forward pass without a break."""
    config = NETWORKS["sv4d2"]
    unet = VideoUNet(config).requires_grad_(False)
    x, label, cond = inputs(config)
    plain = unet(x, label, cond)
    compiled = torch.compile(unet, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, label, cond), plain)


def test_a_fixed_batch_is_learned():
    torch.manual_seed(0)
    config = replace(NETWORKS["sv4d2"], view_attention="joint")
    unet = VideoUNet(config)
    batch, target = inputs(config), torch.randn(1, 2, 2, 4, 8, 8)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        loss = (unet(*batch) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_a_grid_that_does_not_fit_is_refused():
    svd = VideoUNet(NETWORKS["svd"])
    x, label, cond = inputs(NETWORKS["sv4d"])
    with pytest.raises(UserError, match="takes one view; the grid is 2 views × 2 frames"):
        svd(x, label, cond)
    with pytest.raises(UserError, match="latents are 8×7"):
        VideoUNet(NETWORKS["sv4d"])(x[..., :7], label, cond)


def test_the_faster_matrix_product_is_the_same_product():
    """oneDNN's for float32 without gradients, PyTorch's own elsewhere; leading axes of any number."""
    layer = Linear(24, 40)
    for shape in ((3, 24), (2, 1, 5, 24)):
        x = torch.randn(shape)
        with torch.no_grad():
            torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias), atol=1e-6, rtol=1e-5)
        layer(x).sum().backward()
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            assert layer(x).dtype == torch.bfloat16
    assert layer.weight.grad is not None
    assert layer.double()(x.double()).dtype == torch.float64
