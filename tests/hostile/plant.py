"""Plant faults in a package, one at a time, and count which the tests see: `python -m tests.hostile.plant PACKAGE
[COUNT] [SEED]`, or every fault of given lines: `python -m tests.hostile.plant FILE:LINE...`.

Faults are drawn with a fixed seed: a comparison turned, an operator swapped, a number moved, a condition negated, an
argument's default changed. Each runs in a forked child in which that one file is compiled with the fault, against the
test files that name its module, then those that name its neighbours, for SECONDS of processor time. Tests that start
processes of their own run the file as it is. Prints one line a fault and the share that was caught.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.machinery
import io
import linecache
import os
import random
import re
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 40.0  # of processor time for the tests of one fault; the tests behind them are skipped
NEAREST = 6  # test files that run first
PATIENCE = 600  # seconds by the clock for one test
ENDLESS = 4  # times SECONDS of processor time: a loop without an end, counted by itself
PRELOADED = (
    "torch", "torch._dynamo", "torch.testing", "numpy", "scipy.ndimage", "PIL.Image", "av", "pytest", "einops",
    "trimesh", "safetensors.torch", "accelerate", "hypothesis", "matplotlib.pyplot", "msgspec", "onnxruntime",
    "skimage.metrics", "skimage.measure", "tyro", "warp", "yaml", "rich.progress",
)  # fmt: skip
SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Where faults can be planted, and of which kind; types, texts and messages of errors are no such places."""
    for node in _code(tree):
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in SWAPS:
            yield node, "compare"
        elif isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and type(node.op) in SWAPS:
            text = isinstance(node, ast.BinOp) and any(
                isinstance(side, ast.JoinedStr) for side in (node.left, node.right)
            )
            if not text:
                yield node, "operator"
        elif isinstance(node, ast.If | ast.IfExp):
            yield node, "negate"
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
            yield node, "number"


def _code(node: ast.AST) -> Iterator[ast.AST]:
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
                continue
            if isinstance(child, ast.AST):
                yield child
                yield from _code(child)


def plant(node: ast.AST, kind: str) -> str:
    """Change a node in place; what was done."""
    if kind == "compare":
        assert isinstance(node, ast.Compare)
        node.ops[0] = SWAPS[type(node.ops[0])]()
    elif kind == "operator":
        node.op = SWAPS[type(node.op)]()  # type: ignore[attr-defined]
    elif kind == "negate":
        node.test = ast.UnaryOp(ast.Not(), node.test)  # type: ignore[attr-defined]
    else:
        assert isinstance(node, ast.Constant)
        node.value = (
            not node.value
            if isinstance(node.value, bool)
            else node.value + 1
            if node.value in (0, 1)
            else node.value * 2
        )
    return ast.unparse(node)[:90]


def faults(package: str, count: int, seed: int) -> list[tuple[Path, int]]:
    """(file, number of the place in it), drawn evenly over the places of the package."""
    files = [path for path in sorted((ROOT / package).rglob("*.py")) if "__pycache__" not in path.parts]
    every = [(path, number) for path in files for number, _ in enumerate(places(ast.parse(path.read_text())))]
    return random.Random(f"{package} {seed}").sample(every, count)


def at_line(file: str, line: str) -> list[tuple[Path, int]]:
    """Every place of one line."""
    path = ROOT / file
    every = enumerate(places(ast.parse(path.read_text())))
    return [(path, number) for number, (node, _) in every if node.lineno == int(line)]  # type: ignore[attr-defined]


def tests_of(path: Path) -> list[str]:
    """Files of tests for a source file: named after it, then those that import it, then its folder's and package's."""
    place = path.relative_to(ROOT)
    module = "viewtime." + ".".join(place.with_suffix("").parts).removeprefix("viewtime.")
    mirrors = [place.parts[0] if place.parts[0] != "viewtime" else "core", *place.parts[1:-1]]
    folder = module.rpartition(".")[0]
    ranked = []
    for test in sorted((ROOT / "tests").rglob("test_*.py")):
        text, here = test.read_text(), test.relative_to(ROOT / "tests").parts[:-1]
        named = test.stem.removeprefix("test_") in (path.stem, f"{path.parent.name}_{path.stem}")
        imported = re.search(rf"{re.escape(module)}\b|from {re.escape(folder)} import .*\b{path.stem}\b", text)
        shared = len([1 for mine, theirs in zip(mirrors, here) if mine == theirs])
        rank = 4 * bool(named and shared) + 2 * bool(imported) + shared / 8
        if rank and "hostile" not in here:
            ranked.append((-rank, len(text), str(test.relative_to(ROOT))))
    return [name for _, _, name in sorted(ranked)]


def run(path: Path, number: int) -> tuple[str, str]:
    """("caught" | "survived" | "endless", what was planted where)."""
    tree = ast.parse(path.read_text())
    node, kind = list(places(tree))[number]
    before, line = ast.unparse(node)[:90], node.lineno  # type: ignore[attr-defined]
    after = plant(node, kind)
    what = f"{path.relative_to(ROOT)}:{line}: {before}  ->  {after}".replace("\n", " ")
    text = ast.unparse(ast.fix_missing_locations(tree))
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (int(ENDLESS * SECONDS), resource.RLIM_INFINITY))
        _run_tests(path, text, tests_of(path))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    verdict = "endless" if code == -signal.SIGXCPU else "caught" if code else "survived"
    return verdict, what


def _run_tests(path: Path, text: str, tests: list[str]) -> None:
    code = compile(text, str(path), "exec")
    linecache.cache[str(path)] = (len(text), None, text.splitlines(keepends=True), str(path))  # Warp compiles from it
    real = importlib.machinery.SourceFileLoader.get_code

    def get_code(self: importlib.machinery.SourceFileLoader, name: str) -> object:
        return code if Path(self.path).resolve() == path else real(self, name)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]
    import pytest

    class OnTime:
        def pytest_runtest_setup(self) -> None:
            if time.process_time() > SECONDS:
                pytest.skip("no time left")

    options, result = ["-x", "-q", "-p", "no:cacheprovider", f"--timeout={PATIENCE}"], 0
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for some in (tests[:NEAREST], tests[NEAREST:]):  # the many others are not even collected where those see it
            if some and not result and time.process_time() < SECONDS:
                result = int(pytest.main([*options, *some], plugins=[OnTime()]))
    os._exit(result)


def main(arguments: list[str]) -> int:
    """See the module."""
    for name in PRELOADED:
        __import__(name)
    import torch

    torch.set_num_threads(1)
    if ":" in arguments[0]:
        chosen = [place for argument in arguments for place in at_line(*argument.split(":"))]
    else:
        count, seed = (int(value) for value in (*arguments[1:3], *("20", "0")[len(arguments[1:3]) :]))
        chosen = faults(arguments[0], count, seed)
    verdicts = Counter()
    for path, number in chosen:
        verdict, what = run(path, number)
        verdicts[verdict] += 1
        print(f"{verdict:9s} {what}", flush=True)
    seen = verdicts["caught"] + verdicts["endless"]
    print(f"{arguments[0]}: {dict(verdicts)}, {seen / len(chosen):.0%} seen")
    return 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1:]))
