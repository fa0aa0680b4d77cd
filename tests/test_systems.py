import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from helpers import EXAMPLES, Forward, frozen, network, randn, seeded, tied
from torch import nn
from torch.testing import assert_close

import plbook as pl
from plbook import reference
from plbook.systems import network as network_module

X, Y = randn(5, 3), randn(5, seed=1)
NOT_A_NUMBER, INFINITE = float("nan"), float("inf")


@pytest.fixture(params=EXAMPLES)
def system(request):
    return EXAMPLES[request.param]()


def away(system, seed=7):
    """A point other than the start: a routine that forgets w must fail there."""
    return system.start + 0.3 * randn(system.num_parameters, seed=seed)


# Values and derivatives


def test_jacobian_equals_the_twin_and_central_differences(system):
    w, h = away(system), 1e-5
    jacobian = system.jacobian(w)
    assert jacobian.shape == (system.num_equations, system.num_parameters)
    assert_close(jacobian, reference.jacobian(system, w), rtol=1e-12, atol=1e-12)
    steps = h * torch.eye(len(w), dtype=w.dtype)
    differences = torch.stack([(system.value(w + e) - system.value(w - e)) / (2 * h) for e in steps], dim=1)
    # The error of a central difference is h^2 F'''/6 + u |F| / h, about 1e-10.
    assert_close(jacobian, differences, rtol=1e-7, atol=1e-8)


def test_products_residual_loss_and_gradient_follow_from_the_jacobian(system):
    w = away(system)
    v, u = randn(system.num_parameters, seed=8), randn(system.num_equations, seed=9)
    jacobian = reference.jacobian(system, w)
    residual = system.value(w).detach() - system.targets
    assert_close(system.residual(w), residual)
    assert_close(system.loss(w), 0.5 * (residual**2).sum())
    assert_close(system.gradient(w), jacobian.T @ residual, rtol=1e-10, atol=1e-12)
    assert_close(system.jvp(w, v), jacobian @ v, rtol=1e-10, atol=1e-12)
    assert_close(system.vjp(w, u), jacobian.T @ u, rtol=1e-10, atol=1e-12)


@given(seed=st.integers(0, 10**6), n=st.integers(1, 6), p=st.integers(1, 6))
@runs(max_examples=50)
def test_jvp_and_vjp_are_adjoint(seed, n, p):
    system = pl.toys.quadratics(n, p, seed=seed)
    w, v, u = randn(p, seed=seed + 1), randn(p, seed=seed + 2), randn(n, seed=seed + 3)
    assert_close(system.jvp(w, v) @ u, v @ system.vjp(w, u), rtol=1e-10, atol=1e-10)


def test_a_large_system_is_chunked_to_the_same_jacobian(system, monkeypatch):
    whole = system.jacobian(away(system))
    monkeypatch.setattr(network_module, "CHUNK_BYTES", 1)
    assert_close(system.jacobian(away(system)), whole, rtol=1e-13, atol=1e-13)


def test_equations_are_ordered_input_by_input():
    module = nn.Linear(1, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0], [2.0]]))
        module.bias.copy_(torch.tensor([0.0, 10.0]))
    system = pl.NetworkSystem(module, [[1.0], [2.0]], [[5.0, 6.0], [7.0, 8.0]])
    assert system.start.tolist() == [1, 2, 0, 10]
    assert system.value(system.start).tolist() == [1, 12, 2, 14]
    assert system.targets.tolist() == [5, 6, 7, 8]
    assert system.jacobian(system.start).tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [2, 0, 1, 0], [0, 2, 0, 1]]


def test_unknowns_are_the_trainable_parameters_in_their_order_a_tied_one_once():
    module = frozen(seeded(tied), "0.bias")
    system = pl.NetworkSystem(module.double(), X, randn(5, 3))
    assert_close(system.start, torch.cat([module[0].weight.reshape(-1), module[2].bias]).detach(), rtol=0, atol=0)
    assert system.num_parameters == 9 + 3


def test_a_target_column_may_be_flat_or_a_matrix_of_one_column():
    module = seeded(lambda: nn.Linear(3, 1))
    flat, column = pl.NetworkSystem(module, X, Y), pl.NetworkSystem(module, X, Y[:, None])
    assert torch.equal(flat.residual(flat.start), column.residual(column.start))
    squeezed = Forward(lambda m, x: m.layer(x).squeeze(1), layer=module)
    assert torch.equal(pl.NetworkSystem(squeezed, X, Y).residual(flat.start), flat.residual(flat.start))


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_numbers_given_in_python_or_numpy_keep_their_double_precision(kind):
    """torch.tensor alone cuts to float32, and says so in its dtype."""
    expected = 0.1 if kind is not torch.tensor else torch.tensor(0.1).double().item()
    system = pl.System(lambda w: w, kind([0.1]), kind([0.1]))
    assert system.targets.item() == system.start.item() == expected
    identity = nn.Linear(1, 1, bias=False)
    nn.init.ones_(identity.weight)
    system = pl.NetworkSystem(identity, kind([[0.1]]), kind([0.1]))
    assert system.targets.item() == system.value(system.start).item() == expected


def test_a_first_layer_that_works_in_place_leaves_the_data_alone():
    module = seeded(lambda: nn.Sequential(nn.ELU(inplace=True), nn.Linear(3, 1)))
    twin = pl.NetworkSystem(nn.Sequential(nn.ELU(), module[1]), X, Y)
    system = pl.NetworkSystem(module, X, Y)
    for _ in range(2):
        assert torch.equal(system.value(system.start), twin.value(twin.start))
        assert torch.equal(pl.tangent_kernel(system), pl.tangent_kernel(twin))


def test_integer_inputs_stay_indices():
    module = seeded(lambda: nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 1)))
    system = pl.NetworkSystem(module, torch.tensor([0, 3, 1]), randn(3))
    assert_close(system.jacobian(system.start), reference.jacobian(system, system.start))


# The caller's objects


def snapshot(module):
    return (
        {name: value.clone() for name, value in module.state_dict().items()},
        [layer.training for layer in module.modules()],
        [(p.requires_grad, p.grad is None) for p in module.parameters()],
        [len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in module.modules()],
    )


def test_the_callers_module_data_and_random_state_are_never_changed():
    def build():
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(4, 1)).eval()

    module, inputs, targets = seeded(build), X.clone(), Y.clone()
    before, random_state = snapshot(module), torch.get_rng_state()
    system = pl.NetworkSystem(module, inputs, targets)
    start = system.start.clone()
    w = away(system)
    system.gradient(w), system.jacobian(w), pl.hessian_norms(system, w)
    pl.tangent_kernel(system, w), pl.gradient_descent(system, w, max_steps=2, record_every=1)
    with torch.no_grad():
        system.module_at(w)[0].weight.zero_()
    assert_close(snapshot(module), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(system.start, start) and torch.equal(inputs, X) and torch.equal(targets, Y)
    inputs.zero_(), targets.zero_(), nn.init.zeros_(module[0].weight)
    assert torch.equal(system.targets, Y) and system.value(start).abs().max() > 0
    assert not system._module[0]._forward_hooks


def test_module_at_gives_the_network_at_w():
    module = seeded(tied)  # float32: copied up
    system = pl.NetworkSystem(module, X, randn(5, 3))
    w = away(system)
    copied = system.module_at(w)
    assert_close(copied(X).reshape(-1).detach(), system.value(w), rtol=1e-14, atol=1e-14)
    assert copied[0].weight is copied[2].weight and copied[0].weight.dtype == torch.float64
    assert module[0].weight.dtype == torch.float32
    assert torch.equal(pl.NetworkSystem(copied, X, randn(5, 3)).start, w)


def test_module_at_keeps_the_graph_of_w_out():
    system = network(lambda: pl.MLP(3, [4]), 3)
    w = system.start.clone().requires_grad_()
    assert all(p.grad_fn is None and p.requires_grad for p in system.module_at(w).parameters())


# Refusals: what was given, what was expected, what to do


def linear():
    return seeded(lambda: nn.Linear(3, 1))


def with_layer(layer):
    return seeded(lambda: nn.Sequential(nn.Linear(3, 4), layer, nn.Linear(4, 1)))


def forward(function):
    return Forward(lambda m, x: function(m.layer(x)), layer=linear())


def network_of(module, inputs=X, targets=Y):
    return lambda: pl.NetworkSystem(module, inputs, targets)


def identity_system(targets=(0.0, 0.0), start=(1.0, 2.0), function=lambda w: w, **options):
    return lambda: pl.System(function, targets, start, **options)


def unit():
    return identity_system()()


def checkpointed():
    from torch.utils.checkpoint import checkpoint

    return forward(lambda x: x + checkpoint(torch.tanh, x, use_reentrant=False))


REFUSALS = {
    "matrix start": (identity_system(start=[[1.0, 2.0]]), ["(1, 2)", "(p,)", "reshape"]),
    "number for targets": (identity_system(targets=1.0), ["()", "(n,)", "reshape"]),
    "wrong number of values": (identity_system(function=lambda w: w[:1]), ["(1,)", "(2,)"]),
    "scalar value": (identity_system([0.0], function=lambda w: w.sum()), ["()", "(1,)"]),
    "tuple value": (identity_system(function=lambda w: (w, w)), ["tuple", "(2,)"]),
    "float32 value": (identity_system(function=lambda w: w.float()), ["float32", "dtype=torch.float64"]),
    "float32 matrix in F": (identity_system(function=lambda w: torch.eye(2) @ w), ["float64", "(2,)", "dtype=torch.float64"]),
    "random function": (identity_system(function=lambda w: w + torch.rand(2)), ["random", "outside F"]),
    "value not finite": (identity_system(function=lambda w: w / 0), ["not finite", "another start"]),
    "NaN targets": (identity_system(targets=[0.0, NOT_A_NUMBER]), ["targets", "1 of 2", "NaN"]),
    "infinite start": (identity_system(start=[INFINITE, 0.0]), ["start", "1 of 2", "infinite"]),
    "empty targets": (identity_system(targets=[]), ["targets", "empty", "(0,)"]),
    "empty start": (identity_system(start=[]), ["start", "empty", "(0,)"]),
    "negative Lipschitz constant": (identity_system(jacobian_lipschitz=-1.0), ["-1.0", ">= 0", "Leave it out"]),
    "NaN Lipschitz constant": (identity_system(jacobian_lipschitz=NOT_A_NUMBER), ["nan", ">= 0"]),
    "w too long": (lambda: unit().value([1.0, 2.0, 3.0]), ["(3,)", "(2,)"]),
    "v too short": (lambda: unit().jvp([1.0, 2.0], [1.0]), ["(1,)", "(2,)"]),
    "u too short": (lambda: unit().vjp([1.0, 2.0], [1.0]), ["(1,)", "(2,)"]),
    "function as module": (network_of(torch.tanh), ["torch.nn.Module", "plbook.System"]),
    "number as inputs": (network_of(linear(), torch.tensor(1.0)), ["inputs", "first dimension"]),
    "NaN inputs": (network_of(linear(), X * NOT_A_NUMBER), ["inputs", "15 of 15", "NaN"]),
    "infinite network targets": (network_of(linear(), X, Y * INFINITE), ["targets", "5 of 5", "infinite"]),
    "empty inputs": (network_of(linear(), X[:0], Y), ["inputs", "empty", "(0, 3)"]),
    "empty network targets": (network_of(linear(), X, Y[:0]), ["targets", "empty", "(0,)"]),
    "wrong features": (network_of(linear(), X[:, :2]), ["(5, 2)"]),
    "integers for features": (network_of(linear(), X.long()), ["(5, 3)", "int64"]),
    "too few targets": (network_of(linear(), X, Y[:4]), ["(4,)", "(5, 1) or (5,)", "1 output"]),
    "too many outputs": (network_of(seeded(lambda: nn.Linear(3, 2))), ["(5,)", "(5, 2)", "2 output"]),
    "class labels": (network_of(linear(), X, torch.arange(5)), ["int64", "class labels", "one_hot"]),
    "boolean targets": (network_of(linear(), X, Y > 0), ["bool", "floating point"]),
    "dropout": (network_of(with_layer(nn.Dropout(0.5))), ["Dropout (1)", "random", "module.eval()"]),
    "dropout inside": (network_of(nn.Sequential(with_layer(nn.AlphaDropout(0.1)))), ["AlphaDropout (0.1)", "module.eval()"]),
    "batch norm": (network_of(with_layer(nn.BatchNorm1d(4))), ["BatchNorm1d (1)", "training mode", "module.eval()"]),
    "batch statistics": (
        network_of(with_layer(nn.BatchNorm1d(4, track_running_stats=False)).eval()),
        ["BatchNorm1d (1)", "running statistics", "track_running_stats=True"],
    ),
    "random forward": (network_of(forward(lambda x: x + torch.randn(x.shape, dtype=x.dtype))), ["random", "module.eval()"]),
    "batch mean": (network_of(forward(lambda x: x - x.mean(0))), ["couples", "batch", "module.eval()"]),
    "neighbouring inputs": (network_of(forward(lambda x: x + x.roll(1, 0))), ["couples", "batch"]),
    "reversed inputs": (network_of(forward(lambda x: x.flip(0))), ["couples", "batch"]),
    "last input": (network_of(forward(lambda x: x + x[-1:])), ["couples", "batch"]),
    "fixed batch": (network_of(forward(lambda x: x.view(5, 1))), ["batch of 1"]),
    "frozen module": (network_of(frozen(linear(), "weight", "bias")), ["Linear", "requires_grad"]),
    "nothing to train": (network_of(nn.Tanh()), ["Tanh", "requires_grad"]),
    "NaN parameters": (network_of(linear().apply(lambda m: nn.init.constant_(m.bias, NOT_A_NUMBER))), ["parameters", "1 of 4"]),
    "lazy module": (network_of(nn.LazyLinear(1)), ["weight", "no value yet", "once"]),
    "tuple output": (network_of(forward(lambda x: (x, x))), ["one tensor", "tuple"]),
    "one number for the batch": (network_of(forward(torch.sum)), ["one row per input", "5 inputs", "()"]),
    "one row for the batch": (network_of(forward(lambda x: x.sum(0))), ["one row per input", "(1,)"]),
    "float32 constants": (network_of(forward(lambda x: x.float())), ["float64", "float32"]),
    "checkpointed": (network_of(checkpointed()), ["differentiate", "checkpoint"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused_with_what_was_given_and_what_to_do(case):
    build, words = REFUSALS[case]
    with pytest.raises(ValueError) as caught:
        build()
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    "module",
    [with_layer(nn.Dropout(0.5)), with_layer(nn.BatchNorm1d(4)), with_layer(nn.Dropout(0.0)).train(), with_layer(nn.LayerNorm(4))],
    ids=lambda module: str(module[1]),
)
def test_twins_of_refused_modules_are_accepted_and_right(module):
    module = copy.deepcopy(module)
    if not isinstance(module[1], nn.Dropout) or module[1].p > 0:
        module.eval()
    system = pl.NetworkSystem(module, X, Y)
    assert_close(system.value(system.start), module.double()(X).reshape(-1).detach(), rtol=1e-13, atol=1e-13)
    assert_close(system.jacobian(system.start), reference.jacobian(system, system.start), rtol=1e-12, atol=1e-12)


def test_a_batch_norm_in_evaluation_mode_differs_from_the_refused_one():
    """The refusal matters: with batch statistics, F would be another function."""
    module = with_layer(nn.BatchNorm1d(4)).double()
    coupled = module(X)
    assert (coupled - module.eval()(X)).abs().max() > 1e-3
