"""A film's object step by step: values by hand, and pins of every step on one small film."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from scipy import ndimage

from tests.pins import assert_pinned
from viewtime.errors import UserError
from viewtime.sample.input import clicked, matte, object_track, one_object, plate, traveller
from viewtime.sample.input.clicked import Click, with_click

HEIGHT, WIDTH, FRAMES = 60, 80, 7
MAP = 72  # longer side of the small pictures here; films get 128
TOLERANCE = 2e-3


class Film(NamedTuple):
    frames: np.ndarray
    mask: np.ndarray
    small: np.ndarray
    flow: np.ndarray


@pytest.fixture(autouse=True, scope="module")
def small_maps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_track, "TRACK_SIDE", MAP)
        yield


@cache
def film() -> Film:
    """A red disc walks right and down before a panned texture that also holds a blue square."""
    texture = ndimage.gaussian_filter(np.random.default_rng(3).random((HEIGHT + 20, WIDTH + 20, 3)), (2, 2, 0))
    texture = ((texture - texture.min()) / np.ptp(texture) * 150 + 40).astype(np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    frames, masks = [], []
    for index in range(FRAMES):
        picture = texture[index : index + HEIGHT, index : index + WIDTH].copy()
        picture[40 - index : 50 - index, 60 - index : 70 - index] = (30, 40, 220)
        inside = (x - 18 - 4 * index) ** 2 + 1.4 * (y - 20 - index) ** 2 < 10**2
        picture[inside] = np.stack([210 + 0 * x, 60 + x, 3 * y], axis=-1)[inside].clip(0, 255)
        frames.append(picture)
        masks.append(inside)
    stack = np.stack(frames)
    small = object_track.reduced(stack)
    return Film(stack, np.stack(masks), small, object_track.neighbour_flow(small))


def redness(picture: np.ndarray) -> np.ndarray:
    """In the place of a network: what is red, or, less surely, blue."""
    values = picture.astype(np.float32) / 255
    red, blue = values[..., 0] - values[..., 2], values[..., 2] - values[..., 0]
    return np.clip(np.maximum(2 * red, 1.2 * blue) + 0.1, 0, 1).astype(np.float32)


def coarse() -> np.ndarray:
    size = (film().small.shape[2], film().small.shape[1])
    return np.stack([object_track.resized(redness(frame), size) for frame in film().frames])


def test_the_small_pictures_and_their_flow() -> None:
    assert film().small.shape == (FRAMES, 54, 72, 3)
    assert object_track.reduced(film().frames[:1, :, :5])[0].shape == (72, 8, 3)
    assert object_track.reduced(film().frames[:1, :2])[0].shape == (8, 72, 3)
    assert_pinned("flow", film().flow, 5e-3)
    assert object_track.neighbour_flow(film().small[:1]).shape == (0, 2, 54, 72)


def test_the_camera_and_what_moves_against_it() -> None:
    maps = object_track.camera_maps(film().flow, coarse())
    # The background moves up and left by a pixel of 60 rows: 0.9 of the 54.
    np.testing.assert_allclose(maps[:, :, :2], np.broadcast_to(np.eye(2), (FRAMES - 1, 2, 2)), atol=0.02)
    np.testing.assert_allclose(maps @ [27, 36, 1], np.broadcast_to([27.9, 36.9], (FRAMES - 1, 2)), atol=0.2)
    assert_pinned("camera", maps, 5e-3)
    motion, camera = object_track.own_motion(film().flow, coarse())
    assert camera == pytest.approx(0.9 * 2**0.5, abs=0.2)
    assert (motion[0] == motion[1]).all()
    assert_pinned("motion", motion, 5e-3)
    for name, values in (
        ("movers", one_object.movers(motion)),
        ("one", one_object.one_object(coarse(), motion, camera)),
    ):
        assert_pinned(name, values, 5e-2)


def test_the_background_is_found_and_the_object_before_it() -> None:
    maps = object_track.camera_maps(film().flow, coarse())
    behind, count = plate.backgrounds(film().small, maps)
    assert_pinned("behind", behind, 5e-3)
    assert_pinned("seen in", count, 5e-2)
    assert_pinned("differs", plate.differs(film().small, behind, count), 5e-2)
    differing = np.stack([plate.filled(one) for one in plate.differs(film().small, behind, count) > 1])
    found = traveller.traveller(differing, maps, np.zeros_like(differing), np.zeros(differing.shape, np.float32))
    assert found is not None
    assert_pinned("before", traveller.lies_before(coarse(), found), 5e-2)
    kept = np.stack([object_track.resized(m.astype(np.float32), (72, 54)) > 0.5 for m in film().mask])
    looked = np.stack([redness(frame) for frame in film().frames])
    assert_pinned("without", plate.without_background(looked, kept, film().small, maps), 5e-2)
    assert plate.neighbours(0, 9) == [1, 2, 3, 4, 6, 8]
    assert plate.neighbours(5, 9) == [4, 6, 3, 7, 2, 8, 1]
    assert plate.neighbours(20, 99)[-2:] == [5, 35]


def test_specks_go_and_gaps_close() -> None:
    differing = np.zeros((30, 30), bool)
    differing[5:20, 5:20] = True
    differing[8:12, 8:12] = False  # a hole
    differing[13:15, 5:20] = False  # a gap
    differing[25, 25] = True  # a speck
    wanted = np.zeros((30, 30), bool)
    wanted[5:20, 5:20] = True
    assert (plate.filled(differing) != wanted).sum() <= 8
    assert not plate.filled(differing)[22:].any()


def test_who_travels() -> None:
    still = np.tile(np.array([[1.0, 0, 0], [0, 1, 0]]), (9, 1, 1))

    def film_of(step: float, side: int = 8, seen: int = 10, second: int = 0) -> np.ndarray:
        frames = np.zeros((10, 50, 60), bool)
        for index in range(seen):
            left = round(2 + step * index)
            frames[index, 10 : 10 + side, left : left + side] = True
            frames[index, 40 : 40 + second, 5 : 5 + second] = True
        return frames

    assert traveller.travels(film_of(2), still)
    assert traveller.travels(film_of(0.8), still)  # 7 pixels: more than three quarters of 8
    assert not traveller.travels(film_of(0.6), still)
    assert traveller.travels(film_of(2, seen=7), still)
    assert not traveller.travels(film_of(2, seen=6), still)
    assert traveller.travels(film_of(2, second=7), still)
    assert not traveller.travels(film_of(2, side=6, second=9), still)  # less than half of what differs
    assert not traveller.travels(film_of(2, side=3), still)  # less than 0.4 % of 3000 pixels
    assert traveller.travels(film_of(2, side=4), still)
    assert not traveller.travels(film_of(1, side=38), still)  # over 40 %
    walked = film_of(2)
    followed = still.copy()
    followed[:, 1, 2] = -2  # the camera goes with it: a pixel of a frame lies 2 to the left in the frame before
    assert not traveller.travels(walked, followed)


def test_windows_leave_room() -> None:
    kept = np.zeros((3, 20, 40), bool)
    kept[0, 8:12, 10:20] = True  # in a picture five times as large: rows 40–60, columns 50–100
    kept[2, 0, 39] = True
    # Room: 0.4 of the longer side, 9 pixels of the map or 45 of the picture, and 8.
    assert object_track.windows(kept, (100, 200)) == [(24, 14, 126, 86), None, (187, 0, 200, 13)]


def test_a_picture_is_fetched_along_a_field() -> None:
    picture = np.random.default_rng(0).random((10, 20)).astype(np.float32)
    field = np.zeros((2, 5, 10), np.float32)
    field[0], field[1] = 1.0, -0.5  # in pixels of a map half as large: two down, one to the left
    fetched = object_track.moved(picture, field)
    np.testing.assert_allclose(fetched[:8, 1:], picture[2:, :-1], atol=1e-5)
    np.testing.assert_allclose(fetched[9, 1:], picture[9, :-1], atol=1e-5)
    both = object_track.moved(np.stack([picture, 1 - picture], axis=-1), field)
    np.testing.assert_allclose(both[..., 1], 1 - fetched, atol=1e-5)
    shift = np.zeros((3, 2, 10, 20), np.float32)
    shift[:, 1] = [[[1.0]], [[2.0]], [[3.0]]]
    np.testing.assert_allclose(object_track.carried(picture, 0, 2, shift)[:, :17], picture[:, 3:], atol=1e-4)
    np.testing.assert_allclose(object_track.carried(picture, 3, 1, shift)[:, 5:], picture[:, :15], atol=1e-4)
    assert object_track.carried(picture, 1, 1, shift) is picture


def test_the_object_of_the_film() -> None:
    alpha, _ = object_track.find_object(film().frames, redness)
    found = alpha > 127
    assert (found & film().mask).sum() / (found | film().mask).sum() > 0.7
    assert_pinned("alpha", alpha, 5e-2)
    noisy = alpha / 255.0
    noisy[3] = 0
    assert_pinned("steady", object_track.steady(noisy.astype(np.float32), film().small, film().flow), 5e-2)


@pytest.mark.parametrize("click", [Click(2, 26, 22, "only"), Click(4, 61, 41, "add"), Click(0, 18, 20, "remove")])
def test_clicks(click: Click) -> None:
    alpha = (film().mask * 255).astype(np.uint8)
    if click.kind == "only":
        alpha[:, 40:50, 60:70] = 255
    assert_pinned(f"clicked {click.kind}", with_click(film().frames, alpha, click, redness), 5e-2)


def test_clicks_beside_the_picture_are_refused() -> None:
    alpha = (film().mask * 255).astype(np.uint8)
    for frame, x, y in ((-1, 5, 5), (FRAMES, 5, 5), (0, -1, 5), (0, WIDTH, 5), (0, 5, -1), (0, 5, HEIGHT)):
        with pytest.raises(UserError, match=r"a click at frame .* the video has 7 frames of 80 × 60 px"):
            with_click(film().frames, alpha, Click(frame, x, y, "add"), redness)
    with_click(film().frames, alpha, Click(FRAMES - 1, WIDTH - 1, HEIGHT - 1, "add"), redness)
    assert_pinned("alike", clicked.alike(film().small[0], (24, 50)), 5e-2)
    assert clicked.iou(np.array([True, True, False]), np.array([True, False, True])) == pytest.approx(1 / 3)
    assert clicked.iou(np.zeros(3, bool), np.zeros(3, bool)) == 0


def test_colours_of_the_edge() -> None:
    """A background of 200, an object of 40: half of each gives back the object."""
    frame = np.full((1, 1, 4, 3), 200, np.uint8)
    alpha = np.array([[[0, 128, 255, 20]]], np.uint8)
    frame[0, 0, 1:, :] = [[120], [40], [187]]
    straight = matte.unmix(frame, alpha, np.array([200.0, 200, 200]))[0, 0, :, 0]
    assert straight.tolist()[:3] == [255, 41, 40]
    assert straight[3] == 27  # (187 - 235 / 255 · 200) over a tenth, as less would be noise
    near = matte.nearest_sure_colour(frame, alpha)[0, 0, :, 0]
    # What is half there is half its own colour and half the nearest opaque one's.
    assert near.tolist()[0] == 255
    assert near[1] == pytest.approx(0.5 * 120 + 0.5 * 40, abs=1)
    assert near[2] == 40
    assert near[3] == pytest.approx(20 / 255 * 187 + 235 / 255 * 40, abs=1)


def test_a_key_is_a_ramp_between_one_tolerance_and_two() -> None:
    frame = np.full((1, 9, 9, 3), 100, np.uint8)
    frame[0, 4, 2:7, 1] = [100 + 25, 100 + 26, 100 + 39, 100 + 52, 100 - 60]
    alpha = matte.key_background(frame, 26 / 255)
    assert alpha[0, 4, 2:7].tolist() == [0, 0, 128, 255, 255]
    assert alpha[0, 0].max() == 0
    colour, share = matte.border_colour(frame)
    assert (colour.tolist(), share) == ([100, 100, 100], 1.0)
    frame[0, 0] = 200  # nine of the 36 pixels that are counted, corners twice
    assert matte.border_colour(frame)[1] == pytest.approx(25 / 36)
    assert matte.is_plain(frame)
    frame[0, :, 0] = 200
    with pytest.raises(UserError, match="the background is not plain: 56% of the border"):
        matte.key_background(frame, 0.1)


def test_what_speaks_against_a_mask() -> None:
    def said(change: object = None, **where: object) -> tuple[str, ...]:
        alpha = np.zeros((4, 100, 100), np.uint8)
        alpha[:, 40:60, 40:60] = 255
        for place, value in where.get("set", []):  # type: ignore[attr-defined]
            alpha[place] = value
        return matte.doubts(alpha)

    assert said() == ()
    assert said(set=[((0, slice(40, 60), slice(0, 60)), 255)])[0].endswith(
        "border in 25% of the frames: it is cut off there"
    )
    assert said(set=[((0, slice(0, 1), slice(0, 1)), 255)]) == ()
    full = said(set=[((slice(0, 2), slice(1, 99), slice(1, 99)), 255)])
    assert "the mask covers almost all of the picture in 50% of the frames" in full
    assert "the mask flickers: it changes by more than half from frame to frame 33% of the time" in full
    tiny = said(set=[((3,), 0), ((3, slice(50, 54), slice(50, 54)), 255)])
    assert "the mask covers almost nothing of the picture in 25% of the frames" in tiny
    assert matte.doubts(np.zeros((2, 9, 9), np.uint8)) == ()
