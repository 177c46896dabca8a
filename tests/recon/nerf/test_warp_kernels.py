"""The kernels for CUDA, run on the CPU: plain torch, C++ and Warp agree; and NVIDIA's compiler takes their source."""

import pytest
import torch
from test_nerf_rendering import camera_rays, random_block
from torch._subclasses.fake_tensor import FakeTensorMode

from viewtime.recon.nerf.encoding import SOURCE, encode
from viewtime.recon.nerf.kernels.encoding_warp import encode_warp, encoder_kernels
from viewtime.recon.nerf.kernels.marching_warp import march_kernel
from viewtime.recon.nerf.levels import Levels, encode_reference
from viewtime.recon.nerf.marching import march, march_compiled, march_reference, march_warp
from viewtime.recon.render import warp_kernels
from viewtime.recon.render.compiled import load_library
from viewtime.recon.render.warp_kernels import build_for_cuda

LAYOUTS = {
    "space": (Levels.of([4, 9, 33], 2000), None),
    "frames": (Levels.of([4, 9, 33], 2000), 3),
    "space and time": (Levels.tiny_cuda_nn(5, 4, 1.4, 10, 4), None),
}


def points_and_table(levels, slots):
    generator = torch.Generator().manual_seed(0)
    points = 1.1 * torch.rand(300, levels.dimensions, generator=generator) - 0.05
    points[0], points[1] = 0.0, 1.0
    shape = (levels.entries, 2) if slots is None else (slots, levels.entries, 2)
    slot = None if slots is None else torch.randint(0, slots, (300,), generator=generator)
    return points, torch.randn(shape, generator=generator), slot


@pytest.mark.parametrize("layout", LAYOUTS)
def test_warp_compiled_and_reference_agree_in_value_and_gradient(layout):
    levels, slots = LAYOUTS[layout]
    points, table, slot = points_and_table(levels, slots)
    functions = {"reference": encode_reference, "warp": encode_warp}
    if load_library(SOURCE) is not None:
        functions["compiled"] = encode
    found = {}
    for name, function in functions.items():
        precision = torch.float64 if name == "reference" else torch.float32
        p, t = points.to(precision).requires_grad_(), table.to(precision).requires_grad_()
        out = function(p, t, levels, slot)
        by_points, by_table = torch.autograd.grad((out * torch.cos(out)).sum(), [p, t])
        found[name] = (out.detach(), by_table, by_points[2:])  # at the very edge the slope is a matter of convention
    exact = found.pop("reference")
    assert len(found) > 0
    for values in found.values():
        for value, right in zip(values, exact):
            scale = float(right.abs().max())
            assert scale > 0.5
            assert float((value.double() - right).abs().max()) < 3e-6 * scale


def test_points_that_need_no_gradient_get_none():
    levels, slots = LAYOUTS["space"]
    points, table, slot = points_and_table(levels, slots)
    out = encode_warp(points, table.requires_grad_(), levels, slot)
    out.sum().backward()
    assert points.grad is None
    assert table.grad is not None
    assert float(table.grad.sum()) == pytest.approx(300 * 2 * 3, rel=1e-5)  # the weights of a point's corners sum to 1
    assert encode_warp(points[:0], table, levels, slot).shape == (0, 6)


@pytest.mark.parametrize("most", [4, 200])
def test_warp_marches_as_the_compiled_code_does(most):
    rays, block = camera_rays(), random_block()
    jitter = torch.rand(len(rays), generator=torch.Generator().manual_seed(0))
    arguments = (block, rays.origins, rays.directions, rays.slot, jitter, 0.013, most)
    times, valid = march_warp(*arguments)
    assert times.shape == (len(rays), most)
    others = {"reference": march_reference}
    if load_library(SOURCE) is not None:
        others["compiled"] = march_compiled
    for slow, wanted in (function(*arguments) for function in others.values()):
        same = valid.sum(1) == wanted.sum(1)
        assert float(same.float().mean()) > 0.99  # a sample on the border of a voxel may fall to either side
        for ray in same.nonzero().flatten()[::37].tolist():
            count = int(valid[ray].sum())
            assert not bool(valid[ray, count:].any())
            torch.testing.assert_close(times[ray, :count], slow[ray, :count], atol=2e-3, rtol=0)


def test_without_a_compiler_the_same_calls_take_warp(monkeypatch):
    monkeypatch.setattr(warp_kernels, "load_library", lambda source: None)
    levels, slots = LAYOUTS["space"]
    points, table, _ = points_and_table(levels, slots)
    torch.testing.assert_close(encode(points, table, levels), encode_warp(points, table, levels), rtol=0, atol=0)
    rays, block = camera_rays(), random_block()
    times, _ = march(block, rays.origins, rays.directions, rays.slot, torch.zeros(len(rays)), 0.02, 7)
    assert times.shape[1] == 7


def test_pretended_cuda_tensors_take_warp_and_stay_on_their_device():
    levels, slots = LAYOUTS["frames"]
    points, table, slot = points_and_table(levels, slots)
    with FakeTensorMode() as mode:
        points, table, slot = (mode.from_tensor(value).to("cuda") for value in (points, table, slot))
        out = encode(points, table, levels, slot)
    assert (out.device.type, tuple(out.shape)) == ("cuda", (300, 6))


@pytest.mark.parametrize(
    "name",
    ["forward in space", "backward in space", "forward in space and time", "backward in space and time", "march"],
)
def test_the_compiler_for_cuda_takes_the_kernels(name, tmp_path):
    """NVIDIA's run-time compiler needs neither a GPU nor a toolkit; 80 is an A100, the oldest that we support."""
    encoder = encoder_kernels(4 if "time" in name else 3, 2)
    kernel = march_kernel() if name == "march" else encoder["backward" in name]
    text = build_for_cuda(kernel, 80, tmp_path)
    assert ".target sm_80" in text
    assert ".entry" in text
