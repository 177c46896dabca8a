"""Between which numbers options must lie."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from typing import Any

from viewtime.errors import UserError

MANY = math.inf


def check_limits(config: Any, limits: Mapping[str, tuple[float, float]]) -> None:
    """Refuse numbers with which a command cannot do what it says.

    Args:
        config: a dataclass of options. limits: lowest and highest (`MANY`: none) by name, with dots into its parts.

    Raises:
        UserError: a number outside its limits, or NaN; which, and what they are.
    """
    for name, (low, high) in limits.items():
        value = reduce(getattr, name.split("."), config)
        if not low <= value <= high:
            words = f"at least {low:g}" if high == MANY else f"{low:g} to {high:g}"
            raise UserError(f"--{name.replace('_', '-')} {value}; must be {words}")
