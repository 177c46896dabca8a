"""HDR against what the standards say: colours by the chromaticities of BT.2020 and BT.709, light by known signals."""

from __future__ import annotations

import numpy as np
import pytest

from viewtime.hdr import BT2020, HLG, PQ, TO_709, to_screen

D65 = (0.3127, 0.3290)


def to_xyz(*primaries: tuple[float, float]) -> np.ndarray:
    """Linear RGB of these primaries and white D65 to CIE XYZ (SMPTE RP 177)."""
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([D65[0] / D65[1], 1.0, (1 - sum(D65)) / D65[1]])
    return columns * np.linalg.solve(columns, white)


def screen(light: float) -> int:
    """sRGB (IEC 61966-2-1) of linear light."""
    return round(255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055))


def test_colours_go_from_one_set_of_primaries_to_the_other() -> None:
    wide = to_xyz((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
    usual = to_xyz((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
    np.testing.assert_allclose(TO_709, np.linalg.solve(usual, wide), atol=2e-4)


@pytest.mark.parametrize(("signal", "nits"), [(0.508078, 100.0), (0.150, 1.004), (0.3, 10.1), (0.44, 51.0)])
def test_pq_is_an_absolute_scale(signal: float, nits: float) -> None:
    """BT.2100: 100 cd/m2 is 51 % of the signal, 10 are 30 %, 1 is 15 %; a colour of BT.709 stays itself."""
    shown = to_screen(np.full((2, 3), signal), PQ, 1)
    assert np.abs(shown.astype(int) - screen(nits / 203)).max() <= 1
    colour = to_screen(np.array([[signal, 0.0, 0.0]]), PQ, 1)
    assert colour[0, 1:].tolist() == [0, 0]
    assert abs(int(colour[0, 0]) - screen(nits / 203)) <= 1


@pytest.mark.parametrize("primaries", [BT2020, 1])
def test_hlg_gains_from_its_luminance(primaries: int) -> None:
    """BT.2100, table 5: red of scene light E shows 1000 (0.2627 E)^0.2 E cd/m2; so do green and blue with theirs."""
    scene = 0.3**2 / 3
    for channel, weight in enumerate((0.2627, 0.6780, 0.0593)):
        signal = np.zeros((1, 3))
        signal[0, channel] = 0.3
        light = np.zeros(3)
        light[channel] = 1000 * (weight * scene) ** 0.2 * scene / 203
        wanted = np.clip(TO_709 @ light if primaries == BT2020 else light, 0, 1)
        shown = to_screen(signal, HLG, primaries)[0]
        assert np.abs(shown.astype(int) - [screen(value) for value in wanted]).max() <= 1


def test_the_darkest_tones_are_linear() -> None:
    """PQ 0.07 is 0.14 cd/m2: 0.0007 of white, below sRGB's knee."""
    shown = to_screen(np.full((1, 3), 0.07), PQ, 1)
    assert shown.tolist() == [[2, 2, 2]]
