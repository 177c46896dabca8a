"""The pretended device refuses what CUDA refuses, allows what it allows, and computes."""

import pytest
import torch
from strict_device import CUDA, OnDevice, StrictDevice


def test_numbers_gradients_and_an_optimiser_step_are_those_of_the_cpu():
    start, index = torch.rand(5, 3), torch.tensor([0, 3])
    found = []
    for device in ("cpu", "cuda"):
        with StrictDevice():
            parameter = torch.nn.Parameter(start.clone().to(device))
            optimizer = torch.optim.Adam([parameter], lr=0.1, fused=True)
            for _ in range(2):
                (parameter[index].exp().sum() + torch.ones(3, device=device) @ parameter[0]).backward()
                optimizer.step()
                optimizer.zero_grad()
            assert parameter.device.type == device
            parameter.data = parameter.data[index].clone()
            assert parameter.shape == (2, 3)
            found.append(parameter.detach().cpu())
    torch.testing.assert_close(*found, rtol=0, atol=0)
    assert float((found[0] - start[index]).abs().min()) > 0.05


@pytest.mark.parametrize(
    "planted",
    [
        lambda device, host: device + host,
        lambda device, host: torch.cat([device, host]),
        lambda device, host: host[device.long()],
        lambda device, host: device.index_select(0, host.long()),
        lambda device, host: torch.where(host > 0, device, device),
        lambda device, host: device.numpy(),
        lambda device, host: torch.rand(3, device="cuda", generator=torch.Generator()),
    ],
)
def test_what_cuda_refuses_is_refused(planted):
    with StrictDevice(), pytest.raises((RuntimeError, TypeError), match=r"device"):
        planted(torch.ones(2).to("cuda"), torch.zeros(2))


def test_what_cuda_allows_is_allowed_and_waits_are_counted():
    with StrictDevice() as mode:
        values = torch.arange(4.0, device="cuda")
        assert not mode.waits
        assert isinstance(values[torch.tensor([2])] * torch.tensor(2.0), OnDevice)
        values[torch.tensor([1])] = 7.0
        assert values.device == CUDA
        assert float(values[1]) == 7.0
        assert values.tolist() == [0, 7, 2, 3]
        assert len((values > 1).nonzero()) == 3
    assert mode.waits == {"_local_scalar_dense": 1, "to the host": 1, "nonzero": 1}
