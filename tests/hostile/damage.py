"""Damage to files, at random but the same for a seed: bytes flipped, cut and grown; JSON with values of other kinds."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

STRANGE: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, -(2**31), 2**63, 10**30, 0.5, -0.0, 1e308, -1e308, "",
    "x", "0", "../../etc", "\0",
    "é" * 300, [], {}, [[]], [None], {"x": 1}, [1] * 50, [[1, 2], [3]], "__import__('os')", "nan", ".inf",
]  # fmt: skip


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """One to four changes to a file's bytes."""
    values = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(max(1, len(values)))
        kind = rng.choice(("flip", "byte", "cut", "drop", "repeat", "zero", "number"))
        if not values:
            return bytes(rng.randbytes(8))
        if kind == "flip":
            values[place] ^= 1 << rng.randrange(8)
        elif kind == "byte":
            values[place] = rng.randrange(256)
        elif kind == "cut":
            del values[place:]
        elif kind == "drop":
            del values[place : place + rng.randint(1, 40)]
        elif kind == "repeat":
            values[place:place] = values[place : place + rng.randint(1, 40)]
        elif kind == "zero":
            values[place : place + 8] = bytes(len(values[place : place + 8]))
        else:
            number = rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 65535))
            values[place : place + 4] = number.to_bytes(4, rng.choice(("little", "big")))
    return bytes(values)


def damaged_value(value: Any, rng: random.Random) -> Any:
    """Plain values with one to three of them replaced, removed or doubled, wherever they lie."""
    value = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(value))
        if not places:
            return copy.deepcopy(rng.choice(STRANGE))
        owner, key = rng.choice(places)
        kind = rng.random()
        if kind < 0.15:
            del owner[key]
        elif kind < 0.25 and isinstance(owner, list):
            owner.append(copy.deepcopy(owner[key]))
        elif kind < 0.3:
            owner[key] = [owner[key]]
        else:
            owner[key] = copy.deepcopy(rng.choice(STRANGE))
    return value


def _places(value: Any):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from _places(item)


def damaged_json(text: bytes, rng: random.Random) -> bytes:
    """Mostly JSON still, with strange values; sometimes damaged as text, or nested without end."""
    kind = rng.random()
    if kind < 0.2:
        return damaged_bytes(text, rng)
    if kind < 0.22:
        return b"[" * 100_000
    return json.dumps(damaged_value(json.loads(text), rng)).encode()
