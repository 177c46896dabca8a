"""Torch's operations of a small step run on one thread; the kernels keep theirs; everything is as it was afterwards."""

import pytest
import torch

from viewtime.recon.render.threads import SMALL, kernel_threads, one_thread


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_small_steps_leave_the_threads_to_the_kernels(three_threads):
    with one_thread(SMALL):
        assert (torch.get_num_threads(), kernel_threads()) == (1, 3)
        with one_thread(SMALL):
            assert (torch.get_num_threads(), kernel_threads()) == (1, 3)
    with one_thread(SMALL + 1):
        assert (torch.get_num_threads(), kernel_threads()) == (3, 3)
    with pytest.raises(RuntimeError), one_thread(1):
        raise RuntimeError
    assert (torch.get_num_threads(), kernel_threads()) == (3, 3)
