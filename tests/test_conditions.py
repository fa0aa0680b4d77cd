import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import settings as runs
from hypothesis import strategies as st
from helpers import EXAMPLES, network, randn
from torch.testing import assert_close

import plbook as pl
from plbook import reference

SEEDS = st.integers(0, 10**6)
VALUES = st.floats(-10, 10).filter(lambda x: x == 0 or abs(x) > 1e-3)
# The ratio is computed from a unit residual, so only rounding separates it from a closed form.
ROUNDING = 1e-12


# F(w) = A w


@pytest.mark.statement(name="PL* condition", kind="positive")
@given(seed=SEEDS, n=st.integers(1, 6), extra=st.integers(0, 6))
@runs(max_examples=100)
def test_linear_systems_hold_at_sigma_min_squared_and_no_more(seed, n, extra):
    matrix, targets = randn(n, n + extra, seed=seed), randn(n, seed=seed + 1)
    left, singular, _ = torch.linalg.svd(matrix)
    mu = singular[-1].item() ** 2
    system = pl.toys.linear(matrix, targets)
    # The residual at the worst point is the last left singular vector.
    worst = torch.linalg.lstsq(matrix, targets + left[:, -1], driver="gelsd").solution
    points = torch.vstack([randn(5, n + extra, seed=seed + 2), worst])

    # A point is known to rounding times the condition number; the residual, and hence the ratio, likewise.
    slack = 1e-12 * (singular[0] / singular[-1]).item() ** 2
    assume(slack < 1e-3)
    assert math.isclose(pl.pl_ratio(system, worst), mu, rel_tol=slack)
    assert pl.check_pl_star(system, mu * (1 - slack), points).holds
    assert pl.check_pl_star(system, mu, points[:5]).holds
    check = pl.check_pl_star(system, 1.01 * mu, points)
    assert not check.holds and check.num_checked == 6
    if n > 1:
        assert torch.equal(check.witness, worst)
    assert math.isclose(check.smallest_ratio, mu, rel_tol=slack)


def test_mu_itself_passes_at_the_worst_point_up_to_rounding():
    matrix = torch.diag(torch.tensor([3.0, 0.3], dtype=torch.float64))
    system = pl.toys.linear(matrix, [1.0, 1.0])
    worst = torch.tensor([[1 / 3, 2 / 0.3]], dtype=torch.float64)
    assert pl.check_pl_star(system, 0.09, worst).holds
    assert not pl.check_pl_star(system, 0.09 * (1 + 1e-8), worst).holds


# The small closed forms


@given(a=VALUES, b=VALUES, y=VALUES)
def test_product_has_the_squared_norm_for_ratio(a, b, y):
    ratio = pl.pl_ratio(pl.toys.product(y), [a, b])
    expected = a * a + b * b if a * b != y else math.inf
    assert math.isclose(ratio, expected, rel_tol=ROUNDING)


@given(w=VALUES)
def test_repeated_equations_have_ratio_two_though_the_kernel_is_singular(w):
    system = pl.toys.repeated()
    assert pl.kernel_spectrum(system, [w]).smallest == 0
    if w == 0:
        assert pl.pl_ratio(system, [w]) == math.inf
    else:
        assert math.isclose(pl.pl_ratio(system, [w]), 2, rel_tol=ROUNDING)
        # With other targets the residual leaves the diagonal, and the ratio drops to 0 at w = 0.
        assert pl.pl_ratio(pl.toys.repeated((1.0, -1.0)), [0.0]) <= ROUNDING


@pytest.mark.statement(name="PL* condition", kind="negative")
def test_square_without_a_solution_fails_at_zero_and_holds_with_epsilon():
    """y = -1: the ratio is 4 w^2 and L = (w^2 + 1)^2 / 2, so L >= epsilon means w^2 >= sqrt(2 epsilon) - 1."""
    system = pl.toys.square(-1.0)
    points = torch.linspace(-3, 3, 25, dtype=torch.float64)[:, None]  # every quarter, so 0 and 1 are hit exactly
    check = pl.check_pl_star(system, 1e-9, points)
    assert not check.holds and check.witness.tolist() == [0.0] and check.smallest_ratio == 0
    assert check.num_checked == 25

    check = pl.check_pl_star(system, 4.0, points, epsilon=2.0)
    assert check.holds and check.witness is None and check.smallest_ratio == 4 and check.num_checked == 18
    check = pl.check_pl_star(system, 4.04, points, epsilon=2.0)
    assert not check.holds and check.witness.abs().tolist() == [1.0]
    # Just below, the points with L = 1.56^2 / 2 count, and they have ratio 2.25.
    check = pl.check_pl_star(system, 4.0, points, epsilon=1.2)
    assert not check.holds and check.smallest_ratio == 2.25


@given(epsilon=st.floats(0.6, 50), fraction=st.floats(-5, 5))
def test_square_holds_with_the_closed_form_mu_for_every_epsilon(epsilon, fraction):
    mu = 4 * (math.sqrt(2 * epsilon) - 1)
    edge = math.sqrt(mu) / 2
    points = torch.tensor([[fraction], [edge * (1 + 1e-9)], [edge * (1 - 1e-9)]], dtype=torch.float64)
    check = pl.check_pl_star(pl.toys.square(-1.0), mu, points, epsilon=epsilon)
    assert check.holds and check.num_checked == 1 + (abs(fraction) > edge)
    assert not pl.check_pl_star(pl.toys.square(-1.0), 1.01 * mu, points, epsilon=epsilon).holds


@pytest.mark.statement(name="Theorem 1", kind="negative")
def test_chain_holds_off_its_singular_plane_only():
    """K = [[w1^2 + w2^2, w1 w3], [w1 w3, w2^2 + w3^2]] has smallest eigenvalue w2^2."""
    system = pl.toys.chain()
    points = randn(50, 3)
    for w in points:
        assert pl.pl_ratio(system, w) >= w[1] ** 2 * (1 - ROUNDING)
    # On the plane w2 = 0 the value is 0; the residual (-1, -1) against K = (w1, w3)(w1, w3)^T gives (w1 + w3)^2 / 2.
    assert math.isclose(pl.pl_ratio(system, [3.0, 0.0, 1.0]), 8, rel_tol=ROUNDING)
    assert pl.pl_ratio(system, [3.0, 0.0, -3.0]) <= ROUNDING


# One kernel, all targets


@pytest.mark.statement(name="Proposition 3", kind="positive")
@given(seed=SEEDS, scale=st.floats(0.1, 5))
@runs(max_examples=30)
def test_a_singular_kernel_fails_for_some_targets(seed, scale):
    w = randn(3, seed=seed)
    w[1] = 0  # the singular plane of the chain
    chain = pl.toys.chain()
    values, vectors = torch.linalg.eigh(chain.jacobian(w) @ chain.jacobian(w).T)
    targets = chain.value(w) - scale * vectors[:, 0]
    system = pl.toys.chain(targets.tolist())
    assert system.loss(w) > 0 and pl.pl_ratio(system, w) <= ROUNDING * values[1]


@pytest.mark.statement(name="Proposition 3", kind="negative")
@given(seed=SEEDS)
@runs(max_examples=30)
def test_a_regular_kernel_fails_for_no_targets(seed):
    w = randn(3, seed=seed)
    assume(abs(w[1]) > 1e-3)
    for targets in randn(20, 2, seed=seed + 1):
        system = pl.toys.chain(targets.tolist())
        assert pl.pl_ratio(system, w) >= pl.kernel_spectrum(system, w).smallest * (1 - ROUNDING) > 0


# The ratio in general


@pytest.mark.parametrize("name", EXAMPLES)
def test_ratio_equals_the_twin_and_lies_in_the_spectrum(name):
    system = EXAMPLES[name]()
    for seed in range(3):
        w = system.start + seed * randn(system.num_parameters, seed=seed)
        assert_between_the_eigenvalues(system, w)
        assert math.isclose(pl.pl_ratio(system, w), reference.pl_ratio(system, w), rel_tol=1e-10)


def assert_between_the_eigenvalues(system, w):
    spectrum, ratio = pl.kernel_spectrum(system, w), pl.pl_ratio(system, w)
    assert spectrum.smallest - spectrum.error <= ratio <= spectrum.largest + spectrum.error


@pytest.mark.statement(name="Theorem 1", kind="positive")
@given(seed=SEEDS, n=st.integers(1, 6), p=st.integers(1, 8), scale=st.floats(0, 3))
@runs(max_examples=60)
def test_ratio_lies_in_the_spectrum_of_random_quadratics(seed, n, p, scale):
    system = pl.toys.quadratics(n, p, seed=seed)
    assert_between_the_eigenvalues(system, scale * randn(p, seed=seed + 1))


@given(seed=SEEDS, width=st.integers(1, 20), outputs=st.integers(1, 3))
@runs(max_examples=30)
def test_ratio_lies_in_the_spectrum_of_random_networks(seed, width, outputs):
    system = network(lambda: pl.MLP(3, [width], outputs, seed=seed), 3, seed=seed)
    assert_between_the_eigenvalues(system, system.start)


@pytest.mark.parametrize("size", [1e-200, 1e-310, 1e200])
def test_residuals_whose_square_under_or_overflows_keep_their_ratio(size):
    """Linear systems: the ratio does not change when w is scaled."""
    matrix, w = randn(3, 4), randn(4, seed=1)
    system = pl.toys.linear(matrix, torch.zeros(3))
    # Numbers near 1e-310 are denormal and carry some 13 digits.
    assert math.isclose(pl.pl_ratio(system, size * w), pl.pl_ratio(system, w), rel_tol=1e-10)


def test_a_solution_satisfies_every_mu():
    system = pl.toys.product(2.0)
    assert pl.pl_ratio(system, [2.0, 1.0]) == math.inf
    check = pl.check_pl_star(system, 1e300, [[2.0, 1.0]])
    assert check.holds and check.smallest_ratio == math.inf and check.num_checked == 1


def test_the_start_is_the_default_point():
    assert pl.pl_ratio(pl.toys.product(start=(3.0, 4.0))) == pytest.approx(25, rel=ROUNDING)


def test_no_point_above_epsilon_means_nothing_was_checked():
    check = pl.check_pl_star(pl.toys.product(), 1.0, [[0.0, 0.0]], epsilon=100.0)
    assert check.holds and check.num_checked == 0 and check.smallest_ratio == math.inf and check.witness is None


def test_the_witness_is_the_worst_point_not_the_first_bad_one():
    check = pl.check_pl_star(pl.toys.product(), 10.0, [[1.0, 2.0], [5.0, 0.0], [0.1, 0.2], [1.0, 0.0]])
    assert_close(check.witness, torch.tensor([0.1, 0.2], dtype=torch.float64))
    assert check.smallest_ratio == pytest.approx(0.05, rel=ROUNDING) and check.mu == 10 and check.epsilon == 0


# Refusals

NOT_A_NUMBER = float("nan")
REFUSALS = {
    "negative mu": ((-0.5, [[1.0, 2.0]]), {}, ["mu", "-0.5", ">= 0"]),
    "NaN mu": ((NOT_A_NUMBER, [[1.0, 2.0]]), {}, ["mu", "nan"]),
    "infinite mu": ((math.inf, [[1.0, 2.0]]), {}, ["mu", "inf"]),
    "negative epsilon": ((1.0, [[1.0, 2.0]]), {"epsilon": -2.0}, ["epsilon", "-2.0", ">= 0"]),
    "NaN epsilon": ((1.0, [[1.0, 2.0]]), {"epsilon": NOT_A_NUMBER}, ["epsilon", "nan"]),
    "single point": ((1.0, [1.0, 2.0]), {}, ["(2,)", "(k, 2)", "w[None]"]),
    "points too long": ((1.0, [[1.0, 2.0, 3.0]]), {}, ["(1, 3)", "(k, 2)"]),
    "no points": ((1.0, torch.zeros(0, 2)), {}, ["(0, 2)", "k >= 1"]),
    "NaN points": ((1.0, [[1.0, NOT_A_NUMBER]]), {}, ["points", "NaN"]),
    "F overflows": ((1.0, [[1e200, 1e200]]), {}, ["F(w) is not finite"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused(case):
    arguments, options, words = REFUSALS[case]
    with pytest.raises(ValueError) as caught:
        pl.check_pl_star(pl.toys.product(), *arguments, **options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("points", [[[2.0], [0.0]], [[0.0], [2.0]]])
def test_a_derivative_that_is_not_finite_is_refused_not_ignored(points):
    """F(w) = sqrt(w^2) has no derivative at 0, and NaN compares with nothing."""
    system = pl.System(lambda w: (w**2).sqrt(), [1.0], [2.0])
    with pytest.raises(ValueError, match="derivative.*not finite"):
        pl.check_pl_star(system, 0.5, points)
    assert pl.check_pl_star(system, 0.5, [[2.0], [-3.0]]).holds
