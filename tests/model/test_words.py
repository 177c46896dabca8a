"""The model of captions: what it reads, what a prediction depends on."""

import pytest
import torch

from viewtime.errors import UserError
from viewtime.model.mini.words import WordsConfig, read_words
from viewtime.model.registry import build_denoiser

LISTS = {"kinds": ["knight", "horse"], "colours": ["red", "blue"], "motions": ["walks walking walk"]}
SMALL = {**LISTS, "size": 16, "stem_widths": (8, 16), "width": 32, "depth": 2, "head_dim": 16}
CONFIG = WordsConfig(("knight", "horse"), ("red", "blue"), ("walks walking walk",))


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("a red knight walks", [1, 0, 1, 0, 1]),
        ("The knight that is walking: RED!", [1, 0, 1, 0, 1]),
        ("blue horse", [0, 1, 0, 1, 0]),
    ],
)
def test_captions(caption, words):
    assert read_words(caption, CONFIG).tolist() == words


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        ("a red dragon", "knows no 'dragon'; it knows kinds knight, horse; colours red, blue; motions walks"),
        ("red", "give one kind, at most one colour"),
        ("a red blue knight", "at most one colour"),
        ("a knight horse", "give one kind"),
    ],
)
def test_other_captions_are_refused(caption, message):
    with pytest.raises(UserError, match=message):
        read_words(caption, CONFIG)


@pytest.fixture
def denoiser():
    torch.manual_seed(0)
    made = build_denoiser("mini-words", SMALL)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made.eval()


def told(views, frames):
    shape = (1, views, frames)
    azimuth = torch.arange(views, dtype=torch.float32)[None, :, None].expand(shape) * 90
    instant = (torch.arange(frames) / frames).expand(shape)
    words = read_words("a red knight walks", CONFIG)[None]
    return {"words": words, "elevation": torch.full(shape, 10.0), "azimuth": azimuth, "instant": instant}


def test_a_prediction_depends_on_all_that_is_told(denoiser):
    cond, x = told(2, 3), torch.randn(1, 2, 3, 4, 16, 16)
    with torch.no_grad():
        base = denoiser(x, torch.full((1,), 0.9), cond)
        assert base.shape == x.shape
        changed = {
            "words": torch.zeros_like(cond["words"]),
            "elevation": cond["elevation"] + 20,
            "azimuth": cond["azimuth"] + 45,
            "instant": cond["instant"] + 0.1,
        }
        for name, value in changed.items():
            assert (denoiser(x, torch.full((1,), 0.9), cond | {name: value}) - base).abs().max() > 1e-3, name
        turn = cond | {"instant": cond["instant"] + 1, "azimuth": cond["azimuth"] + 360}
        torch.testing.assert_close(denoiser(x, torch.full((1,), 0.9), turn), base, rtol=1e-3, atol=1e-3)


def test_views_and_frames_are_looked_at_together(denoiser):
    """Gradients of the first cell's prediction reach every view and every frame."""
    x = torch.randn(1, 2, 3, 4, 16, 16, requires_grad=True)
    prediction = denoiser(x, torch.full((1,), 0.5), told(2, 3))
    (gradient,) = torch.autograd.grad(prediction[0, 0, 0].sum(), x)
    reached = gradient[0].flatten(2).abs().amax(dim=-1) > 0
    assert reached.all(), "two layers: views, then frames"
    with torch.no_grad():
        one = denoiser(x[:, :1, :1], torch.full((1,), 0.5), {k: v[:, :1, :1] if v.dim() == 3 else v
                                                              for k, v in told(2, 3).items()})  # fmt: skip
    assert (one - prediction[:, :1, :1]).abs().max() > 1e-4, "a picture alone is another question"


def test_wrong_sizes_are_refused():
    with pytest.raises(UserError, match="size 20 must be a multiple of 8"):
        WordsConfig(("knight",), (), (), size=20)
