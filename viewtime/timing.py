"""Frames at uneven times brought to an even rate, so that motion keeps its speed."""

from __future__ import annotations

import numpy as np

UNEVEN = 0.25  # of the usual time between two frames; less is the rounding of a container's clock
MOST_GROWTH = 8  # times as many frames as there were


def even_times(times: np.ndarray, last: float | None = None) -> tuple[np.ndarray, float, bool]:
    """Which frame is to be seen at each tick of an even clock.

    Args:
        times: seconds at which frames [F] begin, rising.
        last: seconds that the last frame is shown; the usual time between two where nobody says.

    Returns:
        (indices [F'], frames per second or 0 where the times do not tell, whether the frames were uneven). Even frames
        come back as they are.
    """
    count = len(times)
    if count < 2:
        return np.arange(count), 0.0, False
    gaps = np.diff(times)
    usual = float(np.median(gaps))
    mean = float((times[-1] - times[0]) / (count - 1))
    shown = usual if last is None else last
    if usual <= 0 or mean <= 0:
        return np.arange(count), 0.0, False
    if np.abs(gaps - usual).max() <= UNEVEN * usual and abs(shown - usual) <= UNEVEN * usual:
        return np.arange(count), 1.0 / mean, False
    duration = float(times[-1] - times[0]) + shown
    usual = max(usual, duration / (MOST_GROWTH * count))
    ticks = max(1, round(duration / usual))
    instants = times[0] + (np.arange(ticks) + 0.5) * (duration / ticks)
    return np.searchsorted(times, instants, side="right") - 1, ticks / duration, True
