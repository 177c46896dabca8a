"""The loop with the exact denoiser of a known scene: what learns and what does not, resuming, warnings, errors."""

import dataclasses
import json
import logging
import math

import pytest
import torch

from viewtime.cameras import regular_orbit
from viewtime.configs.schema.distill import DistillConfig
from viewtime.configs.schema.distill_stages import ShotOptions, StageOptions
from viewtime.errors import UserError
from viewtime.recon.distill.camera_sampling import CameraRange
from viewtime.recon.distill.fields.scene import Shot, shown
from viewtime.recon.distill.guidance.base import SeededDraws
from viewtime.recon.distill.running.fit import DistillFit
from viewtime.recon.distill.running.judges import open_judge
from viewtime.recon.distill.running.loop import STATE, run_distill, run_mark
from viewtime.recon.distill.running.schedule import choose_shots, draw_shot, scalar
from viewtime.recon.distill.running.watch import LOOKS, Watch
from viewtime.recon.fitting.resume import keep_states

TINY = [
    "--scene.levels", "3", "--scene.motion_levels", "3", "--scene.log2_table", "10", "--scene.width", "8",
    "--render.samples", "32", "--render.occupancy", "8", "--save_every", "1000", "--result.size", "16",
]  # fmt: skip


SHOTS = {
    "4d-fy-debug": ("shape.shots.views", "appearance.shots.views", "motion.shots.views", "motion.shots.video"),
    "dream-in-4d-debug": ("shape.shots.both", "motion.shots.video"),
}


def config(preset: str, *changes: str) -> DistillConfig:
    small = [word for name in ("views", "image", "video") for word in (f"--guidances.{name}.size", "[12, 12]")]
    small += [word for name in SHOTS[preset] for word in (f"--stages.{name}.sizes", "[[12, 12, 1]]")]
    return DistillConfig.from_argv(["a knight", "--config", preset, *TINY, *small, *changes], "test")


def make(made: DistillConfig) -> DistillFit:
    return DistillFit(made, lambda name: open_judge(name, made, torch.device("cpu")))


def weights(fit: DistillFit) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in fit.scene.state_dict().items()}


def run_stage(fit: DistillFit, stage: str) -> None:
    while fit.stage_name != stage or fit.iteration < fit.stage.steps:
        fit.step()


def test_dream_in_4ds_motion_stage_leaves_the_static_field_as_it_is():
    fit = make(config("dream-in-4d-debug", "--stages.shape.steps", "2", "--stages.motion.steps", "3"))
    run_stage(fit, "shape")
    before = weights(fit)
    run_stage(fit, "motion")
    after = weights(fit)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".")[1] for name in changed if name.startswith("field")} == {"displacement"}


def test_4d_fys_grid_in_time_learns_from_videos_alone():
    made = config(
        "4d-fy-debug", "--stages.shape.steps", "1", "--stages.appearance.steps", "1", "--stages.motion.steps", "12"
    )
    fit = make(made)
    run_stage(fit, "appearance")
    start = weights(fit)["field.dynamic.table"]
    seen = set()
    while not fit.finished():
        before = weights(fit)
        fit.step()
        after = weights(fit)
        video = fit.records[-1]["shots"] == ["video"]
        seen.add(video)
        assert torch.equal(before["field.dynamic.table"], after["field.dynamic.table"]) != video
        assert not torch.equal(before["field.static.table"], after["field.static.table"])
    assert seen == {True, False}
    assert not torch.equal(start, weights(fit)["field.dynamic.table"])


def test_a_scene_that_is_not_moving_shows_the_same_at_all_instants():
    fit = make(config("4d-fy-debug", "--stages.shape.steps", "1"))
    fit.step()
    points = torch.rand(10, 3) - 0.5
    assert torch.equal(
        fit.scene.field(points, torch.zeros(10)).density, fit.scene.field(points, torch.ones(10)).density
    )


def test_the_loss_falls_on_the_known_scene():
    still = ["--cameras.all.distance", "[2.7, 2.7]", "--cameras.all.fov_y", "[30.0, 30.0]"]
    fit = make(config("dream-in-4d-debug", "--stages.shape.steps", "80", *still))
    run_stage(fit, "shape")
    losses = [record["losses"]["views.sds"] for record in fit.records]
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


@pytest.mark.parametrize("preset", ["4d-fy-debug", "dream-in-4d-debug"])
def test_resumed_is_the_same_run(preset, tmp_path):
    lengths = ["--stages.shape.steps", "2", "--stages.motion.steps", "4"]
    lengths += ["--stages.appearance.steps", "1"] if preset == "4d-fy-debug" else []
    made = config(preset, *lengths)
    whole = make(made)
    run_distill(whole, tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    first = make(made)
    while first.done < 4:
        first.step()
    keep_states(tmp_path / "cut", (STATE,), DistillConfig, run_mark(made), True)
    first.save(tmp_path / "cut" / STATE)
    again = make(made)
    run_distill(again, tmp_path / "cut")
    assert len((tmp_path / "cut" / "losses.jsonl").read_text().splitlines()) == whole.done - 4
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(again)[name]), name
    lines = [json.loads(line) for line in (tmp_path / "whole" / "losses.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines].count("motion") == 4
    assert all(math.isfinite(value) for line in lines for value in line["losses"].values())
    assert (tmp_path / "whole" / "preview.png").is_file()


@pytest.mark.parametrize("change", [["--scene.width", "16"], ["--seed", "3"], ["--guidances.views.scale", "8"]])
def test_a_state_of_other_options_is_thrown_away(change, tmp_path):
    short = ["--stages.shape.steps", "1", "--stages.motion.steps", "0"]
    before, after = config("dream-in-4d-debug", *short), config("dream-in-4d-debug", *short, *change)
    run_distill(make(before), tmp_path)
    assert (tmp_path / STATE).is_file()
    assert run_mark(before) == run_mark(dataclasses.replace(before, save_every=7, out=tmp_path / "b"))
    keep_states(tmp_path, (STATE,), DistillConfig, run_mark(after), True)
    assert not (tmp_path / STATE).exists()


def test_a_damaged_state_is_one_line(tmp_path):
    fit = make(config("dream-in-4d-debug"))
    fit.step()
    fit.save(tmp_path / STATE)
    whole = (tmp_path / STATE).read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"x" * 100):
        (tmp_path / STATE).write_bytes(damaged)
        with pytest.raises(UserError, match=r"is damaged \(.*start anew with --resume false"):
            fit.restore(tmp_path / STATE)


def test_a_step_that_is_not_finite_changes_nothing_and_many_end_the_run(monkeypatch, caplog):
    caplog.set_level(logging.WARNING, logger="viewtime")
    logging.getLogger("viewtime").propagate = True
    fit = make(config("dream-in-4d-debug"))
    fit.step()
    before = weights(fit)["field.static.table"]
    guidance = fit.judges["views"].teacher.guidance
    monkeypatch.setattr(guidance, "encode", lambda rendered, draws: torch.full((1, 4, 1, 4, 12, 12), torch.nan))
    fit.step()
    assert torch.equal(before, weights(fit)["field.static.table"])
    assert fit.records[-1]["skipped"]
    assert "not finite" in caplog.text
    for _ in range(18):
        fit.step()
    with pytest.raises(UserError, match="in a row"):
        fit.step()


def test_shots_are_drawn_by_their_probabilities():
    shots = {"a": ShotOptions(0.5), "b": ShotOptions(0.25), "c": ShotOptions(0.25), "always": ShotOptions()}
    draws, counts, total = SeededDraws(0), dict.fromkeys("abc", 0), 4000
    for _ in range(total):
        name, other = choose_shots(StageOptions(1, shots=shots), draws)
        assert other == "always"
        counts[name] += 1
    expected = {"a": 0.5 * total, "b": 0.25 * total, "c": 0.25 * total}
    assert sum((counts[k] - expected[k]) ** 2 / expected[k] for k in counts) < 13.8  # chi-square, 2 degrees, p = 0.001


def test_times_and_sizes_of_shots():
    draws = SeededDraws(1)
    video = ShotOptions(frames=16, sizes=((8, 16, 1), (16, 32, 2)), at_steps=(10,))
    early, late = (draw_shot(video, CameraRange(), True, step, draws) for step in (9, 10))
    assert (early.height, early.width, early.grid) == (8, 16, (1, 1, 16))
    assert (late.height, late.width, late.grid) == (16, 32, (2, 1, 16))
    torch.testing.assert_close(early.times.diff(), torch.full((15,), 1 / 16, dtype=torch.float64))
    assert 0 <= early.times[0] < 1 / 16
    assert not draw_shot(video, CameraRange(), False, 0, draws).times.any()
    ring = draw_shot(ShotOptions(views=4), CameraRange(), True, 0, draws)
    assert ring.grid == (1, 4, 1)
    assert 0 <= ring.times.item() < 1


def test_scheduled_numbers():
    ramp = scalar((10, 1.0, 3.0, 20))
    assert [ramp.at(step) for step in (0, 10, 15, 20, 99)] == [1.0, 1.0, 2.0, 3.0, 3.0]
    with pytest.raises(UserError, match="start, first, last, end"):
        scalar((1.0, 2.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--stages.shape.rates.statics", "0.1"], "groups static, networks"),
        (["--stages.shape.shots.both.guidances", "[viws]"], "no guidances named viws"),
        (["--stages.shape.shots.both.cameras", "none_such"], "no cameras named none_such"),
        (["--stages.shape.shots.both.probability", "0.5"], "add up to 0.5"),
        (["--stages.shape.shots.both.guidances", "[reference]"], "give --image"),
        (["--guidances.views.weight.colour", "1"], "weights are needed for sds"),
    ],
)
def test_schedules_that_cannot_be(changes, message):
    with pytest.raises(UserError, match=message):
        make(config("dream-in-4d-debug", *changes)).step()


def shown_with(opacity: float, displacement: float):
    shot = Shot((regular_orbit(1, 3),), torch.linspace(0, 0.5, 3, dtype=torch.float64), 4, 4)
    pixels = torch.zeros(48, 10)
    pixels[:, 3], pixels[:, 7] = opacity, opacity * displacement
    return shown(pixels, shot)


@pytest.mark.parametrize(
    ("opacity", "displacement", "text"),
    [(0.5, 1e-4, "hardly moves"), (1e-3, 0.1, "fades away"), (0.995, 0.1, "fills the picture"), (0.5, 0.1, None)],
)
def test_what_goes_wrong_is_said_once_with_a_remedy(opacity, displacement, text, caplog):
    caplog.set_level(logging.WARNING, logger="viewtime")
    logging.getLogger("viewtime").propagate = True
    watch = Watch("motion", "raise --guidances.video.weight.sds")
    for _ in range(LOOKS + 20):
        watch.look(shown_with(opacity, displacement), video=True)
    found = [record.message for record in caplog.records]
    assert len(found) == (text is not None)
    if text:
        assert text in found[0]
        assert "--" in found[0]
    assert watch.means["motion"] == pytest.approx(displacement, rel=1e-3)
