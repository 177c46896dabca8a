"""The object in films with a natural background: the shipped network, one object of several, masks that are given."""

import re

import numpy as np
import pytest
from PIL import Image

from viewtime.configs.schema.sample import PreprocessOptions
from viewtime.errors import UserError
from viewtime.images import write_image
from viewtime.sample.input import matting_network
from viewtime.sample.input.doubts import doubts, doubts_of_looks, doubts_of_motion
from viewtime.sample.input.mask_files import read_masks
from viewtime.sample.input.matte import Matte, find_matte
from viewtime.sample.input.object_track import find_object, neighbour_flow, own_motion, seen_again, steady
from viewtime.sample.input.one_object import one_object
from viewtime.sample.input.preprocess import prepare_video, write_preview
from viewtime.video import Video, write_video


def film(frames=4, height=120, width=160):
    """A checked ball crosses a textured, panned background that holds a still disc; and the ball's mask."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(60, 200, (30, 40, 3), dtype=np.uint8)
    behind = np.asarray(Image.fromarray(coarse).resize((width + 40, height), Image.Resampling.BICUBIC))
    y, x = np.mgrid[:height, :width]
    clip, masks = [], []
    for index in range(frames):
        picture = behind[:, 2 * index : 2 * index + width].copy()
        picture[(x - 130 + 2 * index) ** 2 + (y - 30) ** 2 < 18**2] = (240, 240, 60)
        inside = (x - 40 - 5 * index) ** 2 + (y - 70) ** 2 < 28**2
        checks = ((x - 5 * index) // 6 + y // 6) % 2
        picture[inside] = np.where(checks[inside][:, None], (230, 30, 30), (120, 0, 60))
        clip.append(picture)
        masks.append(inside)
    return np.stack(clip), np.stack(masks)


def overlap(alpha, mask):
    found = alpha > 127
    return (found & mask).sum() / (found | mask).sum()


def marks_both(picture):
    """A network that marks ball and disc alike."""
    red = (picture[..., 0].astype(int) - picture[..., 1] > 80) | (picture[..., 0] > 235)
    return np.asarray(Image.fromarray(red.astype(np.float32)).resize((64, 64), Image.Resampling.BILINEAR))


def test_the_shipped_network_finds_a_ball_before_a_texture():
    clip, masks = film(2)
    alpha, _ = find_object(clip, matting_network.MattingNetwork("u2netp"))
    assert overlap(alpha, masks) > 0.85


def test_of_two_objects_the_one_that_moves_against_its_background_is_kept():
    clip, masks = film(4)
    alpha, _ = find_object(clip, marks_both)
    assert overlap(alpha, masks) > 0.85
    assert not alpha[:, :50, 100:].any()


def test_a_thing_of_which_little_moves_is_called_doubtful_though_frames_are_few():
    def wall(picture):
        """A network that marks what the ball is before."""
        marked = np.zeros((64, 64), np.float32)
        marked[:, :52] = 1.0
        return marked if picture.shape[1] == 160 else np.ones_like(marked)

    clip, _ = film(3)
    _, said = find_object(clip, wall)
    assert any(re.fullmatch(r"only \d+% of it moves and the rest stays with the background", doubt) for doubt in said)
    _, said = find_object(clip, marks_both)
    assert not any("moves" in doubt for doubt in said)


def test_motion_is_measured_against_the_background():
    clip, masks = film(3)
    small = clip[:, ::2, ::2]
    motion, camera = own_motion(neighbour_flow(small), masks[:, ::2, ::2].astype(np.float32))
    ball, behind = motion[:, masks[0, ::2, ::2]], motion[:, 40:, 60:]
    # The ball goes 5 + 2 px against the panned background at full size, 3.5 at half.
    assert np.median(ball) == pytest.approx(3.5, abs=1.0)
    assert np.median(behind) < 0.3
    assert camera == pytest.approx(1.0, abs=0.2)


def test_an_arm_that_moves_is_a_part_of_what_stands_out():
    body, arm = np.zeros((3, 64, 64), np.float32), np.zeros((3, 64, 64), np.float32)
    body[:, 20:60, 24:40] = 1.0
    body[:, 20:28, 24:52] = 1.0
    arm[:, 20:28, 40:52] = 4.0
    still, moved = np.zeros(3), np.full(3, 5.0)
    assert np.array_equal(one_object(body, arm, still), body > 0.5)
    # The camera moves and the body goes with the background: then the arm is an object before it.
    assert one_object(body, arm, moved)[:, 40:].sum() == 0


@pytest.mark.parametrize("frame", [0, 1, 2])
def test_what_one_frame_alone_says_is_outvoted(frame):
    clip, masks = film(3)
    alpha = masks.astype(np.float32)
    alpha[frame, 90:110, 120:140] = 1.0
    alpha[frame, 65:75, 40:50] = 0.0
    small = clip[:, ::2, ::2]
    result = steady(alpha, small, neighbour_flow(small))
    assert result[frame, 95:105, 125:135].max() < 0.5
    assert result[frame, 66:74, 41:49].min() > 0.5


def test_how_it_was_found_is_said_and_drawn(tmp_path):
    clip, masks = film(3)
    prepared = prepare_video(Video(clip, 10.0), 32, mask=masks.astype(np.uint8) * 255)
    assert prepared.how == "the masks given"
    assert prepared.record()["object_found_by"] == prepared.how
    assert prepared.notes == ()
    assert np.asarray(Image.open(write_preview(prepared, tmp_path / "preview.png"))).shape[0] > 2 * 128
    assert (
        "transparency"
        in find_matte(np.dstack([clip[0], masks[0] * 255])[None].astype(np.uint8), PreprocessOptions()).how
    )


def test_doubtful_masks_are_named_with_their_share():
    masks = np.zeros((4, 40, 40), np.uint8)
    masks[:, 10:20, 10:20] = 255
    assert doubts(masks) == ()
    masks[0] = np.roll(masks[0], 10, axis=1)
    assert doubts(masks) == ()  # it moves
    masks[1, 10:20, :24] = 255
    said = " ".join(doubts(masks))
    assert "border in 25% of the frames" in said
    assert "flickers" in said
    assert "67% of the time" in said
    assert "almost all of the picture in 100%" in " ".join(doubts(np.full((2, 8, 8), 255, np.uint8)))


def test_what_moves_and_a_second_look_speak_against_a_mask():
    saucer, fox = np.zeros((4, 64, 64), bool), np.zeros((4, 64, 64), bool)
    saucer[:, 10:50, 10:50], fox[:, 30:38, 20:30] = True, True
    speed = fox * 2.0
    assert doubts_of_motion(saucer, fox, speed) == ("only 12% of it moves and the rest stays with the background",)
    assert doubts_of_motion(saucer, fox, np.full(fox.shape, 2.0)) == ()
    assert doubts_of_motion(fox, fox, speed) == ()
    beside = np.roll(fox, 30, axis=2)
    assert doubts_of_motion(fox, beside, speed) == ("what moves lies beside it in 100% of the frames",)
    again = np.array([True, False, False, True])
    assert doubts_of_looks(saucer, again) == ("the network sees something else from near in 50% of the frames",)
    assert doubts_of_looks(saucer, again | True) == ()
    at_border = np.zeros((2, 40, 40), np.uint8)
    at_border[:, :20, 10:30] = 255
    (said,) = prepare_video(Video(np.full((2, 40, 40, 3), 90, np.uint8), 10.0), 32, mask=at_border).notes
    assert said.startswith("the mask is doubtful: the object touches the picture's border in 100% of the frames")
    assert "--mask FILES" in Matte(at_border[..., None], "", ("it flickers",)).warning[0]
    assert Matte(at_border[..., None], "").warning == ()


def test_the_second_look_counts_where_it_sees_the_same():
    kept = np.zeros((2, 16, 16), bool)
    kept[:, 4:12, 4:12] = True
    looked = np.zeros((2, 32, 32), np.float32)
    looked[0, 9:24, 8:24], looked[1, :4, :4] = 0.9, 1.0
    result, again = seen_again(looked, kept)
    assert again.tolist() == [True, False]
    assert np.array_equal(result[0], looked[0])
    assert result[1, 10:22, 10:22].min() == 1.0
    assert result[1, :4, :4].max() == 0.0


def test_masks_of_every_form_are_the_same(tmp_path):
    _, masks = film(3)
    expected = masks.astype(np.uint8) * 255
    for index, mask in enumerate(masks):
        write_image(tmp_path / "png" / f"{index}.png", np.repeat(mask[..., None] * np.uint8(1), 3, axis=-1))
    np.savez(tmp_path / "logits.npz", masks=np.where(masks, 9.0, -9.0)[:, None].astype(np.float32))
    np.savez(tmp_path / "frames.npz", **{f"frame_{index}": mask for index, mask in enumerate(masks)})
    np.save(tmp_path / "bools.npy", masks)
    write_video(tmp_path / "masks.mp4", np.repeat(expected[..., None], 3, axis=-1), 10.0)
    for name in ("png", "logits.npz", "frames.npz", "bools.npy"):
        assert np.array_equal(read_masks(tmp_path / name, 3, masks.shape[1:]), expected), name
    assert overlap(read_masks(tmp_path / "masks.mp4", 3, masks.shape[1:]), masks) > 0.98
    assert read_masks(tmp_path / "bools.npy", 2, (240, 320)).shape == (2, 240, 320)


def test_masks_that_do_not_fit_are_errors(tmp_path):
    _, masks = film(3)
    np.savez(tmp_path / "masks.npz", masks)
    for frames, picture, words in ((4, (120, 160), "3 masks for 4 frames"), (3, (160, 120), "one shape")):
        with pytest.raises(UserError, match=words):
            read_masks(tmp_path / "masks.npz", frames, picture)
    with pytest.raises(UserError, match="every mask is empty"):
        read_masks(np.zeros((3, 8, 8), bool), 3, (8, 8))
    with pytest.raises(UserError, match="no such masks"):
        read_masks(tmp_path / "none.npz", 3, (8, 8))


def test_networks_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    assert matting_network.find_network() == ("u2netp", matting_network.SHIPPED)
    with pytest.raises(UserError, match=r"isnet-general-use\.onnx"):
        matting_network.find_network("isnet-general-use")
    with pytest.raises(UserError, match="known: birefnet"):
        matting_network.find_network("sam")
    (tmp_path / "u2net.onnx").write_bytes(b"no network")
    assert matting_network.find_network()[0] == "u2net"
    with pytest.raises(UserError, match=r"u2net\.onnx is no matting network"):
        matting_network.MattingNetwork()
