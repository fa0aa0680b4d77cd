import math
from dataclasses import dataclass
from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from helpers import network, randn

import plbook as pl
from plbook.conditions import uniform

SEEDS = st.integers(0, 10**6)
# The lower end is rounded downward, the upper end up to rounding: they may cross by rounding of |DF|^2 only.
ROUNDING = 1e-12


def with_constant(system, beta):
    """The same system with a constant that somebody claims to have proved."""
    return pl.System(system.value, system.targets, system.start, jacobian_lipschitz=beta)


def smallest(system, w):
    return pl.kernel_spectrum(system, w).smallest


def in_the_ball(system, radius, count, seed=0):
    steps = randn(count, system.num_parameters, seed=seed)
    lengths = radius * torch.rand(count, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return system.start + steps / steps.norm(dim=1, keepdim=True) * lengths


# Closed forms


@pytest.mark.statement(name="Definition 3", kind="positive")
@pytest.mark.parametrize("radius", [0.1, 1.0, 2.0])
def test_both_ends_meet_where_the_bound_is_attained(radius):
    """w1 w2: K = |w|^2, beta = 1; from (2, 1) the infimum (sqrt(5) - radius)^2 is where the ball comes closest to 0."""
    record = pl.uniform_conditioning(pl.toys.product(), radius)
    infimum = (math.sqrt(5) - radius) ** 2
    assert infimum * (1 - 1e-6) <= record.lower <= infimum * (1 + ROUNDING)
    assert record.upper == pytest.approx(infimum, rel=1e-9)
    direction = torch.tensor([2.0, 1.0], dtype=torch.float64) / math.sqrt(5)
    assert torch.allclose(record.witness, (math.sqrt(5) - radius) * direction, atol=1e-4)
    assert record.radius == radius


@pytest.mark.statement(name="Definition 3", kind="negative")
def test_a_singular_point_in_the_ball_is_found_and_nothing_is_certified():
    record = pl.uniform_conditioning(pl.toys.product(), 2.5)
    assert record.lower == 0 and record.upper < 1e-20 and record.witness.norm() < 1e-10
    # From (-2, 1.5) the nearer singular point (-1, 0) of the cubic is at distance 1.80.
    for radius, singular in [(1.85, True), (1.75, False)]:
        record = pl.uniform_conditioning(pl.toys.cubic(), radius)
        assert (record.upper < 1e-10) == singular
        assert (record.witness - pl.toys.cubic().start).norm() <= radius * (1 + ROUNDING)


@pytest.mark.parametrize("radius", [0.5, 1.5, 3.0])
def test_of_the_chain_only_the_distance_to_its_plane_counts(radius):
    """K has eigenvalues w2^2 and |w|^2, and DF is linear in w with norm |w|: beta = 1, and both ends meet."""
    record = pl.uniform_conditioning(with_constant(pl.toys.chain(), 1.0), radius)
    infimum = max(0.0, 2.0 - radius) ** 2
    assert infimum * (1 - 1e-6) <= record.lower <= infimum * (1 + ROUNDING)
    assert record.upper == pytest.approx(infimum, rel=1e-6, abs=1e-12)


def test_sines_lose_conditioning_along_one_coordinate():
    """F = sin(2 w): K = 4 diag(cos^2(2 w_i)), so on the ball about 0 the infimum is 4 cos^2(2 radius)."""
    system = pl.toys.sines(2 * torch.eye(3, dtype=torch.float64), [0.0] * 3)
    record = pl.uniform_conditioning(system, 0.5)
    assert record.upper == pytest.approx(4 * math.cos(1.0) ** 2, rel=1e-6) and record.lower == 0
    record = pl.uniform_conditioning(system, 0.25)
    assert record.upper == pytest.approx(4 * math.cos(0.5) ** 2, rel=1e-6)
    # beta = |A|_2 times the largest row norm = 4: (2 - 4/4)^2.
    assert record.lower == pytest.approx(1, rel=1e-6)


def test_a_linear_system_is_conditioned_alike_everywhere():
    matrix = randn(3, 5)
    record = pl.uniform_conditioning(pl.toys.linear(matrix, randn(3)), 1e6)
    exact = torch.linalg.svdvals(matrix)[-1].item() ** 2
    assert record.lower == pytest.approx(exact, rel=1e-6) and record.upper == pytest.approx(exact, rel=1e-12)


def test_more_equations_than_unknowns_are_never_conditioned():
    record = pl.uniform_conditioning(pl.toys.repeated(), 0.5)
    assert record.lower == record.upper == 0


# Against the ball itself


@given(seed=SEEDS)
@runs(max_examples=6)
def test_the_search_finds_what_a_grid_finds(seed):
    """Quadratics with 2 unknowns: a grid of some 3,000 points of the disk, whose spacing is a 30th of the radius."""
    system, radius = pl.toys.quadratics(2, 2, seed=seed), 0.7
    side = torch.linspace(-radius, radius, 61, dtype=torch.float64)
    steps = torch.cartesian_prod(side, side)
    grid = system.start + steps[steps.norm(dim=1) <= radius]
    rows = torch.func.vmap(torch.func.jacrev(system.value))(grid)
    best = torch.linalg.svdvals(rows)[:, -1].min().item()
    record = pl.uniform_conditioning(system, radius)
    # Two hundredths of |DF| is less than the grid itself may miss.
    assert math.sqrt(record.upper) <= best + 0.02 * torch.linalg.matrix_norm(rows, 2).max().item()
    assert record.upper == smallest(system, record.witness)
    assert (record.witness - system.start).norm() <= radius * (1 + ROUNDING)


@given(seed=SEEDS, n=st.integers(1, 3), extra=st.integers(0, 3), share=st.floats(0.05, 1.5))
@runs(max_examples=12)
def test_the_lower_end_is_below_every_value_in_the_ball(seed, n, extra, share):
    """Quadratics: DF(w + s) - DF(w) has rows C_i s, so beta = sqrt(sum |C_i|^2) is proven."""
    system = pl.toys.quadratics(n, n + extra, seed=seed)
    beta = pl.hessian_norms(system, rtol=1e-12).joint
    radius = share * math.sqrt(smallest(system, system.start)) / beta
    record = pl.uniform_conditioning(with_constant(system, beta * (1 + 1e-9)), radius)
    expected = max(0.0, math.sqrt(smallest(system, system.start)) - beta * radius) ** 2
    assert record.lower == pytest.approx(expected, rel=1e-4, abs=1e-9)
    slack = ROUNDING * pl.jacobian_norm(system) ** 2
    assert record.lower <= record.upper + slack and record.upper <= smallest(system, system.start) + slack
    for w in in_the_ball(system, radius, 10, seed):
        assert smallest(system, w) >= record.lower - slack
    # Every target: uniform conditioning is about F alone.
    other = pl.System(system.value, randn(n, seed=seed + 5), system.start)
    assert pl.check_pl_star(other, record.lower, in_the_ball(system, radius, 10, seed)).holds


def test_a_constant_that_is_too_small_is_exposed_by_the_upper_end():
    """The product with half of its beta: the lower end passes the upper one, so the claim was false."""
    record = pl.uniform_conditioning(with_constant(pl.toys.product(), 0.5), 1.0)
    assert record.lower > record.upper * 1.5


@pytest.mark.parametrize("build", [lambda: pl.MLP(6, [40]), lambda: pl.ResNet(6, [30, 30], activation="gelu")])
def test_a_network_gets_a_bracket_that_closes_with_the_radius(build):
    inputs = pl.datasets.sphere(5, 6)
    system = pl.NetworkSystem(build(), inputs.inputs, inputs.targets)
    center = smallest(system, system.start)
    widths = []
    for radius in (1e-4, 1e-2):
        record = pl.uniform_conditioning(system, radius)
        assert 0 < record.lower <= record.upper < center
        assert all(smallest(system, w) >= record.lower for w in in_the_ball(system, radius, 5))
        widths.append(record.upper - record.lower)
    assert widths[0] < widths[1] / 30 and widths[0] < 1e-2 * center


def test_descent_goes_below_what_sampling_finds():
    """F = |w|^2/2 with 200 unknowns, K = |w|^2: random points about e1 are hardly nearer to 0, yet the infimum is 1/4."""
    start = torch.eye(200, dtype=torch.float64)[0]
    system = pl.System(lambda w: (w @ w / 2)[None], [0.0], start, jacobian_lipschitz=1.0)
    record = pl.uniform_conditioning(system, 0.5)
    assert min(smallest(system, w) for w in in_the_ball(system, 0.5, 50)) > 0.8
    assert record.upper == pytest.approx(0.25, rel=1e-9) and record.lower == pytest.approx(0.25, rel=1e-6)
    system = network(lambda: pl.MLP(4, [40]), 4, num_inputs=6)
    record = pl.uniform_conditioning(system, 0.5)
    assert record.upper < min(smallest(system, w) for w in in_the_ball(system, 0.5, 50))


# Rigour


@dataclass
class Beta:
    center: float
    rigour: str


@dataclass
class Kernel:
    smallest_eigenvalue: float
    rigour: str


@pytest.mark.parametrize(
    "of_beta, of_kernel, expected",
    [
        ("verified", "verified", "verified"),
        ("verified", "verified linear algebra", "verified linear algebra"),
        ("float bound", "verified linear algebra", "float bound"),
        ("verified", "estimate", "estimate"),
        ("estimate", "verified", "estimate"),
    ],
)
def test_the_weaker_rigour_counts_and_an_estimate_certifies_nothing(monkeypatch, of_beta, of_kernel, expected):
    monkeypatch.setattr(uniform, "jacobian_lipschitz_bound", lambda system, radius, w: Beta(1.0, of_beta))
    monkeypatch.setattr(uniform, "kernel_bounds", lambda system, w: Kernel(4.0, of_kernel))
    record = pl.uniform_conditioning(pl.toys.product(), 1.0)
    assert record.rigour == expected
    assert record.lower == (0.0 if expected == "estimate" else pytest.approx(1, rel=1e-12))
    # Rounded downward: the exact value is (2 - 1)^2.
    assert record.lower < 1


def test_the_lower_end_is_rounded_downward():
    """Against 60 digits, with cancellation: eigenvalues up to 1, and beta radius close to their square roots."""
    draws = torch.rand(1000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).tolist()
    for eigenvalue, beta, gap in draws:
        radius = math.sqrt(eigenvalue) / beta * (1 - gap**8)
        with localcontext(prec=60):
            exact = max(Decimal(0), Decimal(eigenvalue).sqrt() - Decimal(beta) * Decimal(radius)) ** 2
        lower = uniform._lower_end(eigenvalue, beta, radius)
        assert lower <= exact
        # Some roundings of sqrt(eigenvalue) below, no more.
        assert math.sqrt(lower) >= float(exact.sqrt()) - 1e-15 * math.sqrt(eigenvalue)


def test_bounds_that_reach_zero_give_zero(monkeypatch):
    monkeypatch.setattr(uniform, "jacobian_lipschitz_bound", lambda system, radius, w: Beta(10.0, "verified"))
    for eigenvalue in (4.0, 0.0, -1e-12):
        monkeypatch.setattr(uniform, "kernel_bounds", lambda system, w: Kernel(eigenvalue, "verified"))
        record = pl.uniform_conditioning(pl.toys.product(), 1.0)
        assert record.lower == 0 and record.rigour == "verified"


def test_a_system_without_a_proven_constant_gets_an_estimate():
    system = pl.System(lambda w: w[:1] * w[1:], [1.0], [2.0, 1.0])
    record = pl.uniform_conditioning(system, 1.0)
    assert record.rigour == "estimate" and record.lower == 0
    assert record.upper == pytest.approx((math.sqrt(5) - 1) ** 2, rel=1e-9)


def test_the_search_is_seeded_and_the_ball_may_be_about_another_point():
    system = pl.toys.quadratics(2, 4)
    first, again = pl.uniform_conditioning(system, 0.3), pl.uniform_conditioning(system, 0.3)
    assert torch.equal(first.witness, again.witness) and first.upper == again.upper
    assert pl.uniform_conditioning(pl.toys.product(), 1.0, [6.0, 8.0]).upper == pytest.approx(81, rel=1e-9)


def exponential():
    return pl.System(lambda w: w.exp(), [1.0], [0.0])


REFUSALS = {
    "radius 0": (pl.toys.product, 0.0, ["radius", "> 0", "0.0"]),
    "negative radius": (pl.toys.product, -1.0, ["-1.0"]),
    "NaN radius": (pl.toys.product, math.nan, ["nan"]),
    "infinite radius": (pl.toys.product, math.inf, ["inf"]),
    "ReLU": (lambda: network(lambda: pl.MLP(3, [8], activation="relu"), 3), 0.1, ["ReLU"]),
    "overflow": (lambda: with_constant(exponential(), 1.0), 1e4, ["not finite", "smaller radius"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused(case):
    build, radius, words = REFUSALS[case]
    with pytest.raises(ValueError) as caught:
        pl.uniform_conditioning(build(), radius)
    assert all(word in str(caught.value) for word in words), str(caught.value)
