"""The compiled renderer against the plain one, and both against what a Gaussian must look like."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from viewtime.cameras import regular_orbit
from viewtime.errors import UserError
from viewtime.recon.render.compiled import load_library
from viewtime.recon.render.fast_cpu import draw_compiled
from viewtime.recon.render.gsplat_cuda import render_gsplat
from viewtime.recon.render.renderer import render
from viewtime.recon.render.splat_warp import Tiles, raster_kernels
from viewtime.recon.render.splats import Viewpoints
from viewtime.recon.render.warp_kernels import build_for_cuda

needs_compiler = pytest.mark.skipif(load_library() is None, reason="no C++ compiler on this machine")


def cloud(count, anisotropic, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.rand(*shape, generator=generator, dtype=dtype)

    means = (draw(count, 3) - 0.5) * 0.6
    if anisotropic:
        half = (draw(count, 3, 3) - 0.5) * 0.08
        covariance = half @ half.transpose(1, 2) + 1e-4 * torch.eye(3, dtype=dtype)
    else:
        covariance = (0.01 + 0.03 * draw(count, 1)) ** 2
    return [value.requires_grad_() for value in (means, covariance, 0.3 + 0.65 * draw(count), draw(count, 3))]


@pytest.mark.parametrize("backend", [pytest.param("compiled", marks=needs_compiler), "warp"])
@pytest.mark.parametrize("anisotropic", [False, True])
def test_the_kernels_equal_the_reference_in_value_and_gradient(anisotropic, backend):
    views = Viewpoints.of(regular_orbit(3, 1), 40, 56)
    parameters = cloud(150, anisotropic)
    means, covariance, opacity, colour = (value[None] for value in parameters)
    target = torch.rand(3, 4, 40, 56, generator=torch.Generator().manual_seed(1))
    results = []
    for way in (backend, "reference"):
        picture = render(means, covariance, opacity, colour, views, backend=way)
        out = torch.cat([picture.rgb, picture.alpha], dim=1)
        results.append((out, torch.autograd.grad((out * target).sum(), parameters)))
    (fast, fast_grads), (slow, slow_grads) = results
    assert slow[:, 3].max() > 0.9
    torch.testing.assert_close(fast, slow, atol=3e-6, rtol=0)
    for fast_grad, slow_grad in zip(fast_grads, slow_grads):
        assert (fast_grad - slow_grad).norm() < 1e-4 * slow_grad.norm()


@needs_compiler
@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("shape", ["balls", "ellipsoids", "moved ellipsoids"])
def test_the_compiled_projection_equals_the_reference_to_double_precision(shape, rows):
    """In value and in the gradient of everything, cameras that are being fitted included; rows serve runs of views."""
    views = Viewpoints.of(regular_orbit(4, 1), 40, 56).to("cpu", torch.float64)
    views.focal.requires_grad_(), views.centre.requires_grad_()
    means, covariance, opacity, colour = cloud(150, shape != "balls", torch.float64)
    generator = torch.Generator().manual_seed(2)
    shifts = 0.1 * torch.rand(rows, 1, 3, generator=generator, dtype=torch.float64)
    turns = torch.eye(3, dtype=torch.float64) + 0.3 * torch.randn(rows, 150, 3, 3, generator=generator).double()
    linear = turns.requires_grad_() if shape == "moved ellipsoids" else None
    target = torch.rand(4, 5, 40, 56, generator=generator, dtype=torch.float64)
    inputs = [means, covariance, opacity, colour, views.focal, views.centre, *([] if linear is None else [linear])]
    results = []
    for backend in ("compiled", "reference"):
        shown = (means + shifts, covariance[None], opacity[None], colour[None], views)
        picture = render(*shown, backend=backend, linear=linear, with_depth=True)
        out = torch.cat([picture.rgb, picture.depth, picture.alpha], dim=1)
        results.append((out, torch.autograd.grad((out * target).sum(), inputs)))
    (fast, fast_grads), (slow, slow_grads) = results
    torch.testing.assert_close(fast, slow, atol=1e-10, rtol=0)
    for fast_grad, slow_grad in zip(fast_grads, slow_grads):
        assert slow_grad.norm() > 0.01
        assert (fast_grad - slow_grad).norm() < 1e-8 * slow_grad.norm()


@needs_compiler
def test_wide_and_slanted_gaussians_equal_the_reference():
    """Wider than a vector of pixels, cut by the picture's edges, and thin ones that cross it slantwise."""
    views = Viewpoints.of(regular_orbit(2, 1, elevation=10.0), 64, 96)
    generator = torch.Generator().manual_seed(4)
    axes = torch.linalg.qr(torch.randn(1, 60, 3, 3, generator=generator))[0] * torch.tensor([0.3, 0.02, 0.02])
    covariance = (axes @ axes.transpose(-1, -2)).requires_grad_()
    means = (torch.rand(1, 60, 3, generator=generator) - 0.5).requires_grad_()
    opacity, colour = 0.1 + 0.5 * torch.rand(1, 60, generator=generator), torch.rand(1, 60, 3, generator=generator)
    results = []
    for backend in ("compiled", "reference"):
        picture = render(means, covariance, opacity, colour, views, backend=backend)
        grads = torch.autograd.grad((picture.rgb**2).sum() + picture.alpha.sum(), [means, covariance])
        results.append((torch.cat([picture.rgb, picture.alpha], dim=1), grads))
    (fast, fast_grads), (slow, slow_grads) = results
    torch.testing.assert_close(fast, slow, atol=5e-6, rtol=0)
    for fast_grad, slow_grad in zip(fast_grads, slow_grads):
        assert (fast_grad - slow_grad).norm() < 1e-4 * slow_grad.norm()


def test_rows_that_fit_no_run_of_pictures_are_refused():
    views = Viewpoints.of(regular_orbit(4, 1), 8, 8)
    means, covariance, opacity, colour = (value[None] for value in cloud(5, True))
    with pytest.raises(UserError, match="do not fit"):
        render(means.expand(3, -1, -1), covariance, opacity, colour, views)
    with pytest.raises(UserError, match="stay balls"):
        render(means, covariance[..., :1, 0], opacity, colour, views, linear=torch.eye(3).expand(1, 5, 3, 3))


@needs_compiler
@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="the processor's features are read from /proc/cpuinfo")
def test_vectors_are_as_wide_as_the_registers():
    """Wider ones are exact too, and three times slower: no other test would notice."""
    words = set(Path("/proc/cpuinfo").read_text().split())
    widest = 64 if "avx512f" in words else 32 if "avx" in words else 16
    assert load_library().vector_bytes() == widest


@needs_compiler
def test_gradients_against_finite_differences():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    views = Viewpoints.of(regular_orbit(2, 1), 9, 11).to("cpu", torch.float64)
    half = 0.3 * (draw(1, 4, 3, 3) - 0.5)
    linear, opacity, feature = torch.eye(3) + 0.2 * draw(2, 4, 3, 3), 0.5 + 0.4 * draw(1, 4), draw(1, 4, 3)
    inputs = [value.requires_grad_() for value in (0.5 * (draw(2, 4, 3) - 0.5), half, opacity, feature, linear)]

    def function(m, h, o, f, turn):
        covariance = h @ h.transpose(-1, -2) + 0.02 * torch.eye(3)
        return draw_compiled(m, covariance, o, f, views, 0.1, turn)

    assert torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-6)


def test_one_gaussian_has_the_projected_place_size_and_opacity():
    cameras = regular_orbit(4, 1, elevation=20.0)
    views = Viewpoints.of(cameras, 64, 64)
    point, sigma = torch.tensor([[0.15, -0.1, 0.2]]), 0.04
    picture = render(
        point.expand(4, 1, 3), torch.full((1, 1, 1), sigma**2), torch.tensor([[0.6]]), torch.ones(1, 1, 3), views
    )
    pixels, depth = cameras.project(point, 64, 64)
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    for view in range(4):
        alpha = picture.alpha[view, 0]
        centre = torch.stack([(alpha * x).sum(), (alpha * y).sum()]) / alpha.sum()
        torch.testing.assert_close(centre, pixels[view, 0, 0], atol=0.05, rtol=0)
        width = float(views.focal[view] * sigma / depth[view, 0, 0])
        assert float(alpha.sum()) == pytest.approx(0.6 * 2 * math.pi * width**2, rel=0.05)
        assert float(alpha.max()) == pytest.approx(0.6, rel=0.06)


def test_nearer_gaussian_hides_the_farther():
    views = Viewpoints.of(regular_orbit(1, 1, elevation=0.0), 32, 32)
    means = torch.tensor([[[0.0, 0.3, 0.0], [0.0, -0.3, 0.0]]])  # azimuth 0 looks along +Y: the second is nearer
    colour = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    picture = render(means, torch.full((1, 2, 1), 0.01), torch.full((1, 2), 0.98), colour, views)
    assert picture.rgb[0, 1, 16, 16] > 0.9 > 0.1 > picture.rgb[0, 0, 16, 16]


@needs_compiler
def test_points_behind_the_camera_and_strange_numbers_draw_nothing():
    views = Viewpoints.of(regular_orbit(1, 1), 16, 16)
    means = torch.tensor([[[0.0, -5.0, 0.0], [float("nan"), 0.0, 0.0], [1e9, 0.0, 0.0]]])
    picture = render(means, torch.full((1, 3, 1), 0.01), torch.full((1, 3), 0.9), torch.ones(1, 3, 3), views)
    assert float(picture.alpha.abs().max()) == 0.0


def test_tiles_hold_each_gaussian_where_it_shows_and_near_ones_first():
    """One in the corner of four tiles, one nearer within the first tile, one behind the camera."""
    mean = torch.tensor([[[16.0, 16.0], [6.0, 6.0], [6.0, 6.0]]])
    conic = torch.tensor([0.5, 0.0, 0.5]).expand(1, 3, 3)
    tiles = Tiles.of(mean, conic, torch.full((1, 3), 0.9), torch.tensor([[2.0, 1.0, 0.0]]), 40, 24)
    assert (tiles.rows, tiles.columns) == (3, 2)
    lists = [tiles.owner[a:b].tolist() for a, b in zip(tiles.start.tolist(), tiles.start.tolist()[1:])]
    assert lists == [[1, 0], [0], [0], [0], [], []]


@pytest.mark.parametrize("backward", [False, True])
def test_the_compiler_for_cuda_takes_the_rasteriser(backward, tmp_path):
    assert ".target sm_80" in build_for_cuda(raster_kernels(3)[backward], 80, tmp_path)


def test_gsplat_fits_cameras_though_it_gives_no_gradient_to_intrinsics(monkeypatch):
    """A stand-in with gsplat's call draws with the plain renderer and, like gsplat, detaches the intrinsics."""

    def rasterization(
        means, quats, scales, opacities, colors, viewmats, Ks, width, height, *, covars, eps2d, render_mode, **_
    ):
        intrinsics = Ks[:, 0].detach()
        views = Viewpoints(viewmats[:, 0], intrinsics[:, 0, 0], intrinsics[:, :2, 2], height, width)
        picture = render(
            means, covars, opacities, colors, views, backend="reference", screen_blur=eps2d,
            with_depth=render_mode == "RGB+D",
        )  # fmt: skip
        parts = [part for part in (picture.rgb, picture.depth) if part is not None]
        return torch.cat(parts, 1).permute(0, 2, 3, 1)[:, None], picture.alpha.permute(0, 2, 3, 1)[:, None], {}

    monkeypatch.setattr(
        "viewtime.recon.render.gsplat_cuda.require", lambda *_: SimpleNamespace(rasterization=rasterization)
    )
    plain = Viewpoints.of(regular_orbit(2, 1, elevation=15.0), 24, 30)
    views = Viewpoints(
        plain.world_to_camera, (1.1 * plain.focal).requires_grad_(), (plain.centre + 1.5).requires_grad_(), 24, 30
    )
    means, covariance, opacity, colour = (value.detach().requires_grad_() for value in cloud(40, True))
    target = torch.rand(2, 5, 24, 30, generator=torch.Generator().manual_seed(1))
    inputs = [means, covariance, opacity, colour, views.focal, views.centre]
    results = []
    for way in ("gsplat", "reference"):
        arguments = (means.expand(2, -1, -1), covariance[None], opacity[None], colour[None], views)
        drawn = render_gsplat(*arguments, True, 0.1) if way == "gsplat" else None
        picture = render(*arguments, with_depth=True, backend="reference") if drawn is None else None
        parts = drawn if picture is None else (picture.rgb, picture.alpha, picture.depth)
        out = torch.cat(parts, dim=1)
        results.append((out, torch.autograd.grad((out * target).sum(), inputs)))
    (fast, fast_grads), (slow, slow_grads) = results
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=0)
    for fast_grad, slow_grad in zip(fast_grads, slow_grads):
        assert slow_grad.norm() > 0.01
        assert (fast_grad - slow_grad).norm() < 1e-4 * slow_grad.norm()
