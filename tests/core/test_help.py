"""`--help` of every command: no option goes unexplained, none is explained under another's name."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import typing
from collections.abc import Iterator

import pytest

from viewtime.cli import COMMANDS, config_class
from viewtime.configs.overrides import field_help
from viewtime.configs.schema.data import DataConfig
from viewtime.configs.schema.many import ManyReconstructions, ManySamples
from viewtime.configs.schema.train import TrainConfig

OTHERS = [TrainConfig, DataConfig, ManySamples, ManyReconstructions]
SCHEMAS = OTHERS + [config_class(COMMANDS[name]) for name in COMMANDS if name != "train"]


def sections(schema: type) -> Iterator[tuple[type, list[str]]]:
    """The schema and those inside it, each with the names of its own options."""
    hints, options = typing.get_type_hints(schema), []
    for item in dataclasses.fields(schema):
        kinds = (hints[item.name], *typing.get_args(hints[item.name]))
        inner = [kind for kind in kinds if dataclasses.is_dataclass(kind)]
        for kind in inner:
            yield from sections(kind)
        options += [] if inner else [item.name]
    yield schema, options


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.__name__)
def test_every_option_has_a_text_of_its_own(schema: type) -> None:
    for section, options in sections(schema):
        meanings = field_help(section)
        assert not set(options) - set(meanings), f"{section.__name__}: options without a text"
        fields = "|".join(item.name for item in dataclasses.fields(section))
        for option, text in meanings.items():
            assert not re.search(rf"\. ({fields}): ", text), f"{section.__name__}.{option} explains another option too"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--help"], "choose animated assets worth rendering"),
        (["train", "--help"], "weight of 1 − soft IoU of the alpha channel"),
        (["train", "--help"], "--data.options.on_the_fly.vary_poses float (default 0.0)"),
        (["render", "--help"], "Instants of the clip, each rendered from every camera."),
        (["sample", "--help"], "largest scale."),
        (["sample", "--videos", "--help"], "folder of the run folders, one per video"),
    ],
)
def test_help_shows_them_without_waiting_for_torch(words: list[str], text: str) -> None:
    code = "import sys\nfrom viewtime.cli import main\ntry: main(sys.argv[1:])\nfinally: print('torch' in sys.modules)"
    command, environment = [sys.executable, "-c", code, *words], {**os.environ, "COLUMNS": "300"}
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()
    assert text in " ".join(shown)
    assert shown[-1] == "False"
