"""The background behind a moving object, and what lies before it."""

import numpy as np
from PIL import Image

from viewtime.sample.input.object_track import camera_maps, neighbour_flow
from viewtime.sample.input.plate import (
    backgrounds,
    chained,
    differs,
    filled,
    registered,
    without_background,
)
from viewtime.sample.input.traveller import gathered, lies_before, traveller, travels

FRAMES, HEIGHT, WIDTH = 9, 60, 96


def scene(steps, shift=1):
    """A square of 16 px that moves `steps` px a frame over a background panned by `shift` px a frame; its masks."""
    rng = np.random.default_rng(0)
    behind = np.asarray(Image.fromarray(rng.integers(40, 200, (20, 40, 3), dtype=np.uint8)).resize((160, HEIGHT)))
    frames, masks = [], np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    for index in range(FRAMES):
        picture = behind[:, shift * index : shift * index + WIDTH].copy()
        left = 8 + steps * index - shift * index
        masks[index, 20:36, left : left + 16] = True
        picture[masks[index]] = (250, 20, 20)
        frames.append(picture)
    return np.stack(frames), masks


def panned(shift=1):
    """Where the background lies in the frame before: `shift` px further right."""
    return np.tile(np.array([[1.0, 0, 0], [0, 1.0, shift]]), (FRAMES - 1, 1, 1))


def before(frames, shift):
    """What lies before the background, bool."""
    return np.stack([filled(frame > 1) for frame in differs(frames, *backgrounds(frames, panned(shift)))])


def test_maps_lead_from_frame_to_frame_and_back():
    maps = panned(2)
    assert np.allclose(chained(maps, 5, 2) @ [10, 20, 1], [10, 26])
    assert np.allclose(chained(maps, 2, 5) @ [10, 20, 1], [10, 14])
    turned = np.array([[[0.0, -1, 3], [1, 0, 5]], [[1.0, 0, 1], [0, 1, 0]]])
    there, back = chained(turned, 2, 0), chained(turned, 0, 2)
    assert np.allclose(back @ [*(there @ [4, 9, 1]), 1], [4, 9])


def test_the_camera_is_measured_from_the_flow():
    frames, masks = scene(5)
    maps = camera_maps(neighbour_flow(frames), masks.astype(np.float32))
    assert np.abs(maps[:, :, 2] - [0, 1]).max() < 0.3
    assert np.abs(maps[:, :, :2] - np.eye(2)).max() < 0.02


def test_a_registration_is_made_exact():
    frames, _ = scene(0)
    grey = frames.mean(axis=-1) / 255
    guess = np.array([[1.0, 0, 0.4], [0, 1.0, 0.5]])
    found = registered(grey[1][:15], grey[0][:15], guess, np.ones((15, WIDTH), bool))
    assert np.abs(found - [[1, 0, 0], [0, 1, 1]])[:, 2].max() < 0.05


def test_the_background_comes_out_of_the_other_frames_and_the_object_differs_from_it():
    frames, masks = scene(6)
    behind, count = backgrounds(frames, panned())
    empty, _ = scene(1000)
    assert np.abs(behind * 255 - empty)[4, :, 8:88].mean() < 3
    assert count[4].max() == FRAMES - 1
    found = differs(frames, behind, count)[4] > 1
    assert (found & masks[4]).sum() / (found | masks[4])[:, 8:88].sum() > 0.9


def test_what_stands_out_and_travels_with_the_background_goes():
    frames, masks = scene(6)
    stands_out = masks.astype(np.float32)
    for index in range(FRAMES):
        stands_out[index, 40:55, 60 - index : 76 - index] = 1.0
    found = lies_before(stands_out, traveller(before(frames, 1), panned(), stands_out > 0.5, 0.0 * stands_out))
    assert found[:, 42:53].max() < 0.5
    assert found[4][masks[4]].min() > 0.5
    looked = np.maximum(stands_out, 0)
    looked[:, 20:24] *= ~masks[:, 20:24]  # the network misses the square's upper quarter
    whole = without_background(looked, masks, frames, panned()) > 0.5
    assert (whole[4] & masks[4]).sum() / (whole[4] | masks[4]).sum() > 0.9


def test_what_stays_in_its_place_is_left_as_it_was():
    for steps, shift in ((0, 1), (0, 0)):
        frames, masks = scene(steps, shift)
        assert traveller(before(frames, shift), panned(shift), masks, 0.0 * masks) is None


def test_what_shows_only_its_ends_travels_where_something_else_was_found():
    ends, thing = np.zeros((FRAMES, HEIGHT, WIDTH), bool), np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    for index in range(FRAMES):
        left = 10 + 3 * index
        for part in (0, 8, 16):
            ends[index, 20:28, left + part : left + part + 4] = True
    thing[:, 5:55, 40:90] = True
    assert not travels(ends, panned(0))
    speed = np.stack([gathered(frame) for frame in ends]) * 3.0
    found = traveller(ends, panned(0), thing, speed)
    assert found is not None
    assert found[3, 22:26, 19:39].all()  # what lies between the ends too
    assert traveller(ends, panned(0), found, speed) is None
    assert traveller(ends, panned(0), thing, np.full(ends.shape, 3.0)) is None  # the thing goes along
    resting = np.broadcast_to(ends[:1], ends.shape)
    assert traveller(resting, panned(0), thing, speed) is None


def test_an_arm_that_swings_does_not_travel():
    masks = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    for index in range(FRAMES):
        masks[index, 20:28, 40 + index % 3 : 60 + index % 3] = True
    assert not travels(masks, panned(0))
    assert travels(scene(6)[1], panned())


def test_specks_and_holes_are_gone():
    masks = scene(6)[1][4].copy()
    holed = masks.copy()
    holed[26:29, 34:38] = False
    holed[5, 5] = True
    assert np.array_equal(filled(holed), masks)
