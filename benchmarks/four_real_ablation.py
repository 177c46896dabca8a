"""A small repeat of 4Real-Video's ablation (its table 1): which way of joining rows and columns completes grids best?

    python benchmarks/four_real_ablation.py                  # goes on where it stopped; prints the table at the end
    python benchmarks/four_real_ablation.py --cpu-seconds 300   # stop after that much work, to go on later
    python benchmarks/four_real_ablation.py --set times=uniform --runs "sequential;hard;soft" --output runs/uniform
    python benchmarks/four_real_ablation.py --set device=cuda --set width=384 --set base_steps=20000 --output runs/large

One base model is trained once on rows and columns of small true-4D scenes, with any subset of frames known. Every
variant starts from it and trains on the same grids in the same order: pseudo-4D first, then true 4D (section 3.3).
Held-out true-4D grids are sampled from their first row and first column and compared with the truth on the other
cells. Losses, masks, noise per cell and samplers are the package's own; the loop around them is the one below.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from four_real.report import draw_sheets, table
from four_real.scenes import pseudo_grid, true_grid
from torch import Tensor, nn

from viewtime.configs.schema.loss import LossSection
from viewtime.files import atomic_path
from viewtime.model.registry import build_denoiser, resolved_config
from viewtime.sample.metrics.measures.image import flicker, psnr, ssim
from viewtime.sample.solver.noise import cell_noise
from viewtime.sample.solver.samplers import heun
from viewtime.sample.solver.schedules import make_schedule
from viewtime.train.objective.conditioning import draw_mask
from viewtime.train.objective.losses import denoising_loss, noised_batch, sample_generator
from viewtime.weights import load_weights, save_weights

# Name in the table -> (variant, trained). The untrained ones are section 7's "without training".
RUNS = {
    "sequential": ("sequential", True),
    "hard": ("hard", True),
    "soft": ("soft", True),
    "sequential, untrained": ("sequential", False),
    "hard, untrained": ("hard", False),
    "soft, untrained": ("soft", False),
    "fused": ("fused", True),
    "fused, untrained": ("fused", False),
}
# All seeds of a group come before the next group: the paper's own comparison first.
GROUPS = (tuple(RUNS)[:3], tuple(RUNS)[3:6], tuple(RUNS)[6:])
LEVELS = (0.3, 0.6, 0.9, 0.97, 1.0)
ERRORS = tuple(f"error_{level}" for level in LEVELS)
METRICS = ("psnr", "psnr_capped", "psnr_far", "psnr_mean", "ssim", "time_flicker", "view_flicker", *ERRORS)
# The noise level that the network is told at most when "psnr_capped" is sampled: training rarely sees higher ones.
CAP = 0.9
HELD_OUT_SEED, BASE_SEED = 999, 500


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers; `--set name=value` changes one."""

    views: int = 4
    frames: int = 4
    height: int = 16
    image_width: int = 24
    width: int = 64
    depth: int = 4
    base_steps: int = 1600
    pseudo_steps: int = 100
    true_steps: int = 50
    batch: int = 4
    base_batch: int = 8
    base_lr: float = 2e-3
    lr: float = 1e-3
    seeds: int = 3
    held_out: int = 8
    sample_steps: int = 8
    times: str = "logit_normal"
    device: str = "cpu"

    @property
    def base_config(self) -> dict:
        """Config of the base model."""
        return {
            "patch": 4, "width": self.width, "depth": self.depth, "head_dim": 32, "text_width": 0,
            "frame_size": self.size,
        }  # fmt: skip

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of a cell."""
        return self.height, self.image_width


class OutOfTimeError(Exception):
    """The budget of this call is spent; what is finished is on disk."""


class Budget:
    """CPU seconds of this process."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds

    def check(self) -> None:
        """Raise OutOfTimeError once the seconds are spent."""
        if self.seconds is not None and time.process_time() > self.seconds:
            raise OutOfTimeError


def train(
    denoiser: nn.Module, settings: Settings, seed: int, steps: int, batch: int, lr: float, grids, masking: str,
    budget: Budget | None, state_path: Path | None = None,
) -> list[float]:  # fmt: skip
    """Velocity matching for a number of steps; returns the loss of each step.

    Args:
        grids: step -> list of `batch` grids [V, F, 3, H, W].
        budget, state_path: where to stop, and the file to go on from.
    """
    parameters = [parameter for parameter in denoiser.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.99), weight_decay=0.0)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / 20, 1.0, 4 * (steps - step) / steps)
    )
    loss_section, losses = LossSection(times=settings.times), []  # type: ignore[arg-type]
    if state_path is not None and state_path.is_file():
        state = torch.load(state_path, weights_only=True)
        denoiser.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        rate.load_state_dict(state["rate"])
        losses = state["losses"]
    for step in range(len(losses), steps):
        generators = [sample_generator(seed, step * batch + item) for item in range(batch)]
        x0 = torch.stack(grids(step))
        known = torch.stack([draw_mask(masking, settings.views, settings.frames, g) for g in generators])
        noised = noised_batch(x0, known, loss_section, generators)
        cond = {"known": known, "known_frames": x0 * known[..., None, None, None]}
        cond = {key: value.to(settings.device) for key, value in cond.items()}
        denoised = denoiser(noised.x.to(settings.device), noised.sigma.to(settings.device), cond)
        loss, _ = denoising_loss(denoised.cpu(), x0, noised, loss_section)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        rate.step()
        losses.append(loss.item())
        if state_path is not None and (step % 100 == 99 or step == steps - 1):
            with atomic_path(state_path) as temporary:
                torch.save(
                    {"model": denoiser.state_dict(), "optimiser": optimiser.state_dict(), "rate": rate.state_dict(),
                     "losses": losses}, temporary,
                )  # fmt: skip
            if budget is not None:
                budget.check()
    return losses


def first_row_and_column(truth: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Known cells [1, V, F] and the conditions of one grid [V, F, 3, H, W]."""
    known = torch.zeros(1, *truth.shape[:2], dtype=torch.bool)
    known[:, 0], known[:, :, 0] = True, True
    return known, {"known": known, "known_frames": truth[None] * known[..., None, None, None]}


@torch.no_grad()
def denoising_errors(denoiser: nn.Module, truth: Tensor, settings: Settings) -> tuple[list[float], Tensor]:
    """(velocity errors at `LEVELS`, prediction from pure noise [V, F, 3, H, W] in [0, 1] with known cells put back)."""
    known, cond = first_row_and_column(truth)
    cond = {key: value.to(settings.device) for key, value in cond.items()}
    noise = cell_noise(0, range(truth.shape[0]), range(truth.shape[1]), truth.shape[2:])[None]
    errors = []
    denoised = truth[None]
    for level in LEVELS:
        sigma = level * (~known).float()
        x = truth[None] + sigma[..., None, None, None] * (noise - truth[None])
        denoised = denoiser(x.to(settings.device), sigma.to(settings.device), cond).cpu()
        errors.append((denoised - truth)[~known].square().mean().item() / level**2)
    mean = torch.where(known[..., None, None, None], truth, denoised)[0]
    return errors, mean.clamp(-1, 1) / 2 + 0.5


@torch.no_grad()
def complete(denoiser: nn.Module, truth: Tensor, seed: int, settings: Settings, cap: float = 1.0) -> Tensor:
    """Sample the grid [V, F, 3, H, W] in [-1, 1] from its first row and column; known cells are put back.

    Args:
        cap: highest noise level that the network is told; where the sampler stands higher, the velocity of this level
            is used.
    """
    V, F = truth.shape[:2]
    _, cond = first_row_and_column(truth)
    cond = {key: value.to(settings.device) for key, value in cond.items()}
    place, clean = cond["known"][..., None, None, None], cond["known_frames"]
    noise = cell_noise(seed, range(V), range(F), truth.shape[2:])[None].to(settings.device)
    schedule = make_schedule("flow", settings.sample_steps)

    def denoise(x: Tensor, sigma: float, step: int) -> Tensor:
        told = min(sigma, cap)
        denoised = denoiser(torch.where(place, clean, x), torch.tensor([told], device=x.device), cond)
        return x + sigma / told * (denoised - x) if told > 0 else denoised

    return torch.where(place, clean, heun(denoise, noise, schedule))[0].cpu().clamp(-1, 1)


def measure(denoiser: nn.Module, settings: Settings, seed: int, pictures: Path | None = None) -> dict[str, float]:
    """Means over the unknown cells of the held-out grids.

    `psnr_capped`: of grids sampled without telling the network a noise level above `CAP`.
    `psnr_far`: of the cell furthest from what is given. `psnr_mean`: of the prediction straight from noise, which
    aims at the mean of all possible grids, where a sample is one of them. `error_t`: the training loss (squared error
    of the velocity) on held-out grids at noise level t, with equal noise for all runs.
    """
    sums = dict.fromkeys(METRICS, 0.0)
    for index in range(settings.held_out):
        truth = true_grid(HELD_OUT_SEED, index, settings.views, settings.frames, settings.size)
        made = complete(denoiser, truth, seed, settings)
        pred, gt = made / 2 + 0.5, truth / 2 + 0.5
        sums["psnr"] += psnr(pred, gt)[1:, 1:].mean().item()
        capped = complete(denoiser, truth, seed, settings, CAP) / 2 + 0.5
        sums["psnr_capped"] += psnr(capped, gt)[1:, 1:].mean().item()
        sums["psnr_far"] += psnr(pred, gt)[-1, -1].item()
        sums["ssim"] += ssim(pred, gt)[1:, 1:].mean().item()
        sums["time_flicker"] += flicker(pred, gt)[1:].mean().item()
        sums["view_flicker"] += flicker(pred.transpose(0, 1), gt.transpose(0, 1))[1:].mean().item()
        errors, mean = denoising_errors(denoiser, truth, settings)
        for key, error in zip(ERRORS, errors, strict=True):
            sums[key] += error
        sums["psnr_mean"] += psnr(mean, gt)[1:, 1:].mean().item()
        if pictures is not None and index < 2:
            torch.save(pred, pictures / f"grid_{index}.pt")
    return {name: total / settings.held_out for name, total in sums.items()}


def base_model(settings: Settings, folder: Path, budget: Budget) -> Path:
    """Train the base once; path of its weights."""
    path = folder / "base.safetensors"
    if path.is_file():
        return path
    torch.manual_seed(BASE_SEED)
    denoiser = build_denoiser("4real-base", settings.base_config).to(settings.device)
    shape = (settings.views, settings.frames, settings.size)

    def grids(step: int) -> list[Tensor]:
        return [true_grid(BASE_SEED, step * settings.base_batch + i, *shape) for i in range(settings.base_batch)]

    losses = train(
        denoiser, settings, BASE_SEED, settings.base_steps, settings.base_batch, settings.base_lr, grids, "random",
        budget, folder / "base_state.pt",
    )  # fmt: skip
    (folder / "base_losses.json").write_text(json.dumps(losses))
    record = {"model": {"name": "4real-base", "config": resolved_config(denoiser.network)}}
    save_weights(path, denoiser.network.state_dict(), record)
    return path


def run_variant(name: str, seed: int, settings: Settings, base: Path, folder: Path) -> dict:
    """Train (or not) and measure one variant; the record that goes into the results."""
    variant, trained = RUNS[name]
    torch.manual_seed(seed)
    denoiser = build_denoiser("4real", {"base": settings.base_config, "variant": variant})
    network = denoiser.network
    weights = load_weights(build_denoiser("4real-base", settings.base_config).network, base)
    network.load_base(weights.state_dict())  # type: ignore[operator]
    denoiser = denoiser.to(settings.device)
    record: dict = {"run": name, "seed": seed}
    started = time.process_time()
    if trained:
        shape = (settings.views, settings.frames, settings.size)
        for stage, make, steps in (
            ("pseudo", pseudo_grid, settings.pseudo_steps), ("true", true_grid, settings.true_steps),
        ):  # fmt: skip
            first = (seed + 1) * 1_000_000

            def grids(step: int, make=make, first=first) -> list[Tensor]:
                return [make(seed, first + step * settings.batch + i, *shape) for i in range(settings.batch)]

            losses = train(
                denoiser, settings, seed, steps, settings.batch, settings.lr, grids, "first_view_and_frame", None
            )
            tail = max(1, steps // 4)
            record[f"{stage}_loss"] = sum(losses[-tail:]) / tail
            if stage == "pseudo" and name == "soft":  # the paper's "soft w/o Obj"
                record["after_pseudo"] = measure(denoiser, settings, seed)
    pictures = folder / f"{name.replace(', ', '_')}_{seed}"
    pictures.mkdir(exist_ok=True)
    record["final"] = measure(denoiser, settings, seed, pictures)
    record["trained_parameters"] = sum(p.numel() for p in network.parameters() if p.requires_grad) if trained else 0
    record["cpu_seconds"] = time.process_time() - started
    return record


def main() -> int:
    """Go through all runs that have no record yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/four-real-ablation"))
    parser.add_argument("--cpu-seconds", type=float, default=None, help="stop after this much CPU time of this call")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a setting")
    parser.add_argument("--runs", default=";".join(RUNS), help="names in the table, separated by semicolons")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    changed = dict(pair.split("=", 1) for pair in arguments.set)
    defaults = asdict(Settings())
    settings = Settings(**{key: type(defaults[key])(value) for key, value in changed.items()})
    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "results.json"
    found = json.loads(results.read_text()) if results.is_file() else {"settings": asdict(settings), "records": []}
    if found["settings"] != asdict(settings):
        parser.error(f"{folder} holds a run with other settings; give another --output")
    budget = Budget(arguments.cpu_seconds)
    try:
        base = base_model(settings, folder, budget)
        done = {(record["run"], record["seed"]) for record in found["records"]}
        wanted = arguments.runs.split(";")
        for name, seed in ((name, seed) for group in GROUPS for seed in range(settings.seeds) for name in group):
            if (name, seed) in done or name not in wanted:
                continue
            budget.check()
            found["records"].append(run_variant(name, seed, settings, base, folder))
            with atomic_path(results) as temporary:
                temporary.write_text(json.dumps(found, indent=1))
            print(f"{name}, seed {seed}: PSNR {found['records'][-1]['final']['psnr']:.2f} dB", flush=True)
    except OutOfTimeError:
        print("stopped at the limit of CPU seconds; the same command goes on")
    print(table(found["records"], METRICS))
    held_out = [
        true_grid(HELD_OUT_SEED, index, settings.views, settings.frames, settings.size) / 2 + 0.5 for index in range(2)
    ]
    draw_sheets(held_out, list(RUNS), folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
