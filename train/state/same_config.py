"""Whether a checkpoint is of the run that goes on from it: the two configs, compared value by value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from viewtime.configs.earlier import with_defaults
from viewtime.configs.schema.data import DataConfig
from viewtime.configs.schema.train import TrainConfig
from viewtime.errors import UserError
from viewtime.json_files import finite_json
from viewtime.model.registry import MODELS, config_schema

# Sections and keys that do not change what is computed.
FREE_KEYS = (
    "config", "output", "dry_run", "allow_config_change", "checkpoint", "tracking", "validation", "device",
    "wait_minutes", "context_parallel",
)  # fmt: skip
ABSENT = "absent"


def check_config(old: dict[str, Any], new: dict[str, Any], path: Path) -> None:
    """Compare a checkpoint's config, which an earlier version may have written, with that of this run.

    A field that one of them lacks counts as its default, also of a model of the registry and of the stream "grids".

    Raises:
        UserError: they differ in keys that change the result; with all differences.
    """
    kept_old, kept_new = (flat(finite_json(_completed(config))) for config in (old, new))
    changes = [
        f"{key}: {kept_old.get(key, ABSENT)} -> {kept_new.get(key, ABSENT)}"
        for key in sorted(kept_old.keys() | kept_new.keys())
        if kept_old.get(key, ABSENT) != kept_new.get(key, ABSENT)
    ]
    if changes:
        raise UserError(
            f"the config differs from that of {path}: {'; '.join(changes)}; set it back, choose another --output, "
            "or resume with --allow-config-change"
        )


def flat(config: dict | list, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists as "a.b.0.c" -> value."""
    items = config.items() if isinstance(config, dict) else enumerate(config)
    result: dict[str, Any] = {}
    for key, value in items:
        if isinstance(value, (dict, list)) and value:
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def _completed(config: dict[str, Any]) -> dict[str, Any]:
    """What changes the result, with the defaults of what is not said."""
    full = with_defaults(TrainConfig, config)
    model, data = full.get("model", {}), full.get("data", {})
    if model.get("name") in MODELS:
        full["model"] = {**model, "config": with_defaults(config_schema(model["name"]), model["config"])}
    if data.get("factory") == "grids":
        full["data"] = {**data, "options": with_defaults(DataConfig, data["options"])}
    return {key: value for key, value in full.items() if key not in FREE_KEYS}
