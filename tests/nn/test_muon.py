import numpy as np
import pytest
import torch

from daybreak.nn.muon import Muon, orthogonal


def test_an_update_is_near_the_nearest_orthogonal_matrix():
    generator = torch.Generator().manual_seed(0)
    for rows, columns in ((24, 24), (24, 60), (60, 24)):
        matrix = torch.randn(rows, columns, generator=generator)
        u, _, v = np.linalg.svd(matrix.numpy(), full_matrices=False)
        nearest = u @ v
        found = orthogonal(matrix).numpy() / max(rows, columns) ** 0.5
        singular = np.linalg.svd(found, compute_uv=False)
        assert 0.5 < singular.min() <= singular.max() < 1.3
        cosine = (found * nearest).sum() / np.linalg.norm(found) / np.linalg.norm(nearest)
        assert cosine > 0.95


def test_queries_keys_and_values_in_one_weight_are_three():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(36, 12, generator=generator)
    alone = [orthogonal(part) for part in matrix.chunk(3)]
    assert torch.allclose(orthogonal(matrix), torch.cat(alone), atol=1e-5)


def test_it_learns_a_linear_map_and_its_state_resumes_exactly():
    def start():
        torch.manual_seed(0)
        net = torch.nn.Linear(8, 8, bias=False)
        return net, Muon(net.parameters(), lr=0.02)

    target = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)))[0]

    def steps(net, optimiser, count):
        for _ in range(count):
            optimiser.zero_grad()
            loss = ((net.weight - target) ** 2).mean()
            loss.backward()
            optimiser.step()
        return float(loss.detach())

    net, optimiser = start()
    first = steps(net, optimiser, 1)
    assert steps(net, optimiser, 199) < first / 10
    again, other = start()
    steps(again, other, 100)
    held = {name: value.clone() for name, value in again.state_dict().items()}, other.state_dict()
    resumed, third = start()
    resumed.load_state_dict(held[0])
    third.load_state_dict(held[1])
    steps(resumed, third, 100)
    assert torch.equal(resumed.weight, net.weight)


def test_a_weight_that_is_no_matrix_is_refused():
    with pytest.raises(ValueError, match="matrices"):
        Muon([torch.nn.Parameter(torch.zeros(3))])
