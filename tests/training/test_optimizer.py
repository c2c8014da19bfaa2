"""MuonAdamW against singular values and PyTorch's AdamW."""

import pytest
import torch
from torch import nn

from engine.errors import ConfigError
from engine.model.layers import channels_last
from engine.training.optimizer import Float32Muon, MuonAdamW, orthogonal


def network():
    torch.manual_seed(5)
    layers = nn.Conv2d(7, 13, 3), nn.BatchNorm2d(13), nn.Conv2d(13, 5, 1), nn.Linear(5, 3)
    return channels_last(nn.Sequential(*layers))


def fill_gradients(module, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(
            memory_format=torch.channels_last if parameter.ndim == 4 else torch.contiguous_format
        )


def values(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


@pytest.mark.parametrize("name", ["0.weight", "2.weight"])
def test_convolutions_step_by_the_orthogonal_factor_of_their_gradient(name):
    module = network()
    before = values(module)
    fill_gradients(module, 1)
    MuonAdamW(module, 1e-2, 0.0).step(1e-2)
    step = (dict(module.named_parameters())[name] - before[name]).detach().flatten(1)  # [O, I h w]
    left, _, right = torch.linalg.svd(dict(module.named_parameters())[name].grad.flatten(1), full_matrices=False)
    # In the gradient's own axes the step is the same length everywhere, to what five Newton-Schulz iterations in
    # bfloat16 leave, and straight.
    turned = left.T @ step @ right.T / (-1e-2 * 0.2 * max(step.shape) ** 0.5)
    assert turned.diagonal().min() > 0.6
    assert turned.diagonal().max() < 1.3
    assert (turned - turned.diagonal().diag()).abs().max() < 0.05


@pytest.mark.parametrize("muon", [True, False])
def test_everything_else_steps_as_in_adamw(muon):
    mine, theirs = network(), network()
    optimizer = MuonAdamW(mine, 1e-2, 0.3, muon=muon)
    rest = {name: p for name, p in theirs.named_parameters() if p.ndim != 4 or not muon}
    matrices = [p for p in rest.values() if p.ndim > 1]
    vectors = [p for p in rest.values() if p.ndim == 1]
    oracle = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}], lr=1e-2
    )
    for seed in range(3):
        fill_gradients(mine, seed)
        fill_gradients(theirs, seed)
        optimizer.step(1e-2)
        oracle.step()
    for name, expected in rest.items():
        torch.testing.assert_close(dict(mine.named_parameters())[name], expected, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (16, 5), (5, 16), (1, 9)])
def test_singular_values_become_about_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = left.T @ orthogonal(matrix) @ right.T
    assert turned.diagonal().min() > 0.6
    assert turned.diagonal().max() < 1.3
    assert (turned - turned.diagonal().diag()).abs().max() < 1e-9


def test_a_matrix_of_zeros_stays_one():
    assert not orthogonal(torch.zeros(3, 4)).any()


def test_float32_steps_are_those_of_pytorch_in_bfloat16():
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(24, 63, generator=generator)
    ours, theirs = start.clone(), start.clone()
    settings = {"lr": 1e-2, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    optimizers = (ours, Float32Muon([ours], **settings)), (theirs, torch.optim.Muon([theirs], **settings))
    for _ in range(3):
        gradient = torch.randn(24, 63, generator=generator)
        for matrix, optimizer in optimizers:
            matrix.grad = gradient
            optimizer.step()
    # Three significant digits of bfloat16 in each of the steps, which are most of the difference.
    assert (ours - theirs).norm() < 0.02 * (theirs - start).norm()
    first, second = (x.state_dict()["state"][0]["momentum_buffer"] for _, x in optimizers)
    torch.testing.assert_close(first, second)


def test_weight_decay_shrinks_convolutions():
    plain, decayed = network(), network()
    before = values(plain)["0.weight"]
    for module, decay in (plain, 0.0), (decayed, 0.5):
        fill_gradients(module, 1)
        MuonAdamW(module, 1e-2, decay).step(1e-2)
    torch.testing.assert_close(values(plain)["0.weight"] - values(decayed)["0.weight"], 0.5 * 1e-2 * before)


def test_a_state_goes_on_as_if_nothing_had_happened():
    whole, halves = network(), network()
    optimizer = MuonAdamW(whole, 1e-2, 0.1)
    first = MuonAdamW(halves, 1e-2, 0.1)
    for seed in range(4):
        fill_gradients(whole, seed)
        optimizer.step(1e-2)
    for seed in range(4):
        if seed == 2:
            state = first.state_dict()
            first = MuonAdamW(halves, 1e-2, 0.1)
            first.load_state_dict(state)
        fill_gradients(halves, seed)
        first.step(1e-2)
    for a, b in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("muon", [True, False])
def test_the_state_of_another_optimizer_is_refused(muon):
    module = network()
    other = MuonAdamW(module, 1e-2, 0.1, muon=not muon).state_dict()
    plain = torch.optim.AdamW(module.parameters()).state_dict()
    for state in (other, plain):
        with pytest.raises(ConfigError, match="another optimiser"):
            MuonAdamW(module, 1e-2, 0.1, muon=muon).load_state_dict(state)


def test_gradients_are_forgotten_and_parameters_without_one_stay():
    module = network()
    optimizer = MuonAdamW(module, 1e-2, 0.1)
    before = values(module)
    fill_gradients(module, 1)
    optimizer.zero_grad()
    assert all(p.grad is None for p in module.parameters())
    optimizer.step(1e-2)
    assert all(torch.equal(after, before[name]) for name, after in values(module).items())


def test_weights_laid_out_otherwise_are_refused():
    with pytest.raises(RuntimeError, match="view"):
        MuonAdamW(nn.Sequential(nn.Conv2d(7, 13, 3)), 1e-2, 0.0)


def test_another_runs_state_leaves_the_settings_as_they_are():
    """A run that goes on with another weight decay, or rate of its trunk, has those."""
    old, new = network(), network()
    first = MuonAdamW(old, 1e-2, 0.1, slow=[old[2].weight], slow_factor=0.5)
    fill_gradients(old, 0)
    first.step(1e-2)
    second = MuonAdamW(new, 1e-2, 5.0, slow=[new[2].weight], slow_factor=0.0)
    new.load_state_dict(old.state_dict())
    second.load_state_dict(first.state_dict())
    before = values(new)
    fill_gradients(new, 1)
    second.step(1e-2)
    assert torch.equal(values(new)["2.weight"], before["2.weight"])
    for group in (g for x in second._optimizers.values() for g in x.param_groups):
        assert group["weight_decay"] in (0.0, 5.0)
    # The momentum is that of the run: a second step of AdamW, not a first one.
    assert {int(x["step"]) for x in second._optimizers["adamw"].state.values()} == {2}
