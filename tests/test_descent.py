import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from helpers import EXAMPLES, network, randn
from torch.testing import assert_close

import plbook as pl
from plbook import reference

SEEDS = st.integers(0, 10**6)
NOT_A_NUMBER = float("nan")


def rate(trajectory, system):
    """1 - eta mu with mu the smallest eigenvalue of K met on the recorded points."""
    mu = min(pl.kernel_spectrum(system, w).smallest for w in trajectory.points)
    return max(0.0, 1 - trajectory.step_size * mu)


def below_the_guarantee(trajectory, factor):
    """Whether every loss is at most factor^t times the first; rounding has its floor."""
    losses = trajectory.losses / trajectory.losses[0]
    guarantee = factor ** torch.arange(len(losses), dtype=torch.float64)
    return bool((losses <= guarantee * (1 + 1e-10) + 1e-28).all())


# The iteration


@pytest.mark.parametrize("name", EXAMPLES)
def test_run_equals_the_twin_step_by_step(name):
    system = EXAMPLES[name]()
    w = system.start + 0.1 * randn(system.num_parameters, seed=7)
    run = pl.gradient_descent(system, w, step_size=0.01, max_steps=20, record_every=1)
    assert_close(run.losses, reference.gradient_descent(system, w, 0.01, 20), rtol=1e-10, atol=0)
    assert run.steps == 20 and run.recorded_steps == tuple(range(21)) and run.constants == ()
    assert_close(run.distances, (run.points - w).norm(dim=1), rtol=1e-12, atol=0)
    assert torch.equal(run.points[0], w) and torch.equal(run.points[-1], run.w)
    assert_close(run.losses, torch.stack([system.loss(point) for point in run.points]), rtol=1e-12, atol=0)


def test_one_step_by_hand():
    """F(w) = w^2, y = -1 at w = 1: the gradient is 2 w (w^2 + 1) = 4, so a step of 1/8 leads to 1/2."""
    run = pl.gradient_descent(pl.toys.square(), step_size=0.125, max_steps=1)
    assert run.w.tolist() == [0.5] and run.losses.tolist() == [2.0, 0.78125] and run.distances.tolist() == [0, 0.5]


@pytest.mark.parametrize("every, kept", [(None, [0, 7]), (1, range(8)), (3, [0, 3, 6, 7]), (7, [0, 7]), (50, [0, 7])])
def test_the_start_the_end_and_every_so_many_points_are_recorded(every, kept):
    system = pl.toys.product()
    run = pl.gradient_descent(system, step_size=0.01, max_steps=7, record_every=every)
    full = pl.gradient_descent(system, step_size=0.01, max_steps=7, record_every=1)
    assert run.recorded_steps == tuple(kept)
    assert torch.equal(run.points, full.points[list(kept)])


def test_no_steps_at_all():
    run = pl.gradient_descent(pl.toys.product(), max_steps=0)
    assert run.steps == 0 and run.recorded_steps == (0,) and torch.equal(run.w, run.points[0]) and len(run.constants) == 1


def test_the_start_is_not_changed():
    w = torch.tensor([2.0, 1.0], dtype=torch.float64)
    pl.gradient_descent(pl.toys.product(), w, step_size=0.1, max_steps=3)
    assert w.tolist() == [2, 1]


# The linearization


@pytest.mark.parametrize("name", EXAMPLES)
def test_linearized_losses_equal_the_twin(name):
    system = EXAMPLES[name]()
    w = system.start + 0.1 * randn(system.num_parameters, seed=7)
    assert_close(
        pl.linearized_losses(system, 0.01, 30, w),
        reference.linearized_losses(system, w, 0.01, 30),
        rtol=1e-9,
        atol=1e-12,
    )


@given(seed=SEEDS, n=st.integers(1, 5), extra=st.integers(0, 5), step=st.floats(0.001, 0.3))
@runs(max_examples=40)
def test_a_linear_system_is_its_own_linearization(seed, n, extra, step):
    system = pl.toys.linear(randn(n, n + extra, seed=seed), randn(n, seed=seed + 1), randn(n + extra, seed=seed + 2))
    losses = pl.gradient_descent(system, step_size=step, max_steps=20).losses
    assert_close(pl.linearized_losses(system, step, len(losses) - 1), losses, rtol=1e-8, atol=1e-12)


def test_a_curved_system_is_not_its_linearization():
    system = pl.toys.product()
    run = pl.gradient_descent(system, step_size=0.05, max_steps=10)
    linear = pl.linearized_losses(system, 0.05, 10)
    assert_close(linear[0], run.losses[0])
    assert (linear[1:] / run.losses[1:] - 1).abs().max() > 0.1


# The default step size


def dense_constants(system, w):
    jacobian_norm = torch.linalg.matrix_norm(reference.jacobian(system, w), 2)
    return jacobian_norm, reference.hessian_norms(system, w).norm(), system.residual(w).norm()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_default_step_size_is_theorem_6s(name):
    system = EXAMPLES[name]()
    w = system.start + 0.1 * randn(system.num_parameters, seed=7)
    L, beta, r0 = dense_constants(system, w)
    run = pl.gradient_descent(system, w, max_steps=1)
    # Lanczos is good to 1%, and has run to the end on systems with up to 60 unknowns.
    assert run.step_size == pytest.approx((1 / (L**2 + beta * r0)).item(), rel=1e-9 if system.num_parameters <= 60 else 1e-2)
    first = run.constants[0]
    assert (first.jacobian_norm, first.residual_norm) == pytest.approx((L.item(), r0.item()), rel=1e-10)
    assert first.step_size == run.step_size
    assert pl.step_constants(system, w) == first


def test_constants_are_those_of_the_recorded_points():
    system = pl.toys.quadratics(3, 8)
    run = pl.gradient_descent(system, max_steps=4, record_every=2)
    assert run.constants == tuple(pl.step_constants(system, w) for w in run.points) and len(run.constants) == 3


def test_no_default_step_where_all_derivatives_vanish():
    system = pl.System(lambda w: w**3, [1.0], [0.0])
    with pytest.raises(ValueError, match="vanish.*Pass step_size"):
        pl.gradient_descent(system, max_steps=1)
    assert "gradient is zero" in pl.gradient_descent(system, step_size=0.1, max_steps=1).status


# The guarantee


@given(seed=SEEDS, n=st.integers(1, 6), extra=st.integers(0, 6))
@runs(max_examples=40)
def test_linear_systems_keep_the_guarantee_at_every_step(seed, n, extra):
    system = pl.toys.linear(randn(n, n + extra, seed=seed), randn(n, seed=seed + 1))
    run = pl.gradient_descent(system, max_steps=60)
    factor = rate(run, system)
    assert run.step_size == pytest.approx(1 / pl.kernel_spectrum(system).largest)
    assert below_the_guarantee(run, factor)
    assert "were not exceeded" in run.status


def test_beyond_two_over_lambda_max_the_guarantee_breaks_and_the_run_diverges():
    system = pl.toys.linear([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0])
    run = pl.gradient_descent(system, step_size=2.1 / 4, max_steps=20000)
    assert not below_the_guarantee(run, rate(run, system))
    assert run.status.startswith("diverged: the loss is not finite") and not math.isfinite(run.losses[-1])
    assert (run.losses[1:] > run.losses[:-1])[20:].all()
    # At 1.9 / lambda_max it converges still.
    calm = pl.gradient_descent(system, step_size=1.9 / 4, max_steps=200)
    assert calm.losses[-1] < 1e-6 * calm.losses[0]


def test_doubling_mu_breaks_the_guarantee():
    """Read without the factor 1/2, PL* gives F(w) = w the constant 2 mu; eta = 1/2 then promises a loss of 0."""
    system = pl.toys.linear([[1.0]], [0.0], [1.0])
    run = pl.gradient_descent(system, step_size=0.5, max_steps=3)
    assert below_the_guarantee(run, 1 - 0.5 * 1)
    assert not below_the_guarantee(run, 1 - 0.5 * 2)


def test_quadratics_keep_theorem_6s_rate_where_the_constants_held():
    runs_that_held = 0
    for seed in range(24):
        system = pl.toys.quadratics(1 + seed % 3, 8, seed=seed)
        run = pl.gradient_descent(system, max_steps=20, record_every=5)
        if "were not exceeded" in run.status:
            runs_that_held += 1
            assert below_the_guarantee(run, rate(run, system)), seed
    assert runs_that_held >= 5


@pytest.mark.parametrize("seed", range(4))
def test_networks_keep_theorem_6s_rate_where_the_constants_held(seed):
    data = pl.datasets.sphere(4, 6, seed=seed)
    system = pl.NetworkSystem(pl.MLP(6, [300], activation="sin", seed=seed), data.inputs, data.targets)
    run = pl.gradient_descent(system, max_steps=60, record_every=20)
    factor = rate(run, system)
    assert factor < 1 and run.losses[-1] < run.losses[0]
    assert below_the_guarantee(run, factor)


# The status


def test_the_tolerance_is_relative_to_the_starting_loss():
    system = pl.toys.linear([[1.0]], [0.0], [8.0])
    run = pl.gradient_descent(system, step_size=0.5, max_steps=100, loss_tolerance=1 / 16)
    assert run.status == "reached the loss tolerance" and run.steps == 2 and run.losses.tolist() == [32, 8, 2]


def test_a_run_out_of_steps_says_so():
    system = pl.toys.linear([[1.0]], [0.0], [8.0])
    options = {"step_size": 0.5, "max_steps": 3}
    assert pl.gradient_descent(system, **options).status == "took all its steps"
    assert "without reaching the loss tolerance" in pl.gradient_descent(system, **options, loss_tolerance=1e-9).status


def test_a_start_at_a_solution_stops_at_once():
    run = pl.gradient_descent(pl.toys.product(2.0), max_steps=10)
    assert run.steps == 0 and run.status.startswith("reached the loss tolerance")


@pytest.mark.parametrize("step_size", [0.1, None])
def test_a_critical_point_that_is_no_solution_is_named(step_size):
    run = pl.gradient_descent(pl.toys.square(-1.0), [0.0], step_size=step_size, max_steps=10)
    assert run.steps == 0 and run.status.startswith("stopped: the computed gradient is zero")


def test_exceeded_constants_are_named():
    """F(w) = w1 w2 from (2, 0.1) to w1 w2 = 30: |DF| = |w| must grow; the Hessian's norm is 1 everywhere."""
    run = pl.gradient_descent(pl.toys.product(30.0), [2.0, 0.1], max_steps=200, record_every=10)
    largest = max(c.jacobian_norm for c in run.constants)
    assert f"exceeded on the recorded points: L_F = 2 at the start, {largest:.3g} later;" in run.status
    assert "beta_F = " not in run.status
    allowed = all(run.step_size <= c.step_size for c in run.constants)
    assert ("still is at most" if allowed else "is not at most") in run.status


def test_an_exceeded_hessian_is_named_and_the_step_judged():
    """F(w) = w^4 towards 16 from 1/2: both constants grow, and the step of the start is too long for the end."""
    system = pl.System(lambda w: w**4, [16.0], [0.5])
    run = pl.gradient_descent(system, max_steps=50, record_every=1)
    assert "L_F = 0.5 at the start" in run.status and "beta_F = 3 at the start" in run.status
    assert "the step size is not at most" in run.status


def test_a_diverging_run_with_the_default_step_is_a_status_not_an_error():
    """From near the critical point 0, DF and H are tiny, and the default step is far too long."""
    system = pl.System(lambda w: w**6, [1.0, 1.0], [0.05, 0.06])
    run = pl.gradient_descent(system, max_steps=50, record_every=1)
    assert run.status.startswith("diverged") and "exceeded on the recorded points" in run.status


def test_an_honest_run_is_told_apart():
    """F(w) = sin(w) towards 1/2 from 0: cos(w) only decreases. H = -sin(w) is 0 at the start, so it is exceeded."""
    run = pl.gradient_descent(pl.toys.linear([[1.0]], [0.5]), max_steps=5)
    assert run.status.endswith("were not exceeded by more than 1% on the recorded points")
    sine = pl.gradient_descent(pl.toys.sines([[1.0]], [0.5]), max_steps=5)
    assert "exceeded on the recorded points: beta_F = 0 at the start" in sine.status and "L_F = " not in sine.status.split(";")[1]


def test_a_run_that_has_stopped_falling_says_so():
    """From (0.2, 0) the cubic slides to its singular point (1, 0), where the loss is (1/3)^2 / 2 and the slope 0."""
    system = pl.toys.cubic(target=-1.0, start=(0.2, 0.0))
    run = pl.gradient_descent(system, step_size=0.05, max_steps=2000)
    assert "stopped falling" in run.status and abs(run.losses[-1] - 1 / 18) < 1e-9
    assert "stopped falling" not in pl.gradient_descent(system, step_size=0.05, max_steps=20).status


REFUSALS = {
    "zero step": ({"step_size": 0.0}, ["step_size", "0.0"]),
    "negative step": ({"step_size": -0.1}, ["step_size", "-0.1"]),
    "NaN step": ({"step_size": NOT_A_NUMBER}, ["step_size", "nan"]),
    "infinite step": ({"step_size": math.inf}, ["step_size", "inf"]),
    "negative steps": ({"max_steps": -1}, ["max_steps", "-1"]),
    "half a step": ({"max_steps": 2.5}, ["max_steps", "2.5"]),
    "NaN steps": ({"max_steps": NOT_A_NUMBER}, ["max_steps", "nan"]),
    "NaN start": ({"w": [1.0, NOT_A_NUMBER]}, ["start", "finite"]),
    "tolerance one": ({"loss_tolerance": 1.0}, ["loss_tolerance", "relative", "1.0"]),
    "negative tolerance": ({"loss_tolerance": -1e-3}, ["loss_tolerance", "-0.001"]),
    "NaN tolerance": ({"loss_tolerance": NOT_A_NUMBER}, ["loss_tolerance", "nan"]),
    "record never": ({"record_every": 0}, ["record_every", "0", "None"]),
    "record half": ({"record_every": 1.5}, ["record_every", "1.5"]),
    "start too long": ({"w": [1.0, 2.0, 3.0]}, ["(3,)", "(2,)"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_options_are_refused(case):
    options, words = REFUSALS[case]
    with pytest.raises(ValueError) as caught:
        pl.gradient_descent(pl.toys.product(), **{"max_steps": 3, **options})
    assert all(word in str(caught.value) for word in words), str(caught.value)
