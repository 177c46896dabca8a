"""Lenses: places by OpenCV's published model at points worked out by hand, and pictures moved by whole pixels."""

from __future__ import annotations

import numpy as np
import pytest

from viewtime.lens import NEGLIGIBLE, Lens

WIDTH, HEIGHT, FOCAL = 12, 8, 4.0
PLAIN = {"width": WIDTH, "height": HEIGHT, "fl_x": FOCAL, "fl_y": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2}
# Pixel (column 8, row 2): x = (8.5 - 6) / 4 = 0.625, y = (2.5 - 4) / 4 = -0.375, r² = 0.53125.
X, Y, R2 = 0.625, -0.375, 0.53125


@pytest.mark.parametrize(
    ("change", "x", "y"),
    [
        ({}, X, Y),
        ({"k1": 0.1}, X * (1 + 0.1 * R2), Y * (1 + 0.1 * R2)),
        ({"k2": 0.1}, X * (1 + 0.1 * R2**2), Y * (1 + 0.1 * R2**2)),
        ({"k3": 0.1}, X * (1 + 0.1 * R2**3), Y * (1 + 0.1 * R2**3)),
        ({"k1": -0.2, "k2": 0.1, "k3": 0.3}, X * 0.966952514, Y * 0.966952514),
        ({"p1": 0.1}, X - 0.046875, Y + 0.08125),  # 0.2 x y; 0.1 (r² + 2 y²)
        ({"p2": 0.1}, X + 0.13125, Y - 0.046875),  # 0.1 (r² + 2 x²); 0.2 x y
    ],
)
def test_places(change: dict, x: float, y: float) -> None:
    places = Lens(**{**PLAIN, "fl_y": 5.0, "cy": 3.0, **change}).places(FOCAL, WIDTH, HEIGHT)
    assert places.shape == (HEIGHT, WIDTH, 2)
    np.testing.assert_allclose(places[2, 8], [FOCAL * x + 6, 5.0 * y + 3.0], rtol=1e-6)


def picture(channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 255, (HEIGHT, WIDTH, channels), np.uint8)


def test_a_principal_point_off_the_middle_moves_the_picture() -> None:
    plain = picture(3)
    moved = Lens(**{**PLAIN, "cx": 8.0, "cy": 3.0}).straighten(plain, FOCAL)
    np.testing.assert_array_equal(moved[1:, :-2], plain[:-1, 2:])
    np.testing.assert_array_equal(moved[0], plain[0][np.minimum(np.arange(WIDTH) + 2, WIDTH - 1)])  # the edge goes on
    see_through = picture(4)
    see_through[..., 3] = 255
    moved = Lens(**{**PLAIN, "cx": 8.0, "cy": 3.0}).straighten(see_through, FOCAL)
    np.testing.assert_array_equal(moved[1:, :-2], see_through[:-1, 2:])
    assert (moved[0] == [255, 255, 255, 0]).all()
    assert (moved[:, -2:] == [255, 255, 255, 0]).all()


def test_half_a_pixel_blends_colours_by_their_alpha() -> None:
    """Red of alpha 255 beside green of alpha 85 give alpha 170 and three parts of red to one of green."""
    pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    pixels[:, :5], pixels[:, 5:] = (240, 0, 0, 255), (0, 200, 0, 85)
    moved = Lens(**{**PLAIN, "cx": 6.5}).straighten(pixels, FOCAL)
    assert moved[3, 4].tolist() == [180, 50, 0, 170]
    assert moved[3, 3].tolist() == [240, 0, 0, 255]


def test_what_no_one_sees_is_left_alone() -> None:
    plain = picture(3)
    assert Lens(**{**PLAIN, "cx": 6 + 0.9 * NEGLIGIBLE}).straighten(plain, FOCAL) is plain
    assert Lens(**{**PLAIN, "cx": 6 + 1.1 * NEGLIGIBLE}).straighten(plain, FOCAL) is not plain
    assert Lens(**{**PLAIN, "cy": 4 - 1.1 * NEGLIGIBLE}).straighten(plain, FOCAL) is not plain
    assert Lens(**PLAIN).straighten(plain, FOCAL) is plain
