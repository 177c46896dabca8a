"""The device asked for: taken where it is there, refused in one line where it is not."""

from __future__ import annotations

import pytest
import torch

from viewtime.device import choose_device
from viewtime.errors import UserError


@pytest.mark.parametrize("there", [True, False])
def test_devices(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: there)
    assert choose_device(None).type == ("cuda" if there else "cpu")
    assert choose_device("cpu").type == "cpu"
    for name, words in (("cuda:0", "no CUDA device"), ("mps", "no Apple GPU")):
        if there:
            assert choose_device(name) == torch.device(name)
        else:
            with pytest.raises(UserError, match=f"--device {name}: this machine has {words}"):
                choose_device(name)
    with pytest.raises(UserError, match="--device gpu: "):
        choose_device("gpu")
