"""Frames given in Python: what counts as pixels, and what is refused by name."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import ball

from viewtime.errors import UserError
from viewtime.sample.input.read import as_video


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.astype("float32"), "floats lie in 0 … 1"),
        (lambda v: v / 127.5 - 1, "reach from -0.7"),
        (lambda v: v.astype("uint16") * 257, "to 65535; integers are pixel values"),
        (lambda v: np.where(v > 200, np.nan, v / 255), "nan"),
        (lambda v: v.astype(complex), "frames of complex128"),
        (lambda v: [v[0], v[1][:20]], "give frames of one size"),
        (lambda v: [], "at least one"),
    ],
)
def test_numbers_that_are_no_pixels_are_refused_by_name(change, words):
    with pytest.raises(UserError, match=words):
        as_video(change(ball(2)), None)


@pytest.mark.parametrize("kind", ["int64", "uint16", "int32", "float32", "float64", "bfloat16", "list", "pil"])
def test_whole_numbers_of_any_width_and_fractions_are_the_same_pixels(kind):
    video = ball(3)
    given = {
        "list": lambda: list(video),
        "pil": lambda: [Image.fromarray(frame) for frame in video],
        "bfloat16": lambda: torch.from_numpy(video).float().div(255).bfloat16(),
    }.get(kind, lambda: (video / 255).astype(kind) if kind.startswith("float") else video.astype(kind))()
    pixels = as_video(given, 2).frames
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - video[:2]).max() <= (1 if kind == "bfloat16" else 0)
