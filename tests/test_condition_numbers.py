import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import settings as runs
from hypothesis import strategies as st
from helpers import EXAMPLES, network, randn

import plbook as pl
from plbook import reference
from plbook.conditions import numbers

SEEDS = st.integers(0, 10**6)
ROUNDING = 1e-12


def largest_eigenvalue(system, w):
    """lambda_max(H_L), the Hessian by torch.autograd."""
    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(system.loss, w))[-1].item()


# Definition 4


@pytest.mark.statement(name="Definition 4", kind="positive")
@pytest.mark.parametrize("name", EXAMPLES)
def test_it_equals_the_dense_twin(name):
    system = EXAMPLES[name]()
    points = torch.stack([system.start + seed * randn(system.num_parameters, seed=seed) for seed in range(3)])
    smallest = min(reference.pl_ratio(system, w) for w in points)
    number = pl.condition_number(system, points)
    for value, w in zip(number.largest_eigenvalues, points):
        scale = torch.autograd.functional.hessian(system.loss, w).abs().max().item()
        assert value.item() == pytest.approx(largest_eigenvalue(system, w), rel=1e-9, abs=1e-10 * max(scale, 1))
    assert number.mu == pytest.approx(smallest, rel=1e-9)
    assert number.value == number.largest_eigenvalues.max().item() / number.mu
    halved = pl.condition_number(system, points, mu=number.mu / 2)
    assert halved.value == pytest.approx(2 * number.value, rel=ROUNDING) and halved.mu == number.mu / 2


@pytest.mark.statement(name="Remark 7", kind="positive")
@given(seed=SEEDS, n=st.integers(1, 5), extra=st.integers(0, 4))
@runs(max_examples=40)
def test_of_a_linear_system_it_is_that_of_the_kernel(seed, n, extra):
    """Remark 7, with mu = lambda_min(K), at any points. A larger mu fails at the worst point."""
    matrix, targets = randn(n, n + extra, seed=seed), randn(n, seed=seed + 1)
    left, singular, _ = torch.linalg.svd(matrix)
    system, mu = pl.toys.linear(matrix, targets), singular[-1].item() ** 2
    # A point, hence its ratio, is known to rounding times the condition number.
    assume(singular[0] / singular[-1] < 1e4)
    worst = torch.linalg.lstsq(matrix, targets + left[:, -1], driver="gelsd").solution
    points = torch.vstack([randn(3, n + extra, seed=seed + 2), worst])
    expected = (singular[0] / singular[-1]).item() ** 2
    assert pl.condition_number(system, points[:3], mu=mu).value == pytest.approx(expected, rel=1e-9)
    assert pl.condition_number(system, points).value == pytest.approx(expected, rel=1e-6)
    assert pl.kernel_spectrum(system).condition_number == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="not PL"):
        pl.condition_number(system, points, mu=1.01 * mu)


@pytest.mark.statement(name="Remark 7", kind="negative")
def test_of_equations_that_depend_on_each_other_there_is_none():
    """F = (w, w): K has the eigenvalues 2 and 0, and no mu > 0 serves all targets: none at the minimum for y = (1, -1)."""
    with pytest.raises(ValueError, match="no largest mu"):
        pl.condition_number(pl.toys.repeated((1.0, -1.0)), [[1.0], [0.0]])
    # For y = 0 the loss has the condition number 1, and the kernel's is infinite.
    system = pl.toys.repeated()
    assert pl.condition_number(system, [[1.0], [0.5]]).value == pytest.approx(1, rel=ROUNDING)
    assert not pl.kernel_spectrum(system).resolved


@pytest.mark.statement(name="Definition 4", kind="negative")
def test_it_can_be_below_one_and_negative_away_from_solutions():
    """F = w^2: L'' = 6 w^2 - 2 y against a ratio of 4 w^2. y = 10: -14/4 at w = 1, 4/16 at w = 2, 64/64 at w = 4."""
    system = pl.toys.square(10.0)
    values = [pl.condition_number(system, [[w]]).value for w in (1.0, 2.0)]
    assert values == pytest.approx([-3.5, 0.25], rel=ROUNDING)
    # A mu that is too large by rounding only passes.
    assert pl.condition_number(system, [[2.0]], mu=16 * (1 + 1e-11)).value == pytest.approx(0.25)
    # Over both points: the larger eigenvalue, 4, over the smaller ratio, 4.
    assert pl.condition_number(system, [[1.0], [2.0]]).value == pytest.approx(1, rel=ROUNDING)
    # At a solution it is lambda_max(K) / mu.
    root = math.sqrt(10.0)
    assert pl.condition_number(system, [[root]], mu=8.0).value == pytest.approx(40 / 8, rel=1e-12)


@pytest.mark.statement(name="Remark 8", kind="negative")
def test_remark_8_is_false_away_from_solutions():
    """F = (w1, w2/100), y = 0, on the ball of radius 1 about (10, 0): kappa_F is nearly 1, and K has condition number 10^4.

    The ratio (1 + e^4 t)/(1 + e^2 t), e = 1/100, falls in t = (w2/w1)^2, whose largest value on the ball is 1/99.
    """
    e, t = 0.01, 1 / 99
    system = pl.toys.linear(torch.tensor([[1.0, 0.0], [0.0, e]], dtype=torch.float64), [0.0, 0.0])
    angles = torch.linspace(0, 2 * math.pi, 100, dtype=torch.float64)
    circle = torch.stack([10 + angles.cos(), angles.sin()], dim=1)
    touching = torch.tensor([[9.9, math.sqrt(0.99)]], dtype=torch.float64)
    number = pl.condition_number(system, torch.vstack([circle, touching]))
    assert number.value == pytest.approx((1 + e**2 * t) / (1 + e**4 * t), rel=1e-9) and number.value < 1.0001
    assert pl.kernel_spectrum(system).condition_number == pytest.approx(1e4, rel=1e-9)
    # What is true: near a solution it is at least the kernel's.
    near = pl.condition_number(system, [[0.0, 0.0], [0.0, 0.1], [0.1, 0.0]])
    assert near.value == pytest.approx(1e4, rel=1e-9)


@pytest.mark.statement(name="Remark 8", kind="positive")
@given(seed=SEEDS, n=st.integers(1, 4), extra=st.integers(1, 3))
@runs(max_examples=30)
def test_near_a_solution_it_is_at_least_that_of_the_kernel(seed, n, extra):
    """The corrected Remark 8: leave w* in the direction DF^T u of the smallest eigenvalue, and the ratio tends to it."""
    plain = pl.toys.quadratics(n, n + extra, seed=seed)
    solution = plain.start
    system = pl.System(plain.value, plain.value(solution), solution)
    eigenvalues, vectors = torch.linalg.eigh(reference.tangent_kernel(system, solution))
    assume(eigenvalues[0] > 1e-2 * eigenvalues[-1])
    step = system.vjp(solution, vectors[:, 0])
    # A step of 1e-5 changes eigenvalues and the direction of the residual by some 1e-5 times the Hessians.
    number = pl.condition_number(system, torch.stack([solution, solution + 1e-5 * step / step.norm()]))
    assert number.value >= (eigenvalues[-1] / eigenvalues[0]).item() * (1 - 1e-2)


def test_products_give_what_the_matrix_gives(monkeypatch):
    """An MLP with 360 parameters goes by Lanczos, and by its Hessian if that is allowed to be so large."""
    system = network(lambda: pl.MLP(5, [60]), 5, num_inputs=8)
    points = torch.stack([system.start, system.start + randn(360)])
    by_products = pl.condition_number(system, points)
    assert torch.equal(pl.condition_number(system, points).largest_eigenvalues, by_products.largest_eigenvalues)
    with monkeypatch.context() as patch:
        patch.setattr(numbers, "eigsh", None)
        with pytest.raises(TypeError):
            pl.condition_number(system, points)
        patch.setattr(numbers, "DENSE_PARAMETERS", 360)
        assert pl.condition_number(system, points).value == pytest.approx(by_products.value, rel=1e-6)
    assert by_products.largest_eigenvalues[1].item() == pytest.approx(largest_eigenvalue(system, points[1]), rel=1e-6)


def test_products_find_the_largest_eigenvalue_not_the_largest_in_absolute_value(monkeypatch):
    """F = (|w|^2/2, w1), y = (10, 0): H_L = w w^T + (|w|^2/2 - 10) I + e1 e1^T is negative definite for a short w."""
    system = pl.System(lambda w: torch.stack([w @ w / 2, w[0]]), [10.0, 0.0], randn(40) / 10)
    monkeypatch.setattr(numbers, "DENSE_PARAMETERS", 0)
    (value,) = pl.condition_number(system, system.start[None]).largest_eigenvalues
    assert value.item() == pytest.approx(largest_eigenvalue(system, system.start), rel=1e-6) and value < 0


# Proposition 5


@pytest.mark.statement(name="Proposition 5", kind="positive")
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_bound_holds_and_is_made_of_its_constants(name):
    system = EXAMPLES[name]()
    points = torch.stack([system.start + seed * randn(system.num_parameters, seed=seed) for seed in range(3)])
    bound, number = pl.condition_number_bound(system, points), pl.condition_number(system, points)
    rows = [reference.jacobian(system, w) for w in points]
    assert bound.jacobian_norm == pytest.approx(max(torch.linalg.matrix_norm(r, 2).item() for r in rows), rel=1e-9)
    hessians = [reference.hessian_norms(system, w).norm().item() for w in points]
    assert bound.hessian_bound == pytest.approx(max(hessians), rel=1e-9)
    assert bound.residual_norm == pytest.approx(max(system.residual(w).norm().item() for w in points), rel=ROUNDING)
    top = bound.jacobian_norm**2 + bound.hessian_bound * bound.residual_norm
    assert bound.value == top / bound.mu and bound.mu == number.mu
    # Lanczos is good to 1%, and exact up to 60 parameters, which all of these have.
    assert bound.value >= number.value * (1 - 1e-9)


@pytest.mark.statement(name="Proposition 5", kind="negative")
@pytest.mark.parametrize("n", [2, 9])
def test_the_bound_is_attained_by_copies_and_false_with_the_largest_hessian_alone(n):
    """F_i = w^2/2, y = 0: L'' = 3 n w^2/2; |DF|^2 = n w^2, beta = sqrt(n), |r| = sqrt(n) w^2/2, and each |H_i| is 1."""
    system = pl.toys.copies(n)
    number, bound = pl.condition_number(system, [[2.0]]), pl.condition_number_bound(system, [[2.0]])
    assert number.largest_eigenvalues.tolist() == pytest.approx([6 * n], rel=ROUNDING)
    assert bound.value == pytest.approx(number.value, rel=ROUNDING)
    largest = pl.hessian_norms(system, [2.0]).largest
    assert (bound.jacobian_norm**2 + largest * bound.residual_norm) / bound.mu < 0.95 * number.value


# Refusals

REFUSALS = {
    "single point": (pl.toys.product(), [1.0, 2.0], None, ["(2,)", "(k, 2)"]),
    "mu too large": (pl.toys.product(), [[3.0, 0.0], [1.0, 0.0]], 2.0, ["mu = 2.0", "points[1]", "is 1.", "None"]),
    "mu 0": (pl.toys.product(), [[1.0, 2.0]], 0.0, ["mu", "> 0", "0.0"]),
    "mu NaN": (pl.toys.product(), [[1.0, 2.0]], math.nan, ["mu", "nan"]),
    "singular point": (pl.toys.product(), [[1.0, 2.0], [0.0, 0.0]], None, ["no largest mu", "points[1]"]),
    "solutions only": (pl.toys.product(), [[1.0, 1.0], [2.0, 0.5]], None, ["solutions", "Pass mu"]),
}


@pytest.mark.parametrize("function", [pl.condition_number, pl.condition_number_bound])
@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused(case, function):
    system, points, mu, words = REFUSALS[case]
    with pytest.raises(ValueError) as caught:
        function(system, points, mu=mu)
    assert all(word in str(caught.value) for word in words), str(caught.value)
