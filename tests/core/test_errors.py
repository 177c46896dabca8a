"""What a machine's failure looks like to the user: one line, however a library words it."""

import errno
import gc
import multiprocessing.synchronize
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from viewtime import cli
from viewtime.configs.schema.data import DataConfig
from viewtime.data.loader import GridLoader
from viewtime.data.sources import Mixture
from viewtime.errors import UserError, first_line, machine_failure, number_of
from viewtime.model.weight_names import find_weights
from viewtime.recon.distill.published.open import find as find_guidance


def caught(raising) -> Exception:
    try:
        raising()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/out/view_000.mp4")


def full_in_words():
    raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")


def full_underneath():
    try:
        full()
    except OSError as error:
        raise ValueError("cannot write the header") from error


def no_memory():
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")


def worker_without_shared_memory():
    raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. ... out of shared memory")


def not_allowed():
    raise PermissionError(errno.EACCES, "Permission denied", "/out")


@pytest.mark.parametrize(
    ("raising", "words"),
    [
        (full, "the disk is full at /out/view_000.mp4; make room"),
        (full_in_words, "the disk is full; make room"),
        (full_underneath, "the disk is full at /out/view_000.mp4"),
        (no_memory, "out of memory (DefaultCPUAllocator"),
        (worker_without_shared_memory, "no shared memory"),
        (not_allowed, "/out: Permission denied; check the path"),
    ],
)
def test_a_machines_failure_is_told_in_one_line(raising, words):
    told = str(machine_failure(caught(raising)))
    assert words in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("no header\nat line 3"), "no header"),
        (ValueError("\n  no header  \n"), "no header"),
        (EOFError(), "EOFError"),
        (ValueError(" \n"), "ValueError"),
    ],
)
def test_what_a_library_says_becomes_one_line_also_where_it_says_nothing(error, words):
    assert first_line(error) == words


def test_a_semaphore_that_cannot_be_made_is_shared_memory_whatever_the_number(monkeypatch):
    """A read-only /dev/shm: the system says "read-only file system" of no file."""

    class NoSemaphore:
        SEM_VALUE_MAX = 1

        def __new__(cls, *_):
            raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(multiprocessing.synchronize._multiprocessing, "SemLock", NoSemaphore)
    told = str(machine_failure(caught(multiprocessing.Lock)))
    assert "no shared memory ([Errno 30] Read-only file system): run with one worker" in told


def test_faults_of_the_program_stay_what_they_are():
    def fault():
        raise KeyError("x")

    for error in (
        caught(fault),
        OSError("a library's own"),
        TypeError("x"),
        ConnectionResetError(errno.ECONNRESET, "x"),
    ):
        assert machine_failure(error) is None


def test_only_the_systems_numbers_are_numbers():
    assert number_of(OSError(errno.EROFS, "x")) == errno.EROFS
    for number in (1094995529, 0, -1, "28", None):  # PyAV's are its own
        assert number_of(OSError(number, "x")) == 0


@pytest.mark.parametrize(("raising", "code"), [(full, 1), (KeyboardInterrupt, 130)])
def test_commands_end_with_a_line_and_a_code(raising, code, monkeypatch, capsys, tmp_path):
    def run(config):
        raise raising() if isinstance(raising, type) else caught(raising)

    monkeypatch.setattr("viewtime.info.run", run)
    assert cli.main(["info"]) == code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch):
    def run(config):
        raise KeyError("x")

    monkeypatch.setattr("viewtime.info.run", run)
    with pytest.raises(KeyError):
        cli.main(["info"])


def test_a_loader_without_shared_memory_leaves_nothing_half_made(monkeypatch):
    class NoSemaphore:
        SEM_VALUE_MAX = 1

        def __new__(cls, *_):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    complaints = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    monkeypatch.setattr(multiprocessing.synchronize._multiprocessing, "SemLock", NoSemaphore)
    loader = GridLoader(Mixture([SimpleNamespace(name="none")], [1.0]), DataConfig(workers=2, views=1, frames=1))
    with pytest.raises(OSError, match="Read-only") as error:
        next(iter(loader))
    assert "--data.options.workers 0" in str(machine_failure(error.value))
    del error
    gc.collect()
    assert not complaints


def test_a_user_without_a_name_or_a_home_gets_both(tmp_path):
    """What `docker run --user 54321` gives: a number that no account has."""
    code = """
import os, pwd
def nobody(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")
pwd.getpwuid = nobody
import viewtime
import getpass
from pathlib import Path
from viewtime.recon.render.compiled import cache_folder
print(getpass.getuser(), Path.home(), cache_folder())
"""
    names = ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME", "XDG_CACHE_HOME", "VIEWTIME_CACHE")
    bare = {key: value for key, value in os.environ.items() if key not in names} | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.split() == [f"user{os.getuid()}", str(tmp_path), str(tmp_path / ".cache/viewtime/kernels")]
    named = subprocess.run([sys.executable, "-c", code], env=bare | {"LOGNAME": "ada"}, capture_output=True, text=True)
    assert named.stdout.split()[0] == "ada"


def test_a_home_of_nobody_is_a_path_like_any_other():
    for find in (find_weights, lambda path: find_guidance("sd-2.1-base", path)):
        with pytest.raises(UserError, match="~nobody-of-that-name/w"):
            find("~nobody-of-that-name/w.safetensors")
