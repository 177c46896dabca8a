"""`viewtime sample --asset`: a video's grid, and the asset of the same model's solids beside it."""

from __future__ import annotations

from pathlib import Path

from viewtime.configs.load import build
from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.configs.schema.sample import SampleConfig
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.model.weight_names import find_weights
from viewtime.sample.command import run as sample
from viewtime.weights import read_header

from .command import write_asset


def run(config: SampleConfig) -> list[Path]:
    """Entry of the command; returns what was written, the asset's files last.

    Raises:
        UserError: the weights have no solid; before anything is sampled.
    """
    model = read_header(find_weights(config.weights, config.offline))[0].get("model")
    options = model.get("config") if isinstance(model, dict) and model.get("name") == "mini" else None
    if not isinstance(options, dict) or not options.get("frustum_width"):
        raise UserError(
            f"--asset needs a model with a solid; {config.weights} has none: give --weights mini-generalist"
        )
    written = sample(config)
    grids = [path for path in written if path.name == "grid"]
    if not grids:  # --show-plan, or not the first of several processes
        return written
    options = {"grid": str(grids[0]), "method": "direct", "direct": {"weights": config.weights}, "seed": config.seed}
    asset = build(ReconstructConfig, options, "reconstruct")
    return [*written, *write_asset(FrameGrid.load(grids[0]), asset, grids[0].parent / "asset")]
