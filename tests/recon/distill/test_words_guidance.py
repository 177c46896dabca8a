"""Our model of captions as guidance: the noise it sees, what it looks at together, what it is told."""

from dataclasses import replace

import pytest
import torch
from golden_parts import rendered

from viewtime.cameras import regular_orbit
from viewtime.errors import UserError
from viewtime.model.mini.words import WordsConfig
from viewtime.recon.distill.guidance.base import Kind, SeededDraws
from viewtime.recon.distill.guidance.prior import draw_prior
from viewtime.recon.distill.guidance.words import WordsGuidance, read_config, words_prompt

CONFIG = WordsConfig(("knight", "horse"), ("red", "blue"), ("walks walking walk",), size=8)


class Told:
    """A denoiser that keeps what it is told, and says the picture is as bright as its caption has words."""

    schedule_kind, in_channels = "flow", 4

    def __init__(self):
        self.calls = []

    def __call__(self, x, sigma, cond):
        self.calls.append((x, sigma, cond))
        return cond["words"].sum(dim=-1)[:, None, None, None, None, None].expand_as(x) / 10


def cameras(views, frames):
    return (regular_orbit(views, frames, elevation=20.0, azimuth_start=30.0),)


@pytest.mark.parametrize(
    ("kind", "views", "frames", "grids"),
    [
        (Kind.IMAGE, 3, 2, (6, 1, 1)),
        (Kind.VIDEO, 2, 5, (2, 1, 5)),
        (Kind.MULTI_VIEW, 4, 1, (1, 4, 1)),
        (Kind.GRID, 4, 1, (1, 4, 1)),
    ],
)
def test_the_noise_and_what_is_looked_at_together(kind, views, frames, grids):
    denoiser = Told()
    guidance = WordsGuidance("words", denoiser, CONFIG, kind, views=views)
    torch.manual_seed(0)
    noisy = torch.randn(1, views, frames, 4, 8, 8, dtype=torch.float64)
    timesteps = torch.full((1, views, frames), 600)
    found = guidance.predict(noisy, timesteps, cameras(views, frames), words_prompt("a red horse walks", CONFIG))
    a = guidance.traits.schedule.alpha_bar[600]
    for value, clean in zip(found, (0.3, 0.0)):
        torch.testing.assert_close(value, (noisy - a.sqrt() * clean) / (1 - a).sqrt(), rtol=1e-6, atol=1e-6)
    x, sigma, cond = denoiser.calls[0]
    assert tuple(x.shape[:3]) == grids
    time = (1 - a).sqrt() / (a.sqrt() + (1 - a).sqrt())
    torch.testing.assert_close(sigma, torch.full((grids[0],), float(time)))
    torch.testing.assert_close(x.reshape(noisy.shape), noisy.float() / (a.sqrt() + (1 - a).sqrt()).float())
    torch.testing.assert_close(cond["azimuth"].reshape(views, frames), cameras(views, frames)[0].azimuth)


def test_it_is_told_the_instants_of_the_render():
    denoiser = Told()
    guidance = WordsGuidance("words", denoiser, CONFIG, Kind.VIDEO)
    color = torch.rand(1, 1, 3, 3, 16, 16, requires_grad=True)
    seen = rendered(color, cameras(1, 3))
    seen = replace(seen, times=torch.tensor([0.25, 0.5, 1.0], dtype=torch.float64))
    latents = guidance.encode(seen, SeededDraws(0))
    assert latents.shape == (1, 1, 3, 4, 8, 8)
    guidance.predict(latents.detach(), torch.full((1, 1, 3), 400), seen.cameras, words_prompt("knight", CONFIG))
    assert denoiser.calls[0][2]["instant"].tolist() == [[[0.25, 0.5, 0.0]]]
    drawn = draw_prior(guidance, words_prompt("knight", CONFIG), cameras(1, 4), SeededDraws(0), scale=1.0, steps=2)
    assert denoiser.calls[-1][2]["instant"].flatten().tolist() == [0, 0.25, 0.5, 0.75], "the whole motion"
    assert drawn.mean().item() == pytest.approx(0.55, abs=0.01), "what the denoiser says of one word"


def test_bad_batches_and_files(tmp_path):
    from tests.sample.small_models import mini_weights

    guidance = WordsGuidance("words", Told(), CONFIG, Kind.MULTI_VIEW, views=4)
    with pytest.raises(UserError, match="looks at 4 views together; the batch has 3"):
        guidance.encode(rendered(torch.zeros(1, 3, 1, 3, 8, 8), cameras(3, 1)), SeededDraws(0))
    with pytest.raises(UserError, match="holds no mini-words model"):
        read_config(mini_weights(tmp_path))
