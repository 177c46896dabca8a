"""CLIP score of a grid: the frames of the diagonal, the cosine with the text, one prompt per grid."""

import pytest
import torch

from tests.sample.metrics.tiny_clip import tiny_clip
from viewtime.cli import main
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.sample.metrics.clip_score import clip_score


class CosineOfRed:
    """Stands for CLIP: an image's mean red is its cosine with any text."""

    protocol = "red"
    seen: torch.Tensor

    def with_text(self, images, text):
        self.seen = images
        return images[:, 0].mean(dim=(1, 2))


def red_grid() -> FrameGrid:
    frames = torch.zeros(2, 4, 3, 8, 8)
    frames[:, :, 0] = torch.tensor([[0.0, 0.1, 0.2, 0.3], [0.4, 0.5, 0.6, 0.7]])[..., None, None]
    return FrameGrid(frames, torch.zeros(2, 4, dtype=torch.bool))


def test_view_and_time_advance_together():
    clip = CosineOfRed()
    score = clip_score(red_grid(), "a knight", clip)  # type: ignore[arg-type]
    assert score == pytest.approx(100 * (0.0 + 0.5 + 0.2 + 0.7) / 4)
    with pytest.raises(UserError, match="empty"):
        clip_score(red_grid(), " ", clip)  # type: ignore[arg-type]


def test_one_prompt_per_grid(tmp_path, capsys):
    grid = str(red_grid().save(tmp_path / "grid"))
    assert main(["evaluate", "--pred", grid, grid, "--prompt", "a knight", "--out", str(tmp_path / "out")]) == 1
    assert "1 prompts and 2 predictions" in capsys.readouterr().err


def test_the_command_with_a_tiny_network(tmp_path, capsys):
    name, weights = tiny_clip(tmp_path)
    grid = str(red_grid().save(tmp_path / "grid", lossless=True))
    words = ["--clip-model", name, "--clip-weights", str(weights), "--out", str(tmp_path / "out")]
    assert main(["evaluate", "--pred", grid, "--prompt", "a red knight walks", *words]) == 0
    assert (tmp_path / "out" / "clip_score.json").is_file()
    assert "CLIP score" in capsys.readouterr().out
