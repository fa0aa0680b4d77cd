"""The statements of chapter 2 on systems that meet their hypotheses, and what breaks without them."""

import math

import pytest
import torch
from helpers import randn
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st

import plbook as pl

SEEDS = st.integers(0, 10**6)
# Norms and quotients of a few float64 numbers, compared with bounds that they may attain.
SLACK = 1 + 1e-12


def quotient(system, w, v):
    """|F(w) - F(v)| / |w - v|."""
    return ((system.value(w) - system.value(v)).norm() / (w - v).norm()).item()


def remainder(system, w, v):
    """|F(w) - F(v) - DF(v)(w - v)|."""
    return (system.value(w) - system.value(v) - system.jvp(v, w - v)).norm().item()


def sines(seed, n=3, p=5):
    return pl.toys.sines(randn(n, p, seed=seed), [0.0] * n)


# Definition 1 and Remark 1


@pytest.mark.statement(name="Definition 1", kind="positive")
@given(seed=SEEDS)
@runs(max_examples=30)
def test_the_jacobian_norm_at_zero_is_the_lipschitz_constant_of_sines(seed):
    system = sines(seed)
    constant = pl.jacobian_norm(system)  # at the start, 0, where DF is largest
    w, v = randn(5, seed=seed + 1), randn(5, seed=seed + 2)
    assert quotient(system, w, v) <= constant * SLACK
    # The constant is attained in the limit: along the top singular vector, close to 0.
    top = torch.linalg.svd(system.jacobian(system.start)).Vh[0]
    assert quotient(system, 1e-4 * top, -1e-4 * top) >= constant * (1 - 1e-6)


@pytest.mark.statement(name="Definition 1", kind="negative")
def test_the_square_has_no_lipschitz_constant():
    system = pl.toys.square()
    far = [quotient(system, torch.tensor([r], dtype=torch.float64), torch.zeros(1)) for r in (1.0, 10.0, 1e3)]
    assert far == pytest.approx([1.0, 10.0, 1e3])


@pytest.mark.statement(name="Remark 1", kind="positive")
@given(seed=SEEDS, n=st.integers(1, 5))
@runs(max_examples=30)
def test_n_equations_have_at_most_root_n_times_the_constant_of_one(seed, n):
    matrix = randn(n, 4, seed=seed)
    of_one = matrix.norm(dim=1).max().item()  # of each sin(a_i w), where cos(a_i w) = 1
    assert pl.jacobian_norm(pl.toys.sines(matrix, [0.0] * n)) <= math.sqrt(n) * of_one * SLACK


@pytest.mark.statement(name="Remark 1", kind="negative")
@pytest.mark.parametrize("n", [2, 9])
def test_without_the_root_of_n_equal_equations_break_the_bound(n):
    system = pl.toys.linear(torch.ones(n, 1), [0.0] * n)
    assert pl.jacobian_norm(system) == pytest.approx(math.sqrt(n) * 1.0)


# Proposition 1


@pytest.mark.statement(name="Proposition 1", kind="positive")
@given(seed=SEEDS)
@runs(max_examples=30)
def test_the_kernel_is_at_most_the_square_of_the_lipschitz_constant(seed):
    system = sines(seed)
    bound = pl.jacobian_norm(system) ** 2
    assert pl.kernel_spectrum(system, randn(5, seed=seed + 1)).largest <= bound * SLACK
    assert pl.kernel_spectrum(system).largest == pytest.approx(bound, rel=1e-12)


@pytest.mark.statement(name="Proposition 1", kind="negative")
def test_a_constant_that_holds_on_a_ball_says_nothing_outside():
    system = pl.toys.square()
    on_the_unit_ball = pl.jacobian_norm(system, [1.0])
    assert pl.kernel_spectrum(system, [0.5]).largest <= on_the_unit_ball**2
    assert pl.kernel_spectrum(system, [2.0]).largest > on_the_unit_ball**2


# Definition 2


@pytest.mark.statement(name="Definition 2", kind="positive")
@given(seed=SEEDS, size=st.floats(0.01, 2))
@runs(max_examples=30)
def test_the_remainder_of_sines_is_quadratic(seed, size):
    system = sines(seed)
    v = randn(5, seed=seed + 1)
    w = v + size * randn(5, seed=seed + 2)
    half_beta = system.jacobian_lipschitz / 2
    # Four values of size 1 are subtracted; their rounding does not shrink with the distance.
    assert remainder(system, w, v) <= half_beta * (w - v).norm().item() ** 2 * SLACK + 1e-14


@pytest.mark.statement(name="Definition 2", kind="negative")
def test_a_root_is_not_smooth_though_it_has_a_derivative():
    """F(w) = |w|^(3/2): the remainder at 0 is |w|^(3/2), more than any multiple of w^2 near 0."""
    system = pl.System(lambda w: w.abs() ** 1.5, [0.0], [1.0])
    zero = torch.zeros(1, dtype=torch.float64)
    quotients = [remainder(system, zero + r, zero) / r**2 for r in (1e-2, 1e-4, 1e-6)]
    assert quotients == pytest.approx([10.0, 100.0, 1000.0])


@pytest.mark.statement(name="Definition 2", kind="negative")
@pytest.mark.parametrize("n", [2, 9])
def test_the_largest_hessian_alone_is_no_smoothness_constant(n):
    system = pl.toys.copies(n)
    w, zero = torch.tensor([0.7], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    largest = pl.hessian_norms(system).largest
    assert remainder(system, w, zero) == pytest.approx(math.sqrt(n) * largest / 2 * 0.49)
