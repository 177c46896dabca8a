"""The synthetic stream, slowed down by an environment variable so that a test can kill the run in its middle."""

from __future__ import annotations

import os
import time

from viewtime.train.streams.synthetic import SyntheticStream


class SlowStream(SyntheticStream):
    def __iter__(self):
        for batch in super().__iter__():
            time.sleep(float(os.environ.get("VIEWTIME_TEST_STEP_DELAY", "0")))
            yield batch


def slow_stream(options, *, batch_size, seed, rank, world):
    return SlowStream(batch_size, seed, rank, world, **options)
