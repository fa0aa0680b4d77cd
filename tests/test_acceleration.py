import math

import pytest
import torch
from helpers import randn
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st

import plbook as pl
from plbook.acceleration import METHODS

SEEDS = st.integers(0, 10**6)


def companion_rates(eigenvalues, step_size, momentum, method):
    """Twin: the spectral radii of the companion matrices, by a general eigenvalue routine."""
    rates = []
    for x in eigenvalues.tolist():
        shrink = 1 - step_size * x
        first = [(1 + momentum) * shrink, -momentum * shrink] if method == "nesterov" else [momentum + shrink, -momentum]
        rates.append(torch.linalg.eigvals(torch.tensor([first, [1.0, 0.0]], dtype=torch.float64)).abs().max())
    return torch.stack(rates)


def linear(seed, n=4, p=7):
    matrix = randn(n, p, seed=seed)
    return pl.toys.linear(matrix, randn(n, seed=seed + 1)), torch.linalg.svdvals(matrix).square()


def residuals(eigenvalues, r0, constants, method, steps):
    """Twin: each component of the residual by its recursion of two terms."""
    before = now = r0
    for _ in range(steps):
        shrink = 1 - constants.step_size * eigenvalues
        if method == "nesterov":
            now, before = shrink * (now + constants.momentum * (now - before)), now
        else:
            now, before = shrink * now + constants.momentum * (now - before), now
    return now


@pytest.mark.parametrize("method", METHODS)
@given(seed=SEEDS, momentum=st.floats(0, 0.99), step_size=st.floats(0.01, 3.0))
@runs(max_examples=40)
def test_rates_are_spectral_radii_of_companion_matrices(method, seed, momentum, step_size):
    eigenvalues = randn(5, seed=seed).square()
    rates = pl.momentum_rates(eigenvalues, step_size=step_size, momentum=momentum, method=method)
    # A double root is known to the square root of the rounding only.
    assert torch.allclose(rates, companion_rates(eigenvalues, step_size, momentum, method), rtol=1e-6, atol=1e-6)


@pytest.mark.statement(name="Momentum on linear systems", kind="positive")
@pytest.mark.parametrize("method", METHODS)
@given(seed=SEEDS)
@runs(max_examples=15)
def test_the_residual_of_a_linear_system_obeys_the_two_term_recursion(method, seed):
    system, eigenvalues = linear(seed)
    constants = pl.momentum_constants(eigenvalues[-1].item(), eigenvalues[0].item(), method=method)
    options = {"step_size": constants.step_size, "momentum": constants.momentum, "method": method}
    run = pl.accelerated_gradient_descent(system, **options, max_steps=25)
    values, vectors = torch.linalg.eigh(pl.tangent_kernel(system))
    expected = residuals(values, vectors.T @ system.residual(system.start), constants, method, 25)
    assert torch.allclose(vectors.T @ system.residual(run.w), expected, rtol=0, atol=1e-12 * run.losses[0].sqrt())
    assert run.steps == 25 and run.recorded_steps == (0, 25) and torch.equal(run.points[1], run.w)
    assert run.distances[-1] == (run.w - system.start).norm()


@pytest.mark.statement(name="Momentum on linear systems", kind="positive")
@pytest.mark.parametrize("method", METHODS)
@given(smallest=st.floats(1e-3, 1.0), factor=st.floats(1.0, 1e4))
@runs(max_examples=40)
def test_the_textbook_constants_have_the_textbook_rate_on_the_whole_range(method, smallest, factor):
    largest = smallest * factor
    constants = pl.momentum_constants(smallest, largest, method=method)
    eigenvalues = torch.linspace(smallest, largest, 50, dtype=torch.float64)
    rates = pl.momentum_rates(eigenvalues, step_size=constants.step_size, momentum=constants.momentum, method=method)
    root = math.sqrt(largest / smallest)
    assert constants.rate == pytest.approx(1 - 1 / root if method == "nesterov" else (root - 1) / (root + 1), abs=1e-12)
    assert rates.max() == pytest.approx(constants.rate, abs=1e-6)


@pytest.mark.statement(name="Momentum on linear systems", kind="negative")
def test_the_same_constants_make_the_heavy_ball_cycle_where_the_equation_is_not_linear():
    system = pl.toys.kinked()
    constants = pl.momentum_constants(1.0, 25.0, method="heavy ball")
    options = {"step_size": constants.step_size, "momentum": constants.momentum, "method": "heavy ball"}
    losses = pl.accelerated_gradient_descent(system, **options, max_steps=303).losses
    assert losses[-3:].min() > 5 and torch.allclose(losses[-3:], losses[-6:-3], rtol=1e-10)
    assert pl.gradient_descent(system, step_size=1 / 25, max_steps=303).losses[-1] < 1e-8
    # On a linear equation within the same range it arrives.
    line = pl.toys.linear([[5.0]], [0.0], [3.3])
    assert pl.accelerated_gradient_descent(line, **options, max_steps=303).losses[-1] < 1e-20


@pytest.mark.parametrize("method", METHODS)
def test_without_momentum_it_is_gradient_descent(method):
    system = pl.toys.quadratics(2, 5)
    ours = pl.accelerated_gradient_descent(system, step_size=0.01, momentum=0.0, method=method, max_steps=20)
    theirs = pl.gradient_descent(system, step_size=0.01, max_steps=20)
    assert torch.equal(ours.w, theirs.w) and torch.equal(ours.losses, theirs.losses)
    assert ours.status == "took all its steps"


def test_a_run_says_that_it_diverged_or_arrived():
    line = pl.toys.linear([[1.0]], [1.0])
    run = pl.accelerated_gradient_descent(line, step_size=1e200, momentum=0.5, max_steps=50)
    assert run.status.startswith("diverged") and run.steps < 50
    arrived = pl.accelerated_gradient_descent(line, [1.0], step_size=0.1, momentum=0.5, max_steps=50)
    assert arrived.status == "reached a solution" and arrived.steps == 0
    # A solution that it flies past is not the end.
    assert pl.accelerated_gradient_descent(line, step_size=1.0, momentum=0.5, method="heavy ball", max_steps=2).losses[-1] > 0


@pytest.mark.parametrize("change, name", [
    ({"step_size": 0.0}, "step_size"), ({"step_size": math.inf}, "step_size"), ({"momentum": 1.0}, "momentum"),
    ({"momentum": -0.1}, "momentum"), ({"momentum": math.nan}, "momentum"), ({"method": "adam"}, "method"), ({"max_steps": 1.5}, "max_steps"),
])
def test_wrong_options_are_refused(change, name):
    with pytest.raises(ValueError, match=name):
        pl.accelerated_gradient_descent(pl.toys.product(), **{"step_size": 0.1, "momentum": 0.5, "max_steps": 3, **change})


def test_other_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="start w must be finite"):
        pl.accelerated_gradient_descent(pl.toys.product(), [math.nan, 1.0], step_size=0.1, momentum=0.5, max_steps=3)
    for pair in ((0.0, 1.0), (2.0, 1.0), (1.0, math.inf)):
        with pytest.raises(ValueError, match="eigenvalues"):
            pl.momentum_constants(*pair)
    with pytest.raises(ValueError, match="method"):
        pl.momentum_constants(1.0, 2.0, method="polyak")
    with pytest.raises(ValueError, match="momentum"):
        pl.momentum_rates([1.0], step_size=1.0, momentum=2.0)


def test_kinked_is_the_loss_that_its_docstring_gives():
    system = pl.toys.kinked()
    for w, slope in ((-2.0, -50.0), (0.5, 12.5), (1.5, 25.5), (3.0, 51.0)):
        assert system.gradient([w]).item() == pytest.approx(slope, rel=1e-12)
    for w, loss in ((-2.0, 50.0), (1.0, 12.5), (2.0, 38.0), (3.0, 76.5)):
        assert system.loss([w]).item() == pytest.approx(loss, rel=1e-12)
    line = torch.linspace(-3, 5, 200, dtype=torch.float64)[:, None]
    assert pl.check_pl_star(system, 1.0, line).holds and not pl.check_pl_star(system, 25.0, line).holds
