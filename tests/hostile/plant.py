"""Plant faults in a package, one at a time, and count which the tests see: `python -m tests.hostile.plant PACKAGE
[COUNT] [SEED]`.

Faults are drawn with a fixed seed: a comparison turned, an operator swapped, a number moved, a condition negated, an
argument's default changed. Each runs in a forked child in which that one file is compiled with the fault; tests that
start processes of their own run the file as it is. Prints one line a fault and the share that was caught.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.machinery
import io
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = {
    "viewtime": ["tests/core", "tests/model/test_weights.py"],
    "model": ["tests/model/test_denoiser.py", "tests/model/test_frustum.py", "tests/model/test_lift.py",
              "tests/model/test_unet.py", "tests/model/test_vae.py", "tests/model/test_conditioner.py",
              "tests/model/test_golden_parts.py", "tests/model/test_formats.py", "tests/four_real"],
    "sample": ["tests/sample"],
    "data": ["tests/data"],
    "recon": ["tests/recon"],
    "train": ["tests/train"],
}  # fmt: skip
PATIENCE = 240  # seconds of tests for one fault; longer is counted by itself
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


def run(path: Path, number: int, tests: list[str]) -> tuple[str, str]:
    """("caught" | "survived" | "endless", what was planted where)."""
    tree = ast.parse(path.read_text())
    node, kind = list(places(tree))[number]
    before, line = ast.unparse(node)[:90], node.lineno  # type: ignore[attr-defined]
    after = plant(node, kind)
    code = compile(ast.fix_missing_locations(tree), str(path), "exec")
    child = os.fork()
    if child == 0:
        os.setsid()
        _run_tests(path, code, tests)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            verdict = "survived" if os.waitstatus_to_exitcode(status) == 0 else "caught"
            return verdict, f"{path.relative_to(ROOT)}:{line}: {before}  ->  {after}"
        time.sleep(0.2)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "endless", f"{path.relative_to(ROOT)}:{line}: {before}  ->  {after}"


def _run_tests(path: Path, code: object, tests: list[str]) -> None:
    real = importlib.machinery.SourceFileLoader.get_code

    def get_code(self: importlib.machinery.SourceFileLoader, name: str) -> object:
        return code if Path(self.path).resolve() == path else real(self, name)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]
    import pytest

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        result = pytest.main(["-x", "-q", "-p", "no:cacheprovider", f"--timeout={PATIENCE}", *tests])
    os._exit(int(result))


def nearest_first(path: Path, package: str) -> list[str]:
    """The package's tests, those that mirror the file's folder first, so that most faults are caught early."""
    folder = path.parent.relative_to(ROOT).as_posix()
    mirror = f"tests/{folder}"
    own = [mirror] if folder != package and (ROOT / mirror).is_dir() else []
    return [*own, *TESTS[package]]


def main(arguments: list[str]) -> int:
    """See the module."""
    package = arguments[0]
    count, seed = (int(value) for value in (*arguments[1:3], *("20", "0")[len(arguments[1:3]) :]))
    for name in (
        "torch",
        "numpy",
        "scipy.ndimage",
        "PIL.Image",
        "av",
        "pytest",
        "einops",
        "safetensors.torch",
        "trimesh",
    ):
        __import__(name)
    import torch

    torch.set_num_threads(1)
    verdicts: dict[str, int] = {}
    for path, number in faults(package, count, seed):
        verdict, what = run(path, number, nearest_first(path, package))
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
        print(f"{verdict:8s} {what}", flush=True)
    print(f"{package}: {verdicts}, {1 - verdicts.get('survived', 0) / count:.0%} seen")
    return 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1:]))
