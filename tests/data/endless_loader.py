"""A process for `test_data_kill` to kill: it reads batches without end from workers of a fork server."""

from __future__ import annotations

import numpy as np
from data_samples import coded_sample

from viewtime.configs.schema.data import DataConfig
from viewtime.data.loader import GridLoader
from viewtime.data.samples import GridSample
from viewtime.data.sources import Consumer, Mixture


class Endless:
    name = "endless"
    needs_fresh_process = True

    def draw(self, consumer: Consumer, position: int, rng: np.random.Generator) -> GridSample:
        return coded_sample(2, 2)


if __name__ == "__main__":
    config = DataConfig(views=2, frames=2, resolution=32, workers=2)
    for _ in GridLoader(Mixture([Endless()], [1.0]), config):
        print("batch", flush=True)
