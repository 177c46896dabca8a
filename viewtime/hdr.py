"""High dynamic range video (HLG and PQ in BT.2020) as pictures for ordinary screens.

White of 203 cd/m², which BT.2408 names for graphics and faces' highlights to lie below, becomes the screen's white;
what is brighter clips. Up to there colours are kept exactly.
"""

from __future__ import annotations

import numpy as np

PQ, HLG = 16, 18  # transfer characteristics of ITU-T H.273, table 3
BT2020 = 9  # colour primaries of H.273, table 2
REFERENCE_WHITE = 203.0  # cd/m², BT.2408, table 1
HLG_PEAK = 1000.0  # cd/m², the nominal display of BT.2100
HLG_GAMMA = 1.2  # of its system, for that display
LUMINANCE_2020 = np.array([0.2627, 0.6780, 0.0593])
# Linear BT.2020 to linear BT.709, BT.2087, equation 4.
TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])


def to_screen(signal: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """One HDR frame, R'G'B' in [0, 1], [..., 3], as uint8 sRGB.

    Args:
        transfer: PQ or HLG.
        primaries: BT2020, or anything else for BT.709's.
    """
    signal = signal.astype(np.float64)
    light = (_pq_light(signal) if transfer == PQ else _hlg_light(signal)) / REFERENCE_WHITE
    if primaries == BT2020:
        light = light @ TO_709.T
    light = np.clip(light, 0.0, 1.0)
    screen = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-12) ** (1 / 2.4) - 0.055)
    return (screen * 255.0 + 0.5).astype(np.uint8)


def _pq_light(signal: np.ndarray) -> np.ndarray:
    """cd/m² by SMPTE ST 2084 (BT.2100, table 4)."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = signal ** (1 / m2)
    return 10000.0 * (np.maximum(power - c1, 0.0) / (c2 - c3 * power)) ** (1 / m1)


def _hlg_light(signal: np.ndarray) -> np.ndarray:
    """cd/m² on a display of 1000 (BT.2100, table 5: inverse OETF, then OOTF)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = (scene @ LUMINANCE_2020)[..., None]
    return HLG_PEAK * np.maximum(luminance, 1e-9) ** (HLG_GAMMA - 1) * scene
