import math
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from helpers import network, randn

import plbook as pl

SEEDS = st.integers(0, 10**6)
ROUNDING = 1e-12


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


# F(w) = w^2, y = -1: the ratio is 4 w^2 and L = (w^2 + 1)^2 / 2, so mu(epsilon) = 4 (sqrt(2 epsilon) - 1) on a fine grid.


GRID = torch.linspace(-3, 3, 601, dtype=torch.float64)[:, None]


@cache
def curve_of_the_square():
    return pl.pl_star_curve(pl.toys.square(-1.0), GRID)


@given(epsilon=st.floats(0.5, 40))
def test_the_curve_of_the_square_is_the_closed_form(epsilon):
    curve = curve_of_the_square()
    exact = 4 * (math.sqrt(2 * epsilon) - 1)
    # The next grid point outward is at most 0.01 away in w.
    outward = 4 * (math.sqrt(exact) / 2 + 0.0101) ** 2
    assert exact * (1 - ROUNDING) <= curve.largest_mu(epsilon) <= outward
    if exact > 0.01:
        # And back: the largest loss with a smaller ratio is one grid point inward.
        inward = ((math.sqrt(exact) / 2 - 0.0101) ** 2 + 1) ** 2 / 2
        assert inward <= curve.smallest_epsilon(exact) <= epsilon * (1 + ROUNDING)


def test_a_curve_by_hand():
    """w = 2, 1, 0, -1, 3: ratios 16, 4, 0, 4, 36 and losses 12.5, 2, 0.5, 2, 50; the two points with L = 2 are a tie."""
    curve = pl.pl_star_curve(pl.toys.square(-1.0), column(2, 1, 0, -1, 3))
    assert curve.losses.tolist() == [12.5, 2, 0.5, 2, 50] and curve.ratios.tolist() == [16, 4, 0, 4, 36]
    assert curve.thresholds.tolist() == [0.5, 2, 12.5, 50] and curve.constants.tolist() == [0, 4, 16, 36]
    # A point with L = epsilon counts; the next number above no longer.
    above = math.nextafter(2.0, math.inf)
    assert [curve.largest_mu(e) for e in (0, 0.5, 0.51, 2, above, 50, 50.1)] == [0, 0, 4, 4, 16, 36, math.inf]
    assert curve.smallest_epsilon(0) == 0
    assert curve.smallest_epsilon(4) == math.nextafter(0.5, 1) and curve.smallest_epsilon(4.01) == above
    # With mu above every ratio nothing may count.
    last = curve.smallest_epsilon(100)
    assert last == math.nextafter(50, 51) and curve.largest_mu(last) == math.inf


def test_ties_take_the_smallest_ratio_whichever_point_comes_first():
    """F = (w1^2, w2^3), y = 0, has L = 1/2 at (1, 0) with ratio 4 and at (0, 1) with ratio 9."""
    system = pl.System(lambda w: torch.stack([w[0] ** 2, w[1] ** 3]), [0.0, 0.0], [1.0, 1.0])
    points = torch.eye(2, dtype=torch.float64)
    for order in (points, points.flip(0)):
        curve = pl.pl_star_curve(system, order)
        assert sorted(curve.ratios.tolist()) == [4, 9]
        assert curve.thresholds.tolist() == [0.5] and curve.constants.tolist() == [4]


def test_solutions_have_no_say():
    """At a solution L = 0 and the ratio is inf: the curve starts there, and only epsilon = 0 counts it."""
    system = pl.toys.product(2.0)
    curve = pl.pl_star_curve(system, [[2.0, 1.0], [1.0, 1.0]])
    assert curve.losses.tolist() == [0, 0.5] and curve.ratios.tolist() == [math.inf, 2]
    assert curve.constants.tolist() == [2, 2] and curve.largest_mu() == 2 and curve.smallest_epsilon(2) == 0
    alone = pl.pl_star_curve(system, [[2.0, 1.0]])
    assert alone.largest_mu() == alone.largest_mu(1.0) == math.inf and alone.smallest_epsilon(1e300) == 0


@given(seed=SEEDS, n=st.integers(1, 4), p=st.integers(1, 5), count=st.integers(1, 6))
@runs(max_examples=40)
def test_the_curve_says_what_checks_of_the_points_say(seed, n, p, count):
    """largest_mu and smallest_epsilon against check_pl_star: both hold, and neither can be improved."""
    system = pl.toys.quadratics(n, p, seed=seed)
    points = randn(count, p, seed=seed + 1)
    points = torch.vstack([points, points[: count // 2]])
    curve = pl.pl_star_curve(system, points)
    for epsilon in [0.0, *curve.thresholds.tolist(), *(1.01 * curve.thresholds).tolist()]:
        mu = curve.largest_mu(epsilon)
        check = pl.check_pl_star(system, 0.0, points, epsilon=epsilon)
        assert mu == check.smallest_ratio and (mu == math.inf) == (check.num_checked == 0)
    for mu in torch.cat([curve.ratios, 1.01 * curve.ratios, (1 + 1e-11) * curve.ratios]).tolist():
        epsilon = curve.smallest_epsilon(mu)
        assert pl.check_pl_star(system, mu, points, epsilon=epsilon).holds
        assert curve.largest_mu(epsilon) >= mu * (1 - 1e-10)
        if epsilon > 0:
            assert not pl.check_pl_star(system, mu, points, epsilon=math.nextafter(epsilon, 0)).holds
    assert (curve.constants.diff() >= 0).all() and (curve.thresholds.diff() > 0).all()
    assert curve.constants[0] == curve.ratios.min()


def test_a_constant_beyond_the_curve_is_refuted_and_epsilon_pays_for_it():
    """An under-parameterized network: PL* fails with mu near the end of the run, PL*_epsilon holds with the same mu."""
    system = network(lambda: pl.MLP(3, [2]), 3, num_inputs=20)
    run = pl.gradient_descent(system, max_steps=2000, record_every=100)
    curve = pl.pl_star_curve(system, run.points)
    mu = curve.ratios[0].item() / 10
    epsilon = curve.smallest_epsilon(mu)
    assert not pl.check_pl_star(system, mu, run.points).holds and curve.largest_mu() < mu
    assert 0 < epsilon < curve.losses[0] and pl.check_pl_star(system, mu, run.points, epsilon=epsilon).holds


REFUSALS = {
    "single point": (lambda s: pl.pl_star_curve(s, [1.0, 2.0]), ["(2,)", "(k, 2)"]),
    "no points": (lambda s: pl.pl_star_curve(s, torch.zeros(0, 2)), ["(0, 2)"]),
    "overflow": (lambda s: pl.pl_star_curve(s, [[1e200, 1e200]]), ["not finite"]),
    "negative epsilon": (lambda s: pl.pl_star_curve(s, [[1.0, 2.0]]).largest_mu(-1.0), ["epsilon", "-1.0"]),
    "NaN mu": (lambda s: pl.pl_star_curve(s, [[1.0, 2.0]]).smallest_epsilon(math.nan), ["mu", "nan"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused(case):
    call, words = REFUSALS[case]
    with pytest.raises(ValueError) as caught:
        call(pl.toys.product())
    assert all(word in str(caught.value) for word in words), str(caught.value)
