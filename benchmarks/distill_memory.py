"""What the stages of a distill preset need of a GPU's memory, as `viewtime distill` estimates it before a run.

    python benchmarks/distill_memory.py [--presets 4d-fy-code dream-in-4d-code] [--memory 0 80 48 24 12]

Needs no device and no weights; a minute for each line of two or three stages.
"""

from __future__ import annotations

import argparse

from viewtime.configs.schema.distill import MEMORY, DistillConfig
from viewtime.recon.distill.running.estimate import estimate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["4d-fy-code", "dream-in-4d-code"])
    parser.add_argument("--memory", type=int, nargs="+", default=[0, *MEMORY[::-1]], help="0: the preset as it is")
    arguments = parser.parse_args()
    for preset in arguments.presets:
        for memory in arguments.memory:
            words = ["a panda", "--config", preset, "--memory", str(memory)]
            for stage in estimate(DistillConfig.from_argv(words, "distill_memory.py")):
                print(f"{preset}, --memory {memory}: {stage}", flush=True)


if __name__ == "__main__":
    main()
