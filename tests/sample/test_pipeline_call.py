"""`Pipeline.__call__` as users of diffusers write it, and what a grid shows of itself."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import ball, mini_weights

from viewtime.device import choose_device
from viewtime.errors import UserError
from viewtime.sample.pipeline import Pipeline
from viewtime.video import read_video


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return Pipeline.from_pretrained(mini_weights(tmp_path_factory.mktemp("weights")), device="cpu")


def test_the_same_frames_in_every_form(pipe):
    def call(**form):
        return pipe(ball(3), views=2, num_inference_steps=1, **form)

    grid, tensor, array, pictures = (call(output_type=form) for form in ("grid", "pt", "np", "pil"))
    assert torch.equal(grid.frames, tensor)
    assert np.array_equal(array, tensor.permute(0, 1, 3, 4, 2).numpy())
    assert (len(pictures), len(pictures[0]), pictures[0][0].mode) == (3, 3, "RGBA")
    assert np.abs(np.asarray(pictures[2][1]) / 255 - array[2, 1]).max() <= 0.5 / 255 + 1e-6
    wrapped = call(output_type="np", return_dict=True)
    assert np.array_equal(wrapped.frames, array)
    assert wrapped.grid.shape == grid.shape
    with pytest.raises(UserError, match="output_type 'latent'; one of grid, pil, np, pt"):
        call(output_type="latent")


def test_the_callback_hears_every_step_and_may_stop(pipe):
    heard = []
    pipe(ball(3), views=2, num_inference_steps=2, callback_on_step_end=lambda *said: heard.append(said))
    assert [done for _, done, _, _ in heard] == list(range(1, heard[0][2] + 1))
    assert heard[0][0] is pipe

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe(ball(3), views=2, num_inference_steps=2, callback_on_step_end=stop)


def test_kept_windows_are_of_their_number_format(tmp_path, caplog):
    pipe = Pipeline.from_pretrained(mini_weights(tmp_path), device="cpu")

    def steps():
        heard = []
        options = {"folder": tmp_path / "kept", "callback_on_step_end": lambda *said: heard.append(said)}
        pipe(ball(3), views=2, num_inference_steps=2, **options)
        return len(heard)

    whole = steps()
    assert steps() < whole  # that all is done is said once
    pipe.to(dtype=torch.bfloat16)
    assert steps() == whole
    assert "sampling anew" in caplog.text


def test_a_grid_shows_itself(pipe, tmp_path):
    grid = pipe(ball(3), views=2, num_inference_steps=1)
    assert repr(grid) == "FrameGrid(3 views × 3 frames, RGBA 16 × 16 px, 12 fps, with cameras)"
    (picture,) = re.findall(r"base64,([^\"]+)", grid._repr_html_())
    sheet = grid.contact_sheet(tmp_path / "sheet.png")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(picture)))), np.asarray(sheet))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "sheet.png")), np.asarray(sheet))
    assert sheet.size == (72 + 3 * 96, 16 + 3 * 96)
    film = read_video(grid.save_video(tmp_path / "all.mp4")).frames
    assert film.shape == (3, 16, 48, 3)
    assert read_video(grid.save_video(tmp_path / "one.gif", view=1)).frames.shape[:3] == (3, 16, 16)
    shown = grid.rgb()[0, 0, 0].numpy()
    assert np.abs(film[0, :, :16, 0] / 255 - shown).mean() < 0.05


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has an Apple GPU")
def test_a_device_that_is_not_there():
    with pytest.raises(UserError, match=r"no Apple GPU .*--device cpu"):
        choose_device("mps")
