"""Training-free speed-ups: what they save and what they cost, against the same sampler without them.

    python benchmarks/sampling_speedups.py [--video examples/knight.mp4] [--weights mini] [--steps 12]

Each row: CPU seconds and network evaluations as ratios to the first row, and the error of the novel views against the
same seed at four times the steps with Heun (PSNR on white). A saved evaluation is worth having only where its PSNR is
above that of the plain sampler with as few evaluations, which is in the table too.
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from viewtime.configs.schema.sample import SamplerOptions  # noqa: E402
from viewtime.sample.pipeline import Pipeline  # noqa: E402


class Counter:
    """Counts the rows that go through a denoiser."""

    def __init__(self, denoiser) -> None:
        self.denoiser, self.rows = denoiser, 0
        self.schedule_kind, self.in_channels = denoiser.schedule_kind, denoiser.in_channels

    def __call__(self, x, sigma, cond):
        self.rows += len(x)
        return self.denoiser(x, sigma, cond)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", default=str(ROOT / "examples" / "knight.mp4"))
    parser.add_argument("--weights", default="mini")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--frames", type=int, default=4)
    options = parser.parse_args()
    pipe = Pipeline.from_pretrained(options.weights, device="cpu")
    device = pipe.model.device
    counter = Counter(pipe.model.denoiser)
    pipe.model.denoiser = counter  # type: ignore[misc]
    type(pipe.model).device = property(lambda self: device)  # type: ignore[method-assign, assignment]

    def run(sampler: SamplerOptions):
        counter.rows = 0
        start = time.process_time()
        grid = pipe(options.video, views=options.views, frames=options.frames, sampler=sampler)
        return grid.rgb()[1:], time.process_time() - start, counter.rows

    n = options.steps
    guided = {"guidance": "constant", "guidance_high": 1.5}
    table = {
        "no guidance": [
            ("euler", {"steps": n}),
            ("euler, cache steps", {"steps": n, "cache": "steps"}),
            ("euler, 3/4 of the steps", {"steps": max(1, 3 * n // 4)}),
            ("dpmpp-2m", {"steps": n, "name": "dpmpp-2m"}),
        ],
        "guidance 1.5": [
            ("euler", {"steps": n, **guided}),
            ("euler, cache guidance", {"steps": n, "cache": "guidance", **guided}),
            ("euler, interval 0.2-0.8", {"steps": n, "guidance_interval": (0.2, 0.8), **guided}),
            ("euler, 3/4 of the steps", {"steps": max(1, 3 * n // 4), **guided}),
        ],
    }
    for title, rows in table.items():
        extra = guided if title.startswith("guidance") else {}
        truth, _, _ = run(SamplerOptions(name="heun", steps=4 * n, **extra))
        base = None
        print(f"{title}; reference: heun, {4 * n} steps")
        for label, arguments in rows:
            frames, seconds, evaluations = run(SamplerOptions(**{"name": "euler", **arguments}))
            base = base or (seconds, evaluations)
            psnr = -10 * float((frames - truth).square().mean().clamp_min(1e-12).log10())
            print(
                f"  {label:26s} CPU {seconds / base[0]:.2f}, evaluations {evaluations / base[1]:.2f}, "
                f"PSNR to the reference {psnr:5.1f} dB"
            )


if __name__ == "__main__":
    main()
