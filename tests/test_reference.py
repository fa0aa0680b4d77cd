"""The oracle itself, on cases small enough for a pencil."""

import pathlib

import pytest
import torch
from torch.testing import assert_close

import plbook as pl
from plbook import reference


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


# (2, 1) for w1 w2 = 1: F = 2, DF = (1, 2). (1, 2, -1) for the chain with targets 1: F = (2, -2).
PRODUCT = (pl.toys.product(), tensor([2.0, 1.0]))
CHAIN = (pl.toys.chain(), tensor([1.0, 2.0, -1.0]))
SQUARE = (pl.toys.square(-1.0), tensor([3.0]))


@pytest.mark.parametrize(
    "name, case, expected",
    [
        ("jacobian", PRODUCT, [[1, 2]]),
        ("jacobian", CHAIN, [[2, 1, 0], [0, -1, 2]]),
        ("jacobian", SQUARE, [[6]]),
        ("tangent_kernel", PRODUCT, [[5]]),
        ("tangent_kernel", CHAIN, [[5, -1], [-1, 5]]),
        ("hessians", PRODUCT, [[[0, 1], [1, 0]]]),
        ("hessians", CHAIN, [[[0, 1, 0], [1, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 1], [0, 1, 0]]]),
        ("hessian_norms", CHAIN, [1, 1]),
        ("hessian_norms", SQUARE, [2]),
        # The cubic's Hessian is diag(2 w1, 1): at w1 = -3 the largest eigenvalue in absolute value is negative.
        ("hessian_norms", (pl.toys.cubic(), tensor([-3.0, 0.0])), [6]),
        # (w1 w2 - 1)^2 / 2 at (2, 1), residual 1: [[w2^2, 2 w1 w2 - 1], [2 w1 w2 - 1, w1^2]].
        ("loss_hessians", PRODUCT, [[[1, 3], [3, 4]], [[1, 2], [2, 4]], [[0, 1], [1, 0]]]),
        # (w^2 + 1)^2 / 2 at 3, residual 10: 6 w^2 + 2 = 36 + 20.
        ("loss_hessians", SQUARE, [[[56]], [[36]], [[20]]]),
        ("pl_ratio", PRODUCT, 5),
        ("pl_ratio", SQUARE, 36),
        # Residual (1, -3): DF^T r = (2, 4, -6), 56 over |r|^2 = 10.
        ("pl_ratio", CHAIN, 5.6),
    ],
)
def test_hand_computed_values(name, case, expected):
    result = getattr(reference, name)(*case)
    result = torch.stack(result) if isinstance(result, tuple) else torch.as_tensor(result, dtype=torch.float64)
    assert_close(result, tensor(expected))


def test_one_neuron_by_hand():
    """At U = 0 tanh' = 1 and tanh'' = 0: the Hessian of v tanh(u x) is [[0, x], [x, 0]]."""
    eigenvalues = reference.one_hidden_layer_hessian_eigenvalues(tensor([[0.0]]), tensor([5.0]), tensor([-3.0]))
    assert_close(eigenvalues, tensor([-3.0, 3.0]))


def test_the_closed_form_of_one_hidden_layer_is_the_dense_one():
    module = pl.MLP(3, [4])
    system = pl.NetworkSystem(module, tensor([[1.0, -2.0, 0.5]]), [0.0])
    expected = torch.linalg.eigvalsh(reference.hessians(system, system.start)[0])
    found = reference.one_hidden_layer_hessian_eigenvalues(module[1].weight.detach(), module[4].weight.detach()[0], system._samples[0])
    assert_close(torch.cat([found, torch.zeros(8, dtype=torch.float64)]).sort().values, expected, rtol=1e-10, atol=1e-13)


def test_hand_computed_steps():
    """From (2, 1) with step 1/10: residual 1, w = (1.9, 0.8), residual 0.52; linearized, residual 1 - 5/10 = 0.5."""
    assert_close(reference.gradient_descent(*PRODUCT, 0.1, 1), tensor([0.5, 0.1352]))
    assert_close(reference.linearized_losses(*PRODUCT, 0.1, 2), tensor([0.5, 0.125, 0.03125]))


def test_an_equation_without_an_unknown_has_a_zero_row():
    system = pl.System(lambda w: torch.cat([w[:1] * 2, torch.ones(1, dtype=w.dtype)]), [0.0, 0.0], [1.0, 1.0])
    assert reference.jacobian(system, system.start).tolist() == [[2, 0], [0, 0]]
    assert system.jacobian(system.start).tolist() == [[2, 0], [0, 0]]


def test_nothing_of_plbook_imports_the_oracle():
    folder = pathlib.Path(pl.__file__).parent
    others = [path for path in folder.rglob("*.py") if path.name != "reference.py"]
    assert len(others) > 10
    assert not [path.name for path in others if "reference import" in path.read_text() or "import reference" in path.read_text()]
