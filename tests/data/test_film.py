"""Frames of a film by number: the same as decoding from the start, without decoding it."""

import numpy as np
import pytest
import torch

from viewtime.data import film
from viewtime.errors import UserError
from viewtime.video import read_video, write_gif, write_video


def counting_frames(count=60, size=48):
    """Frame f is of grey level 4 f."""
    return np.stack([np.full((size, size, 3), 4 * f, np.uint8) for f in range(count)])


def test_frames_are_those_of_the_whole_film(tmp_path):
    decord = pytest.importorskip("decord")
    path = write_video(tmp_path / "in.mp4", counting_frames(), 24.0)
    opened = film.open_film(path, max_side=32)
    assert isinstance(opened.source, decord.VideoReader)
    assert (opened.count, opened.fps) == (60, 24.0)
    seen = opened.frames(torch.tensor([57, 3, 30]))
    whole = read_video(path, max_side=32).frames[[57, 3, 30]]
    assert seen.shape == (3, 32, 32, 3)
    assert np.abs(seen.astype(int) - whole).max() <= 3
    assert np.abs(seen.mean(axis=(1, 2, 3)) - [228, 12, 120]).max() < 3


def test_what_decord_would_get_wrong_is_read_from_the_start(tmp_path, monkeypatch):
    gif = write_gif(tmp_path / "in.gif", counting_frames(5), 10.0)
    assert isinstance(film.open_film(gif, max_side=32).source, np.ndarray)
    path = write_video(tmp_path / "in.mp4", counting_frames(5), 10.0)
    monkeypatch.setattr(film, "ALPHA_FORMATS", ("yuv",))  # as if every film were transparent
    assert film.open_film(path, max_side=32).frames(torch.tensor([4])).shape == (1, 32, 32, 3)
    assert isinstance(film.open_film(path, max_side=32).source, np.ndarray)


def test_what_is_no_film_is_refused(tmp_path):
    path = tmp_path / "in.mp4"
    path.write_bytes(b"no film at all")
    with pytest.raises(UserError, match="not a video that can be decoded"):
        film.open_film(path, max_side=32)
