"""Where a kernel cannot be built, slower ones take its place, and one line says what would help."""

import logging
import os
from pathlib import Path

import pytest

from viewtime.recon.render import compiled


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Nothing built yet, in a cache of its own."""
    monkeypatch.setenv("VIEWTIME_CACHE", str(tmp_path / "cache"))
    compiled.load_library.cache_clear()
    yield tmp_path
    compiled.load_library.cache_clear()


@pytest.mark.parametrize("compiler", ["broken", "missing"])
def test_a_compiler_that_fails_or_is_missing(fresh: Path, monkeypatch, caplog, compiler):
    (fresh / "broken").write_text("#!/bin/sh\nexit 1\n")
    (fresh / "broken").chmod(0o755)
    monkeypatch.setenv("CXX", str(fresh / compiler))
    with caplog.at_level(logging.WARNING):
        assert compiled.load_library() is None
    assert "no compiled splat_cpu" in caplog.text
    assert caplog.text.strip().endswith("install g++ and ninja")
    assert not list((fresh / "cache" / "kernels").iterdir())


def test_a_cache_that_cannot_be_written(fresh: Path, monkeypatch, caplog):
    (fresh / "file").write_text("")
    monkeypatch.setenv("VIEWTIME_CACHE", os.fspath(fresh / "file"))
    with caplog.at_level(logging.WARNING):
        assert compiled.load_library() is None
    assert caplog.text.strip().endswith("name a folder that can be written in VIEWTIME_CACHE")
