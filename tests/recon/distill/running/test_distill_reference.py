"""The user's picture as a teacher: its rays, what it asks for, and a scene that learns it through the command."""

import json

import pytest
import torch
from test_distill_fit import TINY, config

from viewtime.cli import main
from viewtime.configs.schema.distill import ReferenceOptions
from viewtime.errors import UserError
from viewtime.images import write_image
from viewtime.recon.distill.fields.make import make_scene
from viewtime.recon.distill.guidance.base import Rendered, SeededDraws
from viewtime.recon.distill.running.fit import DistillFit
from viewtime.recon.distill.running.reference import Reference


def disc(size=16):
    """A red disc with straight alpha, [4, size, size]."""
    place = (torch.arange(size) + 0.5) / size - 0.5
    inside = (place[:, None].square() + place.square() < 0.09).float()
    return torch.stack([0.8 * torch.ones_like(inside), 0.1 * torch.ones_like(inside), torch.zeros_like(inside), inside])


def test_all_rays_are_moved_by_one_small_step():
    made = config("dream-in-4d-debug")
    scene = make_scene(made.scene, made.background, made.render, 0)
    reference = Reference(disc(), ReferenceOptions(ray_noise=0.01))
    draws = SeededDraws(3)
    shots = [reference.shot((4, 6), draws) for _ in range(2)]
    still = Reference(disc(), ReferenceOptions(ray_noise=0.0)).shot((4, 6), draws)
    rays = [scene.plan(shot, SeededDraws(0)).held.rays for shot in (*shots, still)]
    for moved, shot in zip(rays, shots):
        torch.testing.assert_close(moved.origins - rays[2].origins, shot.nudge[:1].expand(24, 3), rtol=0, atol=1e-6)
        expected = torch.nn.functional.normalize(rays[2].directions + shot.nudge[1], dim=1)
        torch.testing.assert_close(moved.directions, expected)
        assert 0 < shot.nudge.abs().max() < 0.05
    assert not torch.equal(shots[0].nudge, shots[1].nudge), "each step draws its own"
    with pytest.raises(UserError, match=r"--scene\.kind gaussians has no rays to move: add --reference\.ray_noise 0"):
        DistillFit(config("dream-in-4d-debug", "--scene.kind", "gaussians"), lambda name: None, "cpu", reference)


def test_the_losses_of_a_picture():
    """Colours count where the object is; elsewhere the render's own background is asked for, which costs nothing."""
    reference = Reference(disc(), ReferenceOptions())
    mask, behind = disc()[3:], torch.tensor([0.2, 0.4, 0.6])[:, None, None]
    shot = reference.shot((16, 16), SeededDraws(0))

    def losses(foreground, opacity):
        color = foreground + (1 - opacity) * behind
        cells = [value[None, None, None] for value in (color, opacity, foreground)]
        return reference.losses(Rendered(*cells, shot.cameras))

    right = losses(disc()[:3] * mask, mask)
    assert right["color"] < 1e-12
    assert right["mask"] < 1e-12
    nothing = losses(torch.zeros(3, 16, 16), torch.zeros(1, 16, 16))
    torch.testing.assert_close(nothing["mask"], mask.mean())
    torch.testing.assert_close(nothing["color"], ((disc()[:3] - behind).square() * mask).mean())


def test_a_scene_learns_the_picture(tmp_path, capsys):
    picture = write_image(tmp_path / "disc.png", disc(32).permute(1, 2, 0))
    words = ["distill", "a disc", "--config", "dream-in-4d-debug", *TINY]
    words += ["--stages.shape.shots.both.guidances", "[reference]", "--stages.shape.shots.both.sizes", "[[12, 12, 1]]"]
    words += ["--stages.shape.steps", "40", "--stages.motion.steps", "0", "--result.reconstruct", "false"]
    words += ["--stages.shape.rates.static", "0.05", "--stages.shape.rates.networks", "0.01"]
    words += ["--result.views", "1", "--result.frames", "1", "--out", str(tmp_path / "run")]
    assert main([*words, "--image", str(tmp_path / "none.png")]) == 1
    assert "none.png" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main([*words, "--image", str(picture)]) == 0
    lines = [json.loads(line)["losses"] for line in (tmp_path / "run" / "losses.jsonl").read_text().splitlines()]
    first, last = ({key: sum(line[key] for line in part) for key in part[0]} for part in (lines[:5], lines[-5:]))
    assert set(first) == {"reference.color", "reference.mask"}
    assert last["reference.color"] < 0.3 * first["reference.color"]
    assert last["reference.mask"] < 0.5 * first["reference.mask"]
