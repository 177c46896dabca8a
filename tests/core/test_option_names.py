"""Messages name options as the command line takes them: what they advise must not be an unknown key."""

from __future__ import annotations

import ast
import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path

from viewtime.cli import COMMANDS, config_class
from viewtime.configs.schema.data import DataConfig
from viewtime.configs.schema.many import ManyReconstructions, ManySamples
from viewtime.configs.schema.train import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("app", "configs", "data", "model", "recon", "sample", "train", "tools/render_objaverse", "viewtime")
OF_OTHERS = {"help", "version", "debug", "format", "shm-size", "head", "section.key"}  # Docker's and Ray's, too
FREE = re.compile(r"(data\.options|validation\.data|model\.config)\.|(guidances|stages)\.[A-Z]+\.")


def options(schema: type, prefix: str = "") -> Iterator[str]:
    """Names of a schema's options and sections, with hyphens; those in dictionaries and lists without a key."""
    hints = typing.get_type_hints(schema)
    for item in dataclasses.fields(schema):
        name, kinds = prefix + item.name.replace("_", "-"), [hints[item.name]]
        yield name
        while kinds:
            kind = kinds.pop()
            kinds += typing.get_args(kind)
            if isinstance(kind, type) and dataclasses.is_dataclass(kind):
                yield from options(kind, f"{name}.")


TRAIN = {*options(TrainConfig), *options(DataConfig, "data.options.")}
ALL = TRAIN | {name for command in COMMANDS.values() for name in options(config_class(command))}
ALL |= {name for schema in (ManySamples, ManyReconstructions) for name in options(schema)}
SECTIONS = {name for name in options(TrainConfig) if "." not in name}


def told(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each string of a file that is no docstring, with {} where an f-string has a value."""
    tree = ast.parse(path.read_text())
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    inside |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value


def taken(name: str) -> bool:
    """Whether a command takes it: as it is, as a flag's negation, or below a free-form key."""
    name = re.sub(r"(^|\.)no-", r"\1", name.replace("_", "-"))
    return name in ALL or bool(FREE.match(name))


def python_files() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def test_what_is_written_as_an_option_is_one():
    """A script's own options are those that it adds to its parser."""
    wrong = []
    for path in python_files():
        own = set(re.findall(r"add_argument\(\s*\"--([\w-]+)", path.read_text()))
        for line, text in told(path):
            names = re.findall(r"(?<![\w-])--([a-z][\w.-]*\w)(?![\w{-])", text)
            wrong += [
                f"{path.relative_to(ROOT)}:{line}: --{name}"
                for name in names
                if not taken(name) and name not in own | OF_OTHERS
            ]
    assert not wrong


def test_training_options_are_named_whole():
    """A dotted name that begins with a section of the training config, or is the end of an option's name."""
    ends = {end for name in TRAIN for end in re.findall(r"(?<=\.)(?=([\w-]+\.[\w.-]+))", name)}
    wrong = []
    for folder in ("train", "data", "configs/schema"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for line, text in told(path):
                names = re.findall(r"(?<![\w./-])([a-z]\w*(?:[.][a-z]\w*)+)(?![\w(/:.])", text if " " in text else "")
                wrong += [
                    f"{path.relative_to(ROOT)}:{line}: {name}"
                    for name in names
                    if not taken(name) and (name.partition(".")[0] in SECTIONS or name.replace("_", "-") in ends)
                ]
    assert not wrong
