"""What must hold of the networks whatever their weights: joint views, cameras, copies, references, chunks."""

import math

import pytest
import torch
from distill_golden import draw, fill
from golden_parts import GivenText, StoredDraws, blank, rendered, unet2d, vae

from viewtime.cameras import Cameras, opengl_from_opencv, regular_orbit
from viewtime.errors import UserError
from viewtime.model.conditioners.vision_transformer import VisionTransformer
from viewtime.model.published.video_config import ImageEncoderConfig
from viewtime.recon.distill.camera_sampling import CameraRange, elevations, ring, single
from viewtime.recon.distill.guidance.base import Kind, SeededDraws
from viewtime.recon.distill.guidance.codec import Autoencoder
from viewtime.recon.distill.guidance.diffusion import TextGuidance
from viewtime.recon.distill.guidance.lora_copy import LoraCopy, lora_parameters
from viewtime.recon.distill.guidance.multi_view import MultiViewGuidance, add_camera_embedding, join_views
from viewtime.recon.distill.guidance.prompts import TextPrompt, ViewWords
from viewtime.recon.distill.guidance.published_cameras import angles, camera_matrix, relative_pose
from viewtime.recon.distill.guidance.zero123 import Zero123Guidance, pose_projection
from viewtime.recon.distill.noise import scaled_linear_schedule
from viewtime.recon.distill.objectives import Sds, Vsd
from viewtime.recon.distill.teacher import Teacher

SCHEDULE = scaled_linear_schedule()


def prompt():
    return GivenText(draw("p:text", 1, 7, 24), draw("p:uncond", 1, 7, 24))


@pytest.fixture(scope="module")
def multi_view():
    network = unet2d("mv")
    add_camera_embedding(network)
    fill(network.class_embedding, "mvcam")
    join_views(network, 4)
    return MultiViewGuidance("mv", Kind.MULTI_VIEW, network, SCHEDULE, Autoencoder(vae()), (16, 16), views=4)


def predicted(guidance, noisy, cameras, unconditional=False):
    timesteps = torch.full(noisy.shape[:3], 400)
    return guidance.predict(noisy, timesteps, cameras, prompt(), unconditional=unconditional).conditional


def two_scenes():
    return draw("x", 2, 4, 1, 4, 8, 8), (regular_orbit(4, 1), regular_orbit(4, 1, azimuth_start=17.0))


def test_permuted_views_give_permuted_predictions(multi_view):
    noisy, cameras = two_scenes()
    order = torch.tensor([2, 0, 3, 1])
    expected = predicted(multi_view, noisy, cameras)[:, order]
    found = predicted(multi_view, noisy[:, order], tuple(camera[order] for camera in cameras))
    torch.testing.assert_close(found, expected)


def test_one_view_four_times_is_that_view_alone(multi_view):
    noisy, cameras = two_scenes()
    same = noisy[:1, :1].expand(1, 4, -1, -1, -1, -1)
    found = predicted(multi_view, same, (cameras[0][[0, 0, 0, 0]],))
    join_views(multi_view.network, 1)
    alone = predicted(multi_view, same, (cameras[0][[0, 0, 0, 0]],))
    join_views(multi_view.network, 4)
    torch.testing.assert_close(found, alone)


def test_scenes_never_mix_and_views_do(multi_view):
    noisy, cameras = two_scenes()
    before = predicted(multi_view, noisy, cameras)
    changed = noisy.clone()
    changed[1, 2] += 1
    after = predicted(multi_view, changed, cameras)
    torch.testing.assert_close(after[0], before[0])
    assert all(not torch.allclose(after[1, view], before[1, view], atol=1e-4) for view in range(4))


def test_attention_without_queries_is_the_mean_over_all_views(multi_view):
    attention = multi_view.network.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    tokens, kept = draw("tokens", 8, 5, 16), attention.to_q.weight.clone()
    with torch.no_grad():
        attention.to_q.weight.zero_()
        found = attention(tokens)
        attention.to_q.weight.copy_(kept)
    values = attention.to_v(tokens).reshape(2, 20, 16).mean(dim=1)
    expected = attention.to_out[0](values)[:, None].expand(2, 20, 16).reshape(8, 5, 16)
    torch.testing.assert_close(found, expected)


def test_cameras_matter_only_through_their_embedding(multi_view):
    noisy, cameras = two_scenes()
    turned = tuple(Cameras(c.elevation, c.azimuth + 40, c.distance) for c in cameras)
    further = tuple(Cameras(c.elevation, c.azimuth, 3 * c.distance) for c in cameras)
    found = predicted(multi_view, noisy, cameras)
    assert not torch.allclose(predicted(multi_view, noisy, turned), found, atol=1e-4)
    torch.testing.assert_close(predicted(multi_view, noisy, further), found, rtol=1e-6, atol=1e-6)
    with pytest.raises(UserError, match="looks at 4 views together; the batch has 3"):
        predicted(multi_view, noisy[:, :3], tuple(c[:3] for c in cameras))


def test_our_cameras_are_threestudios_turned_by_a_quarter():
    cameras = regular_orbit(5, 1, elevation=25.0, distance=2.5, azimuth_start=-70.0)
    turn = torch.tensor([[0.0, -1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    expected = turn @ opengl_from_opencv(cameras.camera_to_world())
    torch.testing.assert_close(camera_matrix(*(value[0] for value in angles((cameras,)))), expected)


@pytest.mark.parametrize("shared", [False, True])
def test_a_fresh_copy_answers_like_its_carrier(shared):
    base, carrier = unet2d("sd"), unet2d("sd")
    guidance = TextGuidance("sd", Kind.IMAGE, carrier if shared else base, SCHEDULE, Autoencoder(vae()), (16, 16))
    noisy, cameras = draw("x", 2, 1, 1, 4, 8, 8), (regular_orbit(1, 1), regular_orbit(1, 1, azimuth_start=50.0))
    plain = TextGuidance("sd", Kind.IMAGE, base, SCHEDULE, guidance.codec, (16, 16))
    expected = predicted(plain, noisy, cameras, unconditional=True)
    copy = LoraCopy(carrier, SCHEDULE, shared=shared)
    copy.camera.double()
    timesteps = torch.full((2, 1, 1), 400)

    def answered():
        return copy.predict(noisy, timesteps, cameras, prompt()).conditional

    assert not torch.allclose(answered(), expected, atol=1e-4), "the camera embedding adds to the time embedding"
    with torch.no_grad():
        for parameter in copy.camera.parameters():
            parameter.zero_()
        torch.testing.assert_close(answered(), expected, rtol=0, atol=0)
        for parameter in lora_parameters(carrier).values():
            parameter.add_(0.1)
    assert not torch.allclose(answered(), expected, atol=1e-4), "the LoRA is in effect"
    assert torch.equal(predicted(guidance, noisy, cameras, unconditional=True), expected)


@pytest.mark.parametrize("shared", [False, True])
def test_the_copy_learns_and_its_state_comes_back(shared):
    carrier = unet2d("sd")
    guidance = TextGuidance("sd", Kind.IMAGE, carrier, SCHEDULE, Autoencoder(vae()), (16, 16))
    copy = LoraCopy(carrier if shared else unet2d("sd"), SCHEDULE, shared=shared)
    for parameter in copy.parameters():
        parameter.data = parameter.data.double()
    teacher = Teacher(guidance, prompt(), Vsd(), copy)
    color = draw("color", 1, 1, 1, 3, 16, 16).sigmoid().requires_grad_()
    start = {name: value.clone() for name, value in copy.state_dict().items()}
    optimiser = torch.optim.Adam(copy.parameters(), 1e-2)
    losses = []
    for _ in range(4):
        found = teacher.losses(rendered(color), 0, SeededDraws(5))
        optimiser.zero_grad()
        (found["vsd"] + found["lora"]).backward()
        optimiser.step()
        losses.append(found["lora"].item())
    assert losses[-1] < losses[0]
    assert color.grad is not None
    frozen = [
        name for name, parameter in carrier.named_parameters() if parameter.grad is not None and "vsd" not in name
    ]
    assert all(name.startswith("class_embedding") for name in frozen)
    changed = [name for name, value in copy.state_dict().items() if not torch.equal(value, start[name])]
    assert len(changed) == len(start), "LoRA and camera embedding all learn"
    copy.load_state_dict(start)
    assert all(torch.equal(value, start[name]) for name, value in copy.state_dict().items())
    with pytest.raises(KeyError, match="other names"):
        copy.load_state_dict({"nothing": torch.zeros(1)})


def zero123(stable=False):
    width = 24
    encoder = VisionTransformer(
        ImageEncoderConfig(patch_size=56, width=16, layers=1, heads=2, out_dim=width, activation="quick_gelu")
    )
    return Zero123Guidance(
        "zero123", unet2d("z", 8, 4), SCHEDULE, Autoencoder(vae()), (16, 16),
        image_encoder=fill(encoder, "clip"), projection=pose_projection(width).double(), stable=stable,
    )  # fmt: skip


def test_poses_relative_to_the_reference():
    def pose(elevation, azimuth, distance=2.0, stable=False):
        values = (torch.tensor(value, dtype=torch.float64) for value in (elevation, azimuth, distance))
        return relative_pose(*values, (10.0, 20.0, 2.0), stable=stable)

    for found, expected in (
        (pose(10.0, 20.0), (0, 0, 1, 0)),
        (pose(10.0, 110.0), (0, 1, 0, 0)),
        (pose(40.0, 20.0), (-math.pi / 6, 0, 1, 0)),
        (pose(10.0, 20.0, 2.5), (0, 0, 1, 0.5)),
        (pose(10.0, 20.0, 2.5, stable=True), (0, 0, 1, math.radians(80))),
    ):
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_zero123_sees_the_reference_and_nothing_without_it():
    guidance = zero123()
    picture = draw("picture", 4, 20, 20).sigmoid()
    reference = guidance.reference(picture, 10.0, 0.0, 3.8)
    cameras = [torch.tensor([10.0, 40.0]), torch.tensor([0.0, 90.0]), torch.tensor([3.8, 3.8])]
    known, empty = guidance.branches(reference, *cameras)
    torch.testing.assert_close(known.tokens[:, 0], reference.embedding.expand(2, -1)), "identity whatever the pose"
    assert not empty.tokens.any()
    assert not empty.beside.any()
    shown = torch.nn.functional.interpolate(
        (picture[:3] * picture[3:] + 1 - picture[3:])[None], (16, 16), mode="bilinear", antialias=True
    )
    latent = guidance.codec.autoencoder.encode(2 * shown - 1).latent_dist.mode()
    torch.testing.assert_close(known.beside, latent.expand(2, -1, -1, -1)), "the mode, not scaled"
    with pytest.raises(UserError, match="has 3 channels; it needs an alpha channel"):
        guidance.reference(picture[:3], 10.0, 0.0, 3.8)


def test_zero123_guides_a_render_over_white():
    guidance = zero123()
    reference = guidance.reference(draw("picture", 4, 20, 20).sigmoid(), 10.0, 0.0, 3.8)
    picture = rendered(draw("color", 2, 1, 1, 3, 16, 16).sigmoid())
    half = type(picture)(picture.color, picture.opacity * 0.5, picture.foreground.requires_grad_(), picture.cameras)
    loss = Teacher(guidance, reference, Sds(3.0, "B")).losses(half, 0, SeededDraws(0))["sds"]
    (gradient,) = torch.autograd.grad(loss, half.foreground)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("recompute", [False, True])
def test_chunks_of_the_autoencoder_change_neither_values_nor_gradients(recompute):
    pictures = draw("pictures", 1, 2, 3, 3, 16, 16).sigmoid()
    noise = {"posterior": draw("noise", 1, 2, 3, 4, 8, 8)}
    results = []
    for codec in (Autoencoder(vae(), chunk=6, recompute=False), Autoencoder(vae(), chunk=2, recompute=recompute)):
        leaf = pictures.clone().requires_grad_()
        latents = codec.encode(leaf, StoredDraws(noise))
        (gradient,) = torch.autograd.grad(latents.square().sum(), leaf)
        results.append((latents.detach(), gradient, codec.decode(latents.detach())))
    for whole, parts in zip(*results):
        torch.testing.assert_close(parts, whole)


def test_some_frames_alone_carry_a_gradient():
    class Draws(StoredDraws):
        def uniform(self, name, count):
            return torch.tensor([0.9, 0.1, 0.5, 0.2])

    leaf = draw("pictures", 1, 1, 4, 3, 16, 16).sigmoid().requires_grad_()
    noise = {"posterior": draw("noise", 1, 1, 4, 4, 8, 8)}
    whole = Autoencoder(vae(), chunk=4).encode(leaf, StoredDraws(noise))
    partly = Autoencoder(vae(), frames_with_gradient=2).encode(leaf, Draws(noise))
    torch.testing.assert_close(partly, whole)
    (gradient,) = torch.autograd.grad(partly.square().sum(), leaf)
    assert (gradient[0, 0].flatten(1).norm(dim=1) > 0).tolist() == [False, True, False, True]


def test_view_words_go_by_the_camera():
    words = ViewWords(front=30.0, back=30.0)
    directions = torch.arange(4.0)[:, None, None].expand(4, 7, 24)
    text = TextPrompt("x", "", torch.full((7, 24), 9.0), directions, torch.zeros(7, 24), words)
    elevation, azimuth = torch.tensor([0.0, 0.0, 0.0, 70.0, 0.0]), torch.tensor([90.0, 0.0, 180.0, 0.0, 30.0])
    assert text.conditional(elevation, azimuth)[:, 0, 0].tolist() == [0, 1, 2, 3, 0]
    assert words.describe("a cat")[2] == "a cat, back view"
    assert ViewWords(form="prefix").describe("a cat")[2] == "backside view of a cat"
    plain = TextPrompt("x", "", torch.full((7, 24), 9.0), directions, torch.zeros(7, 24))
    assert plain.conditional(elevation, azimuth).unique().tolist() == [9.0]


def test_rings_and_single_cameras_lie_where_they_should():
    bounds = CameraRange(distance=(0.8, 1.0), relative=True)
    scenes = ring(bounds, 3, 4, SeededDraws(2))
    for cameras in scenes:
        azimuth = cameras.azimuth[:, 0]
        torch.testing.assert_close(azimuth.diff(), torch.full((3,), 90.0))
        assert cameras.elevation.unique().numel() == cameras.distance.unique().numel() == 1
        share = cameras.distance[0, 0] * math.tan(math.radians(cameras.fov_y) / 2)
        assert 0.8 <= share <= 1.0
    assert len({cameras.fov_y for cameras in scenes}) == 3
    zoomed = ring(CameraRange(distance=(0.8, 1.0), relative=True, zoom=(0.5, 0.5)), 3, 4, SeededDraws(2))
    for cameras, narrow in zip(scenes, zoomed):
        assert narrow.fov_y == pytest.approx(0.5 * cameras.fov_y), "the lens narrows where the camera stands"
        assert torch.equal(narrow.distance, cameras.distance)
    spread = torch.cat([cameras.azimuth[0] for cameras in single(CameraRange(), 6, SeededDraws(3))])
    assert torch.equal(((spread + 180) // 60).long(), torch.arange(6)), "one camera in each sixth of the circle"
    u = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(elevations(u, False, (0.0, 30.0)), torch.tensor([0.0, 15.0, 30.0], dtype=torch.float64))
    sphere = elevations(u, True, (0.0, 30.0))
    torch.testing.assert_close(sphere.deg2rad().sin(), torch.tensor([0.0, 1 / 6, 1 / 3], dtype=torch.float64))


def test_image_guidance_takes_views_of_any_layout():
    guidance = TextGuidance("sd", Kind.IMAGE, unet2d("sd"), SCHEDULE, Autoencoder(vae()), (16, 16))
    noisy = draw("x", 2, 4, 1, 4, 8, 8)
    cameras = (regular_orbit(4, 1),) * 2
    whole = predicted(guidance, noisy, cameras)
    flat = predicted(guidance, noisy.reshape(8, 1, 1, 4, 8, 8), tuple(cameras[n // 4][n % 4] for n in range(8)))
    torch.testing.assert_close(whole.reshape(flat.shape), flat)
    picked = blank(2, 4, 1).select(torch.tensor([1, 0]), torch.tensor([3, 0]))
    assert picked.color.shape == (2, 1, 1, 3, 8, 8)
    assert all(camera.shape == (1, 1) for camera in picked.cameras)
