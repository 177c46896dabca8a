"""A Ray cluster for the length of a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from viewtime.errors import UserError, require


@contextmanager
def ray_cluster(address: str) -> Iterator[Any]:
    """The `ray` module, connected; left again at the end.

    Args:
        address: of a cluster whose nodes see the same files as this machine, or "local" for one made here for this run.

    Raises:
        UserError: Ray is not installed or there is no cluster at the address.
    """
    ray = require("ray", "render")
    try:
        ray.init(
            address=None if address == "local" else address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except Exception as error:  # Ray has no narrower class for a cluster whose processes do not come up
        raise UserError(
            f"no Ray cluster at {address!r}: {str(error)[:150]}; start one with `ray start --head` and give its "
            "address, or go without --ray"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
