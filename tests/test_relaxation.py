"""The statements of chapter 10 on systems that meet their hypotheses, and what breaks without them."""

import math
from math import inf, log, sqrt

import pytest
import torch
from helpers import randn
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st

import plbook as pl

SEEDS = st.integers(0, 10**6)
# Sums of a few float64 numbers, compared with bounds that they may attain.
SLACK = 1 + 1e-10


def contradictory(seed, n=6, p=3):
    """(system, its smallest loss L*, sigma_min^2, sigma_max^2) of linear equations without a solution."""
    matrix, targets = randn(n, p, seed=seed), randn(n, seed=seed + 1)
    system = pl.toys.linear(matrix, targets, 3 * randn(p, seed=seed + 2))
    floor = system.loss(torch.linalg.lstsq(matrix, targets).solution).item()
    singular = torch.linalg.svdvals(matrix)
    return system, floor, singular[-1].item() ** 2, singular[0].item() ** 2


def valley_constant(epsilon, height=0.5):
    """The constant of the bumpy valley's docstring."""
    return 1 - (7 * height / 4) ** 2 / (2 * epsilon)


def local_minimum():
    """The local minimum of the bumpy valley near w1 = 3 pi/5, by bisection of the slope of its bottom."""
    low, high = 1.7, 2.1
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.cos(middle) / 4 < 2.5 * math.sin(5 * middle) else (low, middle)
    return torch.tensor([low, low**2 / 4], dtype=torch.float64)


def first_below(losses, epsilon):
    """The first step with a loss below epsilon, inf if there is none."""
    return next((t for t, loss in enumerate(losses.tolist()) if loss < epsilon), inf)


def check_promise(system, run, epsilon, mu, promise):
    """The three claims of Theorem 9 about a run."""
    start, decay = run.losses[0].item(), 1 - run.step_size * mu
    stop = first_below(run.losses, epsilon)
    assert stop <= promise.steps
    assert all(run.losses[t] <= decay**t * start * SLACK for t in range(stop + 1))
    assert run.distances[: stop + 1].max() <= promise.radius * SLACK


# Definition 5


@pytest.mark.statement(name="Definition 5", kind="positive")
@given(seed=SEEDS, factor=st.floats(1.001, 20), height=st.floats(0.1, 2))
@runs(max_examples=40)
def test_the_bumpy_valley_satisfies_the_relaxed_condition_above_its_bottom(seed, factor, height):
    system = pl.toys.bumpy_valley(height)
    epsilon = factor * (7 * height / 4) ** 2 / 2
    wall = torch.tensor([[0.0, 20.0]], dtype=torch.float64)  # L >= 200, above every epsilon here
    points = torch.cat([4 * randn(25, 2, seed=seed), wall])
    check = pl.check_pl_star(system, valley_constant(epsilon, height), points, epsilon=epsilon)
    assert check.holds and check.num_checked > 0


@pytest.mark.statement(name="Definition 5", kind="negative")
def test_a_local_minimum_breaks_the_condition_for_every_epsilon_up_to_its_loss():
    system, point = pl.toys.bumpy_valley(), local_minimum()
    loss = system.loss(point).item()
    assert loss > 0.04 and pl.pl_ratio(system, point) < 1e-25
    for epsilon, counted in ((0.0, 1), (loss, 1), (math.nextafter(loss, 1), 0)):
        check = pl.check_pl_star(system, 1e-9, point[None], epsilon=epsilon)
        assert check.num_checked == counted and check.holds == (counted == 0)


# On a compact set: some mu > 0 works exactly if no critical point has a loss of at least epsilon.


BOX = torch.cartesian_prod(*[torch.linspace(-2, 2, 41, dtype=torch.float64)] * 2)


@pytest.mark.statement(name="The threshold is a critical value", kind="positive")
@pytest.mark.parametrize("epsilon", [0.06, 1.0])
def test_above_the_largest_critical_loss_some_constant_works(epsilon):
    """cubic(-1): the critical points with a loss are (1, 0), L = 1/18, and (-1, 0), L = 25/18 (outside this half)."""
    half = BOX[BOX[:, 0] >= 0]
    check = pl.check_pl_star(pl.toys.cubic(-1.0), 1e-6, half, epsilon=epsilon)
    assert check.holds and check.num_checked > 100


@pytest.mark.statement(name="The threshold is a critical value", kind="negative")
def test_up_to_the_largest_critical_loss_none_works():
    check = pl.check_pl_star(pl.toys.cubic(-1.0), 1e-6, BOX, epsilon=1.0)
    assert not check.holds and check.witness.tolist() == pytest.approx([-1.0, 0.0])
    assert pl.toys.cubic(-1.0).loss(check.witness).item() == pytest.approx(25 / 18)


# A floor under the loss: contradictory equations


@pytest.mark.statement(name="A floor under the loss", kind="positive")
@given(seed=SEEDS, factor=st.floats(1.001, 50))
@runs(max_examples=40)
def test_contradictory_linear_equations_have_exactly_this_constant(seed, factor):
    system, floor, weakest, _ = contradictory(seed)
    epsilon = factor * floor
    mu = weakest * (1 - 1 / factor)
    check = pl.check_pl_star(system, mu * (1 - 1e-9), 10 * randn(50, 3, seed=seed), epsilon=epsilon)
    assert check.holds and check.num_checked > 0
    # Attained: from the minimizer along the weakest direction, up to the loss epsilon.
    matrix = system.jacobian(system.start)
    best = torch.linalg.lstsq(matrix, system.targets).solution
    step = sqrt(2 * (epsilon - floor) / weakest)
    worst = best + step * torch.linalg.svd(matrix).Vh[-1]
    assert system.loss(worst).item() == pytest.approx(epsilon, rel=1e-9)
    assert pl.pl_ratio(system, worst) == pytest.approx(mu, rel=1e-6)


def labelled_twice(seed, pairs=2, moved=0.0):
    """A tanh network on 6 inputs, the first `pairs` of which appear again with the other label, moved by this much."""
    data = pl.datasets.sphere(6, 4, seed=seed)
    copies = data.inputs[:pairs] + moved * randn(pairs, 4, seed=seed + 1)
    inputs, targets = torch.cat([data.inputs, copies]), torch.cat([data.targets, -data.targets[:pairs]])
    return pl.NetworkSystem(pl.MLP(4, [32], seed=seed), inputs, targets)


@pytest.mark.statement(name="A floor under the loss", kind="positive")
@pytest.mark.parametrize("seed", range(3))
def test_a_network_with_an_input_labelled_twice_has_a_floor_of_one_a_pair(seed):
    """Labels +1 and -1 on one input leave 1/2 (f - 1)^2 + 1/2 (f + 1)^2 >= 1. K on the rest of the residual is regular."""
    system = labelled_twice(seed)
    for w in system.start + 0.3 * randn(20, system.num_parameters, seed=seed):
        eigenvalues = torch.linalg.eigvalsh(pl.tangent_kernel(system, w))
        assert eigenvalues[:2].abs().max() < 1e-10 < 1e-3 < eigenvalues[2]
        loss = system.loss(w).item()
        assert loss > 2 and pl.pl_ratio(system, w) >= eigenvalues[2].item() * (1 - 2 / loss) * (1 - 1e-9)


@pytest.mark.statement(name="A floor under the loss", kind="negative")
def test_inputs_that_differ_have_no_floor():
    """Moved by a tenth, the same inputs give a regular kernel, and the loss goes below 2."""
    system = labelled_twice(0, moved=0.1)
    assert pl.kernel_spectrum(system).resolved
    found = system.start
    for _ in range(50):
        jacobian = system.jacobian(found)
        found = found - jacobian.T @ torch.linalg.solve(jacobian @ jacobian.T, system.residual(found))
    assert system.loss(found) < 1e-20


# Theorem 9


@pytest.mark.statement(name="Theorem 9", kind="positive")
@given(seed=SEEDS, factor=st.floats(1.05, 5), fraction=st.floats(0.1, 1))
@runs(max_examples=30, deadline=None)
def test_descent_on_contradictory_equations_gets_below_epsilon_in_time(seed, factor, fraction):
    system, floor, weakest, beta = contradictory(seed)
    epsilon, mu = factor * floor, weakest * (1 - 1 / factor)
    loss = system.loss(system.start).item()
    promise = pl.descent_to_epsilon(loss, epsilon, mu, fraction / beta)
    run = pl.gradient_descent(system, step_size=fraction / beta, max_steps=min(promise.steps, 600))
    if promise.steps <= 600:
        check_promise(system, run, epsilon, mu, promise)
    if loss >= epsilon:
        assert promise.radius <= 2 * sqrt(2 * beta * loss) / mu


@pytest.mark.statement(name="Theorem 9", kind="positive")
@pytest.mark.parametrize("epsilon", [1.0, 2.0])
@pytest.mark.parametrize("start", [-3.0, 2.0, 6.0])
def test_descent_crosses_the_bumps(start, epsilon):
    """Not convex, and smooth on the whole line with 1 + a^2 k^2. |L'| >= |w| - a^2 k/2, and w^2 >= 2 epsilon - a^2 above epsilon.

    (|w| - c)^2 / (w^2 + a^2) grows with |w| from c on, so its value at w^2 = 2 epsilon - a^2 is a constant mu.
    """
    a, k = 0.5, 8.0
    system = pl.toys.bumps(a, k, start)
    mu = (sqrt(2 * epsilon - a**2) - a**2 * k / 2) ** 2 / (2 * epsilon)
    assert sqrt(2 * epsilon - a**2) > a**2 * k / 2
    grid = torch.linspace(-8, 8, 1601, dtype=torch.float64)[:, None]
    assert pl.check_pl_star(system, mu, grid, epsilon=epsilon).holds
    beta, loss = 1 + a**2 * k**2, system.loss(system.start).item()
    promise = pl.descent_to_epsilon(loss, epsilon, mu, 1 / beta)
    run = pl.gradient_descent(system, step_size=1 / beta, max_steps=promise.steps)
    check_promise(system, run, epsilon, mu, promise)


@pytest.mark.statement(name="Theorem 9", kind="negative")
def test_smoothness_read_on_the_ball_only_is_not_enough():
    """The ramp near 0 is 1 + w, smooth there with 1e-3: the printed radius is then 0.23, and no loss in it is below 0.7."""
    system, mu, epsilon, beta = pl.toys.ramp(), 0.4, 0.7, 1e-3
    radius = 2 * sqrt(2 * beta * system.loss(system.start).item()) / mu
    ball = torch.linspace(-radius, radius, 51, dtype=torch.float64)[:, None]
    curvature = [torch.func.hessian(system.loss)(w).item() for w in ball]
    assert max(curvature) <= beta and pl.check_pl_star(system, mu, ball, epsilon=epsilon).holds
    assert min(system.loss(w).item() for w in ball) > 0.77 > epsilon
    # With the constant of the whole line, 1/(4 d) = 5, the ball is larger and PL*_epsilon fails in it.
    whole = 2 * sqrt(2 * 5.0) / mu * torch.linspace(-1, 1, 51, dtype=torch.float64)[:, None]
    assert not pl.check_pl_star(system, mu, whole, epsilon=epsilon).holds


@pytest.mark.statement(name="Theorem 9", kind="negative")
def test_a_loss_that_is_negative_somewhere_is_not_enough():
    """L(w) = 1 + w on the whole line, smooth with every beta > 0: PL* in the ball, and no loss in it below 1/2."""
    mu, epsilon, beta = 0.4, 0.5, 1e-3
    radius = 2 * sqrt(2 * beta * 1.0) / mu
    assert all(0.5 * 1.0 >= mu * (1 + w) for w in (-radius, 0.0, radius)) and 1 - radius > epsilon


@pytest.mark.statement(name="Theorem 9", kind="negative")
def test_the_number_of_steps_is_not_bounded_below():
    """F(w) = w with step size 1 is done after one step for every epsilon: T is O(log(1/epsilon)), not Omega."""
    run = pl.gradient_descent(pl.toys.linear(torch.eye(1), [0.0], [1.0]), step_size=1.0, max_steps=1)
    assert all(first_below(run.losses, epsilon) == 1 for epsilon in (1e-1, 1e-10, 1e-300))
    assert pl.descent_to_epsilon(0.5, 1e-300, 1.0, 1.0).steps == 1


@pytest.mark.statement(name="Theorem 9", kind="negative")
def test_below_the_threshold_descent_gets_stuck():
    """At epsilon = 0.03 a local minimum with a loss of 0.066 breaks PL*_epsilon, and a run ends there."""
    system = pl.toys.bumpy_valley(start=(1.9, 2.0))
    run = pl.gradient_descent(system, step_size=0.05, max_steps=3000)
    assert (run.w - local_minimum()).norm() < 1e-6
    assert first_below(run.losses, 0.03) == inf and run.losses[-1] == pytest.approx(system.loss(local_minimum()).item())


# Theorem 9 with a smaller ball


@pytest.mark.statement(name="Theorem 9 with a smaller ball", kind="positive")
@given(angle=st.floats(0, 2 * math.pi), size=st.floats(0, 1.5), factor=st.floats(1.2, 4))
@runs(max_examples=20, deadline=None)
def test_descent_in_the_valley_with_the_smoothness_of_the_ball(angle, size, factor):
    height = 0.5
    start = (2.4 + size * math.cos(angle), 2.6 + size * math.sin(angle))
    system = pl.toys.bumpy_valley(height, start)
    loss, epsilon = system.loss(system.start).item(), factor * (7 * height / 4) ** 2 / 2
    mu = valley_constant(epsilon, height)
    radius = 2 * sqrt(2 * loss / mu)
    # |H_L| <= |DF|_F^2 + |F_1| |H_1| + |F_2| |H_2| with the largest |w1| and |F_1| of the ball.
    far = abs(start[0]) + radius
    wall = abs(start[1]) + radius + far**2 / 4
    beta = 1 + far**2 / 4 + (11 * height / 4) ** 2 + wall / 2 + (7 * height / 4) * (51 * height / 4)
    promise = pl.descent_to_epsilon(loss, epsilon, mu, 1 / beta)
    run = pl.gradient_descent(system, step_size=1 / beta, max_steps=promise.steps)
    check_promise(system, run, epsilon, mu, promise)
    if loss >= epsilon:
        assert promise.radius == pytest.approx(radius)


@pytest.mark.statement(name="Theorem 9 with a smaller ball", kind="negative")
def test_with_too_large_a_step_the_loss_need_not_fall():
    system, _, _, beta = contradictory(0)
    run = pl.gradient_descent(system, step_size=2.2 / beta, max_steps=200)
    assert run.losses[-1] > 10 * run.losses[0]


# Theorem 10: F(w) = (w, w), y = (1, -1) has L = w^2 + 1, each loss is 1-smooth, and the ratio 2 w^2/(w^2 + 1) = 2 - 2/L.


def two_opinions(epsilon, **options):
    """The system from w = 2, and the promise for it."""
    system = pl.toys.repeated((1.0, -1.0), 2.0)
    mu = 2 - 2 / epsilon
    promise = pl.stochastic_descent_to_epsilon(5.0, epsilon, mu, smoothness=1.0, num_equations=2, **options)
    return system, promise


def stochastic_runs(step_size, batch_size, steps, count=2000):
    """The unknown of `count` runs on the two opinions, shape (count, steps + 1): w <- w - step_size sum (w - y_i)."""
    draws = 1 - 2 * torch.randint(2, (steps, batch_size, count), generator=torch.Generator().manual_seed(0)).double()
    w = [torch.full((count,), 2.0, dtype=torch.float64)]
    for targets in draws:
        w.append(w[-1] - step_size * (w[-1] - targets).sum(dim=0))
    return torch.stack(w, dim=1)


@pytest.mark.statement(name="Theorem 10", kind="positive")
@pytest.mark.parametrize("epsilon", [1.05, 1.5, 3.0])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_stochastic_descent_gets_below_epsilon_in_time(epsilon, batch_size):
    system, promise = two_opinions(epsilon, batch_size=batch_size, leave=0.2, late=0.1)
    w = stochastic_runs(promise.step_size, batch_size, promise.steps)
    losses, t = w**2 + 1, torch.arange(promise.steps + 1)
    # Stopped at the first loss below epsilon or the first point outside the ball.
    inside = ((losses >= epsilon) & ((w - 2).abs() <= promise.radius)).cumprod(dim=1)
    means = (losses * inside).mean(dim=0)
    decay = (1 - promise.decay) ** t * 5
    assert (means <= decay * (1 + 1e-9)).all()
    assert (inside.double().mean(dim=0) <= decay / epsilon * (1 + 1e-9)).all()
    left = ((w - 2).abs() > promise.radius).cumsum(dim=1) > 0
    below = (losses < epsilon) & ~left
    # 2,000 runs: the observed share may miss its expectation by 0.03.
    assert below.any(dim=1).double().mean() >= 1 - 0.2 - 0.1 - 0.03


@pytest.mark.statement(name="Theorem 10", kind="negative")
def test_no_loss_is_below_the_smallest_one():
    """For epsilon <= 1 the point w = 0 breaks PL*_epsilon, and no run ever gets below epsilon; the mean cannot go to 0."""
    w = stochastic_runs(0.25, 1, 400)
    assert (w**2 + 1).min() >= 1 and pl.pl_ratio(pl.toys.repeated((1.0, -1.0)), [0.0]) == 0
    # An unconditional bound (1 - a)^t L(w0) on the mean fails from some t on, although PL*_epsilon holds for epsilon = 1.5.
    _, promise = two_opinions(1.5, batch_size=1)
    assert (1 - promise.decay) ** 400 * 5 < 1e-6 < 1 <= (w[:, -1] ** 2 + 1).mean()


@pytest.mark.statement(name="Theorem 10", kind="negative")
def test_a_run_that_was_below_epsilon_may_be_above_it_at_a_fixed_time():
    _, promise = two_opinions(1.05, batch_size=1, late=0.1)
    losses = stochastic_runs(promise.step_size, 1, promise.steps) ** 2 + 1
    came_back = (losses < 1.05).any(dim=1) & (losses[:, -1] >= 1.05)
    assert came_back.double().mean() > 0.01


# The promises as numbers


@given(
    ratio=st.floats(1, 1e6), epsilon=st.floats(1e-6, 1e3), fraction=st.floats(1e-4, 1, exclude_max=True), step=st.floats(1e-3, 10)
)
def test_the_steps_are_the_last_ones_that_the_decay_allows(ratio, epsilon, fraction, step):
    """T is the largest whole number with epsilon <= (1 - step mu)^(T - 1) L(w0), up to rounding."""
    loss, mu = ratio * epsilon, fraction / step
    if loss < epsilon or step * mu >= 1:
        return
    promise = pl.descent_to_epsilon(loss, epsilon, mu, step)
    needed = log(loss / epsilon)
    rate = -math.log1p(-step * mu)
    assert (promise.steps - 1) * rate <= needed * (1 + 1e-9) + 1e-8 * rate and promise.steps * rate >= needed * (1 - 1e-9)
    assert promise.radius == pytest.approx(sqrt(8 * loss / mu))


def test_promises_at_the_edges():
    assert pl.descent_to_epsilon(1.0, 2.0, 0.0, 0.1) == pl.DescentToEpsilon(0, 0.0)
    assert pl.descent_to_epsilon(2.0, 2.0, 0.0, 0.1) == pl.DescentToEpsilon(inf, inf)
    assert pl.descent_to_epsilon(2.0, 2.0, 0.5, 0.1).steps == 1
    # (1 - 1/2)^(T - 1) 8 >= 1 for T - 1 = 3.
    assert pl.descent_to_epsilon(8.0, 1.0, 0.5, 1.0) == pl.DescentToEpsilon(4, sqrt(8 * 8 / 0.5))


def test_the_stochastic_promise_by_hand():
    """n = 3, s = 2, gamma = 2, mu = 1: step 1/(2 (6 + 1)) = 1/14, decay 2/(14 * 3) = 1/21, radius 2 sqrt(12 L)/(1 * 0.5)."""
    promise = pl.stochastic_descent_to_epsilon(
        3.0, 1.0, 1.0, smoothness=2.0, num_equations=3, batch_size=2, leave=0.5, late=0.25
    )
    assert promise.step_size == pytest.approx(1 / 14) and promise.decay == pytest.approx(1 / 21)
    assert promise.radius == pytest.approx(24.0) and promise.steps == math.ceil(21 * log(12))
    assert pl.stochastic_descent_to_epsilon(
        0.5, 1.0, 1.0, smoothness=2.0, num_equations=3, batch_size=2
    ).steps == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((-1.0, 1.0, 1.0, 0.1), "loss"),
        ((1.0, 0.0, 1.0, 0.1), "epsilon"),
        ((1.0, 1.0, -1.0, 0.1), "mu"),
        ((1.0, 1.0, math.nan, 0.1), "mu"),
        ((1.0, 1.0, 1.0, 0.0), "step_size"),
        ((1.0, 1.0, 1.0, 1.1), "at most 1"),
    ],
)
def test_wrong_numbers_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        pl.descent_to_epsilon(*arguments)


@pytest.mark.parametrize(
    "changed, message",
    [({"mu": 0.0}, "mu"), ({"mu": 7.0}, "at most"), ({"leave": 1.0}, "leave"), ({"late": 0.0}, "late"),
     ({"batch_size": 0}, "batch_size"), ({"smoothness": inf}, "smoothness"), ({"loss": -1.0}, "loss")],
)
def test_wrong_stochastic_numbers_are_refused(changed, message):
    numbers = {"loss": 3.0, "epsilon": 1.0, "mu": 1.0, "smoothness": 2.0, "num_equations": 3, "batch_size": 2} | changed
    with pytest.raises(ValueError, match=message):
        pl.stochastic_descent_to_epsilon(**numbers)
