"""Appendix A: paths of constant loss, block parameters, and minima that are not isolated."""

import math

import pytest
import torch
from helpers import network, randn
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from torch import nn

import plbook as pl
from plbook import reference

SEEDS = st.integers(0, 10**6)


def one_hidden(n, width, outputs=1, *, inputs=3, seed=0):
    module = pl.MLP(inputs, [width], outputs, seed=seed)
    return pl.NetworkSystem(module, randn(n, inputs, seed=seed + 1), randn(n, outputs, seed=seed + 2))


def parts(system, w, width, inputs=3):
    hidden, output = w.split([width * inputs, len(w) - width * inputs])
    return hidden.view(width, inputs), output.view(-1, width)


def is_block(system, w, width, size, end):
    """Definition 7 for one hidden layer: no weight of a unit outside of the first or last `size` is not 0."""
    outside = slice(size, None) if end == "upper" else slice(None, width - size)
    hidden, output = parts(system, w, width)
    return not hidden[outside].any() and not output[:, outside].any()


def drift(system, path):
    """The largest change of an output along the path, relative to the outputs."""
    start = system.value(path.start)
    values = torch.stack([system.value(path.at(x)) for x in torch.linspace(0, 1, 41)])
    return ((values - start).abs().max() / start.abs().max()).item()


@pytest.mark.statement(name="Proposition 7", kind="positive")
@pytest.mark.statement(name="Definition 6", kind="positive")
@pytest.mark.statement(name="Definition 7", kind="positive")
@given(seed=SEEDS, n=st.integers(1, 6), extra=st.integers(0, 8), outputs=st.integers(1, 3), end=st.sampled_from(["upper", "lower"]))
@runs(max_examples=40)
def test_every_parameter_is_path_constant_to_blocks_of_n_units(seed, n, extra, outputs, end):
    width = n + extra
    system = one_hidden(n, width, outputs, seed=seed)
    path = pl.constant_path(system, end=end)
    assert torch.equal(path.start, system.start) and path.num_units <= n
    assert is_block(system, path.end, width, n, end)
    scale = max(point.norm().item() for point in path.points) / system.value(system.start).abs().max().item()
    assert drift(system, path) < 1e-13 * (1 + scale) * math.sqrt(width)


@pytest.mark.statement(name="Proposition 7", kind="negative")
def test_one_unit_cannot_take_the_place_of_two():
    """Inputs 1 and 2, targets 1 and -1: two units fit them, one unit without bias has outputs of one sign, so a loss >= 1/2."""
    x, y = torch.tensor([[1.0], [2.0]], dtype=torch.float64), torch.tensor([1.0, -1.0], dtype=torch.float64)
    two = pl.NetworkSystem(pl.MLP(1, [2], seed=3), x, y)
    fitted = pl.polish(two)
    assert fitted.residual_norms[-1] < 1e-12 and pl.constant_path(two, fitted.w).num_units == 2
    one = pl.NetworkSystem(pl.MLP(1, [1]), x, y)
    assert min(one.loss(5 * w).item() for w in randn(300, 2)) >= 0.5


@pytest.mark.statement(name="Definition 7", kind="negative")
def test_blocks_overlap_in_a_narrow_layer():
    """Width 3 and s = 2: the middle unit belongs to both, so upper and lower block parameters share more than 0."""
    system = one_hidden(2, 3)
    w = torch.zeros(12, dtype=torch.float64)
    w[3:6], w[10] = 1.0, 1.0
    assert is_block(system, w, 3, 2, "upper") and is_block(system, w, 3, 2, "lower") and w.any()
    assert not is_block(system, system.start, 3, 2, "upper")


@pytest.mark.statement(name="Definition 6", kind="negative")
def test_points_of_equal_loss_need_not_be_path_constant():
    """v tanh(u x) on three inputs: (1, 1) and (-1, -1) have loss 0; on a small circle around (1, 1) every loss is positive."""
    x = torch.tensor([[0.5], [1.0], [2.0]], dtype=torch.float64)
    system = pl.NetworkSystem(pl.MLP(1, [1]), x, x[:, 0].tanh())
    solution = torch.ones(2, dtype=torch.float64)
    assert system.loss(solution) == system.loss(-solution) == 0
    angles = torch.linspace(0, 2 * math.pi, 400, dtype=torch.float64)
    circle = solution + 0.1 * torch.stack([angles.cos(), angles.sin()], dim=1)
    assert min(system.loss(w).item() for w in circle) > 1e-5


@pytest.mark.statement(name="Lemma 1", kind="positive")
def test_paths_that_meet_make_one():
    system = one_hidden(3, 8)
    upper, lower = (pl.constant_path(system, end=end) for end in ("upper", "lower"))
    path = upper.backward().then(lower)
    assert torch.equal(path.start, upper.end) and torch.equal(path.end, lower.end)
    assert torch.equal(path.at(0), path.start) and torch.equal(path.at(1), path.end) and torch.equal(path.at(0.5), system.start)
    assert drift(system, path) < 1e-12 and (path.start - path.end).norm() > 1
    assert len(path.points) == 9 and path.num_units == 3
    with pytest.raises(ValueError, match="away from the end of the first"):
        upper.then(lower)
    with pytest.raises(ValueError, match="from 0 to 1, got 1.5"):
        path.at(1.5)


@pytest.mark.statement(name="Lemma 1", kind="negative")
def test_nearly_constant_is_not_transitive():
    """Along two paths on which the loss w^2/2 changes by no more than 1/8 it changes by more than 1/8 in all."""
    system = pl.toys.linear(torch.eye(1), [0.0], [0.0])
    losses = [system.loss([w]).item() for w in (0.0, 0.5, math.sqrt(0.5))]
    assert losses[1] - losses[0] <= 0.125 and losses[2] - losses[1] <= 0.125 + 1e-15 < losses[2] - losses[0]


def free_line(system, w):
    """A direction in the output weights that changes no output: chapter 3's own proposition."""
    module = system.module_at(w)
    with torch.no_grad():
        features = module[:-1](system._samples)
    null = torch.linalg.svd(features).Vh[features.shape[0] :]
    direction = torch.zeros_like(module[-1].weight)
    direction[:] = null[0]
    return torch.cat([torch.zeros(len(w) - direction.numel(), dtype=torch.float64), direction.reshape(-1).detach()])


@pytest.mark.statement(name="Proposition 6", kind="positive")
@pytest.mark.statement(name="More last units than inputs", kind="positive")
@given(seed=SEEDS, n=st.integers(1, 5), widths=st.sampled_from([[], [2], [3, 1]]), outputs=st.integers(1, 2))
@runs(max_examples=30)
def test_more_units_than_inputs_in_the_last_layer_leave_a_line_of_equal_outputs(seed, n, widths, outputs):
    system = network(lambda: pl.MLP(3, [*widths, n + 1], outputs, seed=seed), 3, num_inputs=n, seed=seed)
    direction, start = free_line(system, system.start), system.value(system.start)
    assert direction.norm() > 0.9
    for t in (1e-3, 1.0, 10.0):
        torch.testing.assert_close(system.value(system.start + t * direction), start, rtol=0, atol=1e-12 * (1 + t))


@pytest.mark.statement(name="Proposition 6", kind="negative")
@pytest.mark.statement(name="More last units than inputs", kind="negative")
def test_a_narrow_network_has_an_isolated_minimum():
    """One unit, three inputs: at (1, 1) the loss is 0 and H_L = DF^T DF is positive definite."""
    x = torch.tensor([[0.5], [1.0], [2.0]], dtype=torch.float64)
    system = pl.NetworkSystem(pl.MLP(1, [1]), x, x[:, 0].tanh())
    assert torch.linalg.eigvalsh(reference.loss_hessians(system, torch.ones(2, dtype=torch.float64))[0])[0] > 1e-3


@pytest.mark.parametrize("end", ["upper", "lower"])
def test_equal_units_are_merged_and_idle_ones_dropped(end):
    """Six units, of which three are the same and one gives 0: rank at most 3."""
    system = one_hidden(5, 6)
    hidden, output = (part.clone() for part in parts(system, system.start, 6))
    hidden[1] = hidden[2] = hidden[0]
    hidden[5] = 0.0
    w = torch.cat([hidden.reshape(-1), output.reshape(-1)])
    path = pl.constant_path(system, w, end=end)
    assert path.num_units == 3 and is_block(system, path.end, 6, 3, end) and drift(system, path) < 1e-12


def test_a_network_without_features_goes_to_zero():
    system = one_hidden(2, 4)
    path = pl.constant_path(system, torch.cat([torch.zeros(12), torch.ones(4)]))
    assert path.num_units == 0 and not path.end.any()


@pytest.mark.parametrize(
    "module",
    [
        pl.MLP(3, [4, 4]),
        pl.MLP(3, []),
        pl.MLP(3, [4], output_activation="tanh"),
        nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)),
        nn.Linear(3, 1),
    ],
)
def test_other_networks_are_refused(module):
    with pytest.raises(ValueError, match="two trainable Linear layers without biases"):
        pl.constant_path(pl.NetworkSystem(module, randn(2, 3), randn(2)))


def test_other_ends_and_systems_are_refused():
    with pytest.raises(ValueError, match="'left'"):
        pl.constant_path(one_hidden(2, 3), end="left")
    with pytest.raises(ValueError, match="NetworkSystem"):
        pl.constant_path(pl.toys.product())
