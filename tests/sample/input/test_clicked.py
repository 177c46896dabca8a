"""Masks corrected by clicks."""

import numpy as np
import pytest

from tests.sample.input.test_object_masks import film, marks_both, overlap
from viewtime.errors import UserError
from viewtime.sample.input.clicked import Click, with_click


@pytest.fixture(scope="module")
def clip():
    """Frames, the crossing ball's masks, those of the disc that is still, of both as an alpha."""
    frames, ball = film(3)
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]]
    disc = np.stack([(x - 130 + 2 * index) ** 2 + (y - 30) ** 2 < 18**2 for index in range(3)])
    return frames, ball, disc, ((ball | disc) * 255).astype(np.uint8)


def test_a_click_on_a_part_of_the_mask_takes_it_away_in_all_frames(clip):
    frames, ball, disc, both = clip
    result = with_click(frames, both, Click(1, 128, 30, "remove"), marks_both)
    assert overlap(result, ball) > 0.9
    assert (result[disc] > 127).mean() < 0.1


def test_only_this_keeps_the_part_that_was_clicked_on(clip):
    frames, ball, disc, both = clip
    assert overlap(with_click(frames, both, Click(2, 50, 70, "only"), marks_both), ball) > 0.9
    assert overlap(with_click(frames, both, Click(0, 130, 30, "only"), marks_both), disc) > 0.8


def test_what_the_mask_lacks_is_found_at_the_click_and_followed(clip):
    frames, ball, disc, _ = clip
    wrong = (disc * 255).astype(np.uint8)
    assert overlap(with_click(frames, wrong, Click(0, 40, 70, "only"), marks_both), ball) > 0.8
    assert overlap(with_click(frames, wrong, Click(0, 40, 70, "add"), marks_both), ball | disc) > 0.8


def test_where_the_network_sees_nothing_the_patches_of_one_colour_are_taken():
    frames = np.full((3, 64, 64, 3), 90, np.uint8)
    frames[:, 20:40, 24:44] = (220, 40, 40)
    square = (frames[..., 0] == 220).astype(np.uint8)
    nothing = np.zeros((3, 64, 64), np.uint8)
    result = with_click(frames, nothing, Click(1, 34, 30, "only"), lambda _: np.zeros((32, 32), np.float32))
    assert overlap(result, square.astype(bool)) > 0.8
    # One connected mask: the patches of the click's colour leave it.
    result = with_click(frames, nothing + 255, Click(1, 34, 30, "remove"), marks_both)
    assert overlap(result, square == 0) > 0.9


def test_clicks_that_mean_nothing_are_errors(clip):
    frames, _, _, both = clip
    for click, words in (
        (Click(0, 10, 110, "remove"), "nothing of the mask where you clicked"),
        (Click(3, 10, 10, "add"), "the video has 3 frames of 160 × 120 px"),
        (Click(0, 160, 10, "add"), r"frame 0, \(160, 10\)"),
        (Click(0, 10, 10, "erase"), "one of only, add, remove"),
    ):
        with pytest.raises(UserError, match=words):
            with_click(frames, both, click, marks_both)
