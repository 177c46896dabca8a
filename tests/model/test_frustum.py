"""The input view's solid: its outline before training, its place in every view, and its part in the network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from viewtime.cameras import DEFAULT_FOV_Y, Cameras
from viewtime.errors import UserError
from viewtime.model.mini.config import MiniConfig
from viewtime.model.mini.frustum import Frustum, PictureAttention, SolidCameras
from viewtime.model.mini.network import MiniNetwork
from viewtime.model.mini.rays import SLOPE, camera_axes, slope_of
from viewtime.model.mini.solid import render_solid
from viewtime.weights import load_weights, save_weights

SIZE = 32
HALF = SIZE // 2
EMPTY = torch.tensor([1.0, 1.0, 1.0, -1.0])[:, None, None]


def lopsided() -> Tensor:
    """A red L on white, opaque: [4, SIZE, SIZE] in [-1, 1]."""
    picture = EMPTY.expand(4, SIZE, SIZE).clone()
    for rows, columns in ((slice(6, 26), slice(8, 14)), (slice(20, 26), slice(8, 26))):
        picture[:, rows, columns] = torch.tensor([1.0, -1.0, -1.0, 1.0])[:, None, None]
    return picture


def axes_at(*azimuth: float) -> Tensor:
    return camera_axes(torch.zeros(1, len(azimuth)), torch.tensor([azimuth]))


def cameras_of(axes: Tensor) -> SolidCameras:
    """The first of the cameras took the picture; usual field of view, level."""
    N = len(axes)
    return SolidCameras(axes[:, 0], torch.zeros(N), axes, torch.full((N,), SLOPE))


def frustum_of(rays: int) -> Frustum:
    return Frustum(MiniConfig(size=SIZE, depth=0, frustum_width=8, frustum_rays=rays))


def outline(seen: Tensor) -> Tensor:
    return seen[3] > 0


def shrunk(picture: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(picture, 2)


def test_before_training_it_shows_the_input_in_the_input_view() -> None:
    axes = axes_at(0)
    seen, wanted = frustum_of(HALF)(lopsided()[None], cameras_of(axes))[0, 0], shrunk(lopsided())
    assert (outline(seen) == outline(wanted)).all()
    assert (seen[:3, outline(wanted)] - torch.tensor([1.0, -1.0, -1.0])[:, None]).abs().max() < 0.2


def test_with_as_many_rays_as_pixels_the_outline_is_the_inputs_own() -> None:
    axes = axes_at(0)
    seen = frustum_of(SIZE)(lopsided()[None], cameras_of(axes))[0, 0]
    assert (outline(seen) == outline(lopsided())).all()


def test_more_rays_show_the_same_solid() -> None:
    """From the side, where thickness counts: as opaque and as wide."""
    torch.manual_seed(0)
    coarse, fine, axes = frustum_of(HALF), frustum_of(SIZE), axes_at(0, 75)
    fine.load_state_dict(coarse.state_dict())
    one, other = (frustum(lopsided()[None], cameras_of(axes))[0, 1] for frustum in (coarse, fine))
    assert (one - shrunk(other))[3].abs().mean() < 0.05  # alpha counts from -1 to 1
    assert outline(other).sum().item() == pytest.approx(4 * outline(one).sum().item(), rel=0.05)


def test_larger_pictures_of_the_same_network_keep_the_colours_of_the_input() -> None:
    """A network of small pictures inside one of large ones: a stripe of one large pixel is seen again."""
    picture = lopsided().repeat_interleave(2, -1).repeat_interleave(2, -2)
    picture[:, 20:40, 20] = torch.tensor([-1.0, -1.0, 1.0, 1.0])[:, None]
    sizes = {"depth": 0, "frustum_width": 8}
    torch.manual_seed(0)
    network = MiniNetwork(MiniConfig(size=2 * SIZE, frustum_size=SIZE, frustum_rays=2 * SIZE, **sizes))
    network.load_state_dict(MiniNetwork(MiniConfig(size=SIZE, **sizes)).state_dict())
    _, t, cond = batch(frames=1)
    cond = {
        **cond,
        "azimuth": torch.tensor([0.0, 0.0, 180.0])[None, :, None],
        "known_frames": picture.expand(1, 3, 1, -1, -1, -1),
    }
    seen = network(picture.expand(1, 3, 1, -1, -1, -1), t, cond)[0, 1, 0]
    assert (outline(seen) == outline(picture)).all()
    assert (seen[2, 22:38, 20] - seen[0, 22:38, 20]).min() > 1.5
    assert (seen[0, 22:38, 22] - seen[2, 22:38, 22]).min() > 1.5


def test_from_behind_a_thin_solid_is_its_own_mirror_image() -> None:
    axes = axes_at(0, 180)
    thin = torch.zeros(1, 4, HALF, HALF, HALF)
    thin[:, 3, HALF // 2 - 1 : HALF // 2 + 1] = 0.5 * outline(shrunk(lopsided()))
    back = render_solid(thin, axes[:, 0], axes, torch.tensor([SLOPE]), HALF)[0, 1]
    assert (outline(back) == outline(shrunk(lopsided()).flip(-1))).float().mean() > 0.95


def test_rays_that_miss_the_object_stay_empty_whatever_the_network_says() -> None:
    torch.manual_seed(0)
    frustum, axes = frustum_of(HALF), axes_at(0)
    torch.nn.init.normal_(frustum.network.leave.weight)  # a network that says anything
    seen = frustum(lopsided()[None], cameras_of(axes))[0, 0]
    away = torch.nn.functional.max_pool2d(shrunk(lopsided())[None, 3:], 3, 1, 1)[0, 0] < 0
    assert away.sum() > 50
    torch.testing.assert_close(seen[:, away], EMPTY[:, 0].expand(4, int(away.sum())), atol=1e-5, rtol=0)


@pytest.mark.parametrize("fov_y", [DEFAULT_FOV_Y, 12.0, 55.0])
def test_an_opaque_cell_of_the_frustum_appears_at_its_projection_in_every_view(fov_y: float) -> None:
    azimuth = torch.tensor([[0.0], [40.0], [130.0], [250.0]])
    elevation = torch.tensor([[15.0], [-10.0], [35.0], [0.0]])
    slope = slope_of(torch.tensor([fov_y]))
    cameras = Cameras(elevation, azimuth, torch.full((4, 1), 1 / slope.item()), fov_y)
    axes = camera_axes(elevation, azimuth)[:, 0][None]
    volume = torch.zeros(1, 4, HALF, HALF, HALF)
    z, y, x = 11, 6, 10
    volume[0, 3, z, y, x] = 100.0
    seen = render_solid(volume, axes[:, 0], axes, slope, HALF)[0, :, 3]
    u, v, depth = ((torch.tensor([x, y, z]) + 0.5) / HALF * 2 - 1).tolist()
    point = torch.tensor([u * (1 + slope.item() * depth), v * (1 + slope.item() * depth), depth]) @ axes[0, 0]
    pixels, _ = cameras.project(point[None], HALF, HALF)
    row, column = torch.meshgrid(torch.arange(HALF) + 0.5, torch.arange(HALF) + 0.5, indexing="ij")
    for view, opacity in enumerate((seen + 1) / 2):
        centre = torch.stack([(opacity * column).sum(), (opacity * row).sum()]) / opacity.sum()
        assert (centre - pixels[view, 0, 0]).norm() < 0.7, view


def batch(views: int = 3, frames: int = 2) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    grid = lopsided().expand(1, views, frames, 4, SIZE, SIZE).clone()
    known = torch.zeros(1, views, frames, dtype=torch.bool)
    known[:, 0, 0] = True
    azimuth = torch.linspace(0, 240, views)[None, :, None].expand(1, views, frames)
    cond = {"known": known, "known_frames": grid, "elevation": torch.zeros_like(azimuth), "azimuth": azimuth}
    return torch.randn(grid.shape), torch.ones(known.shape), cond


@pytest.mark.parametrize("depth", [0, 2])
def test_an_untrained_network_predicts_the_solid_where_the_input_view_is_known(depth: int) -> None:
    config = MiniConfig(size=SIZE, depth=depth, width=32, head_dim=16, stem_widths=(8, 16), frustum_width=8)
    network = MiniNetwork(config)
    x, t, cond = batch()
    x0 = network(x, t, cond).detach()
    torch.testing.assert_close(x0[0, 0, 0], lopsided())
    assert outline(x0[0, 1, 0]).sum() > 50
    torch.testing.assert_close(x0[0, :, 1], EMPTY.expand(3, 4, SIZE, SIZE))  # its input is not known


def frames_that_differ(*, frame_attention: bool, known: list[bool]) -> tuple[Tensor, Tensor]:
    """Side views of the first of two frames, before and after the second one changed."""
    torch.manual_seed(0)
    config = MiniConfig(size=SIZE, depth=0, frustum_width=8, frame_attention=frame_attention)
    network = MiniNetwork(config)
    torch.nn.init.normal_(network.frustum.network.leave.weight, std=0.1)
    for module in network.modules():
        if isinstance(module, PictureAttention):
            torch.nn.init.normal_(module.out.weight, std=0.1)
    x, t, cond = batch()
    cond["known"][:, 0] = torch.tensor(known)
    before = network(x, t, cond)[:, 1, 0]
    cond["known_frames"][:, 0, 1] = lopsided().flip(-1)
    return before.detach(), network(x, t, cond)[:, 1, 0].detach()


def test_a_frame_learns_from_the_others() -> None:
    before, after = frames_that_differ(frame_attention=True, known=[True, True])
    assert (before - after).abs().max() > 0.01


@pytest.mark.parametrize(("attention", "known"), [(False, [True, True]), (True, [True, False])])
def test_frames_without_attention_or_unknown_ones_change_nothing(attention: bool, known: list[bool]) -> None:
    before, after = frames_that_differ(frame_attention=attention, known=known)
    torch.testing.assert_close(before, after)


def test_the_order_of_objects_and_frames_is_kept() -> None:
    """Two objects of two frames at once are what each object gives alone."""
    torch.manual_seed(0)
    frustum, axes = frustum_of(HALF), axes_at(0, 70).expand(4, -1, -1, -1)
    torch.nn.init.normal_(frustum.network.middle[3].out.weight, std=0.1)
    torch.nn.init.normal_(frustum.network.leave.weight, std=0.1)
    objects = torch.stack([lopsided(), lopsided().flip(-1), lopsided().flip(-2), lopsided().transpose(-1, -2)])
    together = frustum(objects, cameras_of(axes), 2)
    alone = [frustum(part, cameras_of(axes[:2]), 2) for part in objects.split(2)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_the_solid_learns_how_deep_a_ball_is() -> None:
    """From the front a ball and a pole along the line of sight look alike; views from the side tell them apart."""
    torch.manual_seed(0)
    network = MiniNetwork(MiniConfig(size=SIZE, depth=0, frustum_width=8))
    row, column = torch.meshgrid(torch.arange(SIZE) + 0.5 - HALF, torch.arange(SIZE) + 0.5 - HALF, indexing="ij")
    ball = EMPTY.expand(4, SIZE, SIZE).clone()
    ball[:, row**2 + column**2 < 100] = torch.tensor([-1.0, -1.0, 1.0, 1.0])[:, None]
    x, t, cond = batch(frames=1)
    cond["known_frames"] = ball.expand(x.shape)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    errors = []
    for _ in range(40):
        error = (network(x, t, cond) - cond["known_frames"])[:, 1:].square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.3 * errors[0]


def test_a_solid_grows_into_a_whole_network(tmp_path: Path) -> None:
    sizes = {"size": SIZE, "width": 32, "head_dim": 16, "stem_widths": (8, 16), "frustum_width": 8}
    small, whole = MiniNetwork(MiniConfig(depth=0, **sizes)), MiniNetwork(MiniConfig(depth=2, **sizes))
    path = save_weights(tmp_path / "small.safetensors", dict(small.state_dict()), {})
    before = whole.layers[0].mlp_in.weight.detach().clone()
    load_weights(whole, path, grown=True)
    torch.testing.assert_close(whole.frustum.network.enter.weight, small.frustum.network.enter.weight)
    torch.testing.assert_close(whole.layers[0].mlp_in.weight, before)
    with pytest.raises(UserError, match="missing"):
        load_weights(whole, path)
    whole_path = save_weights(tmp_path / "whole.safetensors", dict(whole.state_dict()), {})
    with pytest.raises(UserError, match="unexpected"):
        load_weights(small, whole_path, grown=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frustum_width": 12}, "multiple of 8"),
        ({"frustum_width": 8, "channels": 3}, "channels 4"),
        ({"depth": 0}, "no network"),
        ({"frustum_width": 8, "frustum_rays": 48}, "a multiple that divides 64"),
        ({"frustum_width": 8, "frustum_size": 48}, "divides the size"),
    ],
)
def test_sizes_that_make_no_network_are_refused(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        MiniConfig(**options)


def test_readouts_start_at_nothing_and_a_network_without_them_grows_them(tmp_path: Path) -> None:
    plain = MiniConfig(size=SIZE, depth=0, frustum_width=8)
    smaller, grown = MiniNetwork(plain), MiniNetwork(replace(plain, frustum_readouts=True))
    path = save_weights(tmp_path / "plain.safetensors", smaller.state_dict(), {})
    load_weights(grown, path, dtype=torch.float32, grown=True)
    assert smaller.frustum is not None
    assert grown.frustum is not None
    axes = axes_at(0, 90)
    before, after = (net.frustum(lopsided()[None], cameras_of(axes)) for net in (smaller, grown))
    assert torch.equal(before, after)
    after[0, 1].sum().backward()
    for layer in (grown.frustum.network.read_quarter, grown.frustum.network.read_deep):
        assert layer is not None
        assert layer.weight.grad is not None
        assert float(layer.weight.grad.abs().sum()) > 0


def test_with_its_own_hue_a_grey_object_stays_grey_from_all_sides() -> None:
    config = MiniConfig(size=SIZE, depth=0, frustum_width=8)
    torch.manual_seed(0)
    free = Frustum(config)
    torch.nn.init.normal_(free.network.leave.weight, std=0.2)
    own = Frustum(replace(config, frustum_own_hue=True))
    own.load_state_dict(free.state_dict())
    picture = lopsided()
    picture[:3] = torch.where(picture[3:] > 0, 0.0, picture[:3])
    cameras = cameras_of(axes_at(0, 70, 180))
    coloured, grey = free(picture[None], cameras)[0], own(picture[None], cameras)[0]
    assert (coloured[:, 0] - coloured[:, 2]).abs().max() > 0.05
    assert (grey[:, :3].amax(1) - grey[:, :3].amin(1)).max() < 1e-5
    assert torch.equal(grey[:, 3], coloured[:, 3])
