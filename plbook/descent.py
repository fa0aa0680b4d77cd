"""Gradient descent and stochastic gradient descent with the theorems' step sizes, and the record of a run: chapters 8 and 9."""

from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor
from tqdm import tqdm

from plbook.conditions.relaxation import stochastic_step_size
from plbook.hessian import hessian_norms
from plbook.tangent_kernel import jacobian_norm, kernel_spectrum, tangent_kernel


# A step that lowers the loss by less than about this fraction does not lead anywhere.
NEGLIGIBLE = 1e-9


@dataclass(frozen=True)
class StepConstants:
    """What Theorem 6 makes its step size of, measured at one point (estimates, not bounds over a ball)."""

    jacobian_norm: float
    hessian_bound: float
    residual_norm: float

    @property
    def step_size(self):
        """1 / (L_F^2 + beta_F r0)."""
        return 1 / (self.jacobian_norm**2 + self.hessian_bound * self.residual_norm)


def step_constants(system, w=None):
    """L_F = |DF(w)|_2, beta_F = |(|H_1|_2, ..., |H_n|_2)|_2 and the residual norm at w.

    beta_F is at most sqrt(n) max_i |H_i|_2. Cost: a tangent kernel and the Hessian norms.
    Source: the paper's Theorem 6, which takes these constants over a ball.
    """
    w = system.point(w)
    return StepConstants(jacobian_norm(system, w), hessian_norms(system, w).joint, system.residual(w).norm().item())


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A run of gradient descent or stochastic gradient descent.

    `losses` and `distances` (from the start) have one entry per step and one for the start. `points` holds the
    recorded iterates, shape (k, p), taken at the steps `recorded_steps`; `w` is the last iterate; `steps` counts the
    steps. `status` says how the run ended: it reached the loss tolerance, took all its steps (and whether the loss had
    stopped falling), met a zero gradient, or diverged. `constants` are the StepConstants at the recorded points if the
    step size was the default of `gradient_descent`, else empty.
    """

    losses: Tensor
    distances: Tensor
    w: Tensor
    points: Tensor
    recorded_steps: tuple
    step_size: float
    status: str
    constants: tuple

    @property
    def steps(self):
        """The number of steps taken."""
        return len(self.losses) - 1


def gradient_descent(system, w=None, *, step_size=None, max_steps, loss_tolerance=0.0, record_every=None):
    """Gradient descent w <- w - step_size grad L(w) on the square loss.

    Args:
        w: the start; None means system.start.
        step_size: None means Theorem 6's 1/(L_F^2 + beta_F r0) with the constants of the start. They are measured
            again at the recorded points, and `status` says if they were exceeded there.
        max_steps: stop after this many steps.
        loss_tolerance: stop when the loss is at most this times the starting loss.
        record_every: keep every so many iterates in `points`; the start and the last are always kept.

    Returns:
        A Trajectory. A run that diverges or stalls is not an error: `status` says so.

    Cost: about 3 evaluations of F a step; with the default step size also a tangent kernel and the Hessian norms
    at every recorded point. Memory: the recorded points.

    Raises:
        ValueError: for options out of range, or if DF and every Hessian vanish at the start (no default step).

    Source: the paper's equation (5) and Theorem 6.
    """
    _check_options(step_size, max_steps, loss_tolerance, record_every)
    start = w = system.point(w)
    if not start.isfinite().all():
        raise ValueError("the start w must be finite, but some of its entries are NaN or infinite.")
    at_start = None
    if step_size is None:
        at_start = step_constants(system, start)
        if at_start.jacobian_norm**2 + at_start.hessian_bound * at_start.residual_norm == 0:
            raise ValueError("DF and all Hessians vanish at the start, so Theorem 6 gives no step size. Pass step_size.")
        step_size = at_start.step_size

    losses, distances, recorded = [], [], {}
    with tqdm(total=max_steps, desc="gradient descent", disable=None, delay=2, leave=False) as progress:
        for step in range(max_steps + 1):
            residual, gradient = system._residual_and_gradient(w)
            losses.append((0.5 * residual @ residual).item())
            distances.append((w - start).norm().item())
            if record_every is not None and step % record_every == 0:
                recorded[step] = w
            status = _reason_to_stop(losses, gradient, step_size, loss_tolerance, max_steps)
            if status:
                break
            w = w - step_size * gradient
            progress.update()
    recorded = {0: start, **recorded, step: w}
    constants = ()
    if at_start is not None:
        finite = [point for point in list(recorded.values())[1:] if point.isfinite().all()]
        constants = (at_start, *(step_constants(system, point) for point in finite))
        status += _verdict(constants, step_size)
    return Trajectory(
        losses=torch.tensor(losses, dtype=torch.float64),
        distances=torch.tensor(distances, dtype=torch.float64),
        w=w,
        points=torch.stack(list(recorded.values())),
        recorded_steps=tuple(recorded),
        step_size=step_size,
        status=status,
        constants=constants,
    )


def stochastic_gradient_descent(system, w=None, *, batch_size, step_size=None, max_steps, seed, record_every=None):
    """Stochastic gradient descent: w <- w - step_size times the sum of the gradients of a batch of equations' losses.

    L is the sum of l_i = 1/2 (F_i - y_i)^2 over all n equations. A batch is drawn uniformly with replacement, so an
    equation may count twice. The losses of the record are those of all equations.

    Args:
        w: the start; None means system.start.
        batch_size: s, the number of draws in each step.
        step_size: None means mu / (beta (n beta + mu (s - 1))), the corrected bound of Theorem 7, with mu the smallest
            eigenvalue of K and beta = max_i (|DF_i|^2 + |F_i - y_i| |H_i|_2), both at the start: estimates, the
            theorem asks for constants on a ball.
        max_steps: stop after this many steps.
        seed: of the generator that draws the batches; the same seed gives the same run.
        record_every: keep every so many iterates in `points`; the start and the last are always kept.

    Returns:
        A Trajectory. A run that diverges is not an error: `status` says so.

    Cost: 2 evaluations of F and one vector-Jacobian product a step, over all equations, since the whole loss is
    recorded; with the default step size also a spectrum of K and the Hessian norms at the start.

    Raises:
        ValueError: for options out of range, or if K is not told from a singular one at the start (no default step).

    Source: the paper's Theorem 7, whose step size is up to n times smaller.
    """
    _check_options(step_size, max_steps, 0.0, record_every)
    if not (isfinite(batch_size) and batch_size >= 1 and int(batch_size) == batch_size):
        raise ValueError(f"batch_size must be a whole number >= 1, got {batch_size}.")
    start = w = system.point(w)
    if not start.isfinite().all():
        raise ValueError("the start w must be finite, but some of its entries are NaN or infinite.")
    n = system.num_equations
    if step_size is None:
        spectrum = kernel_spectrum(system, start)
        if not spectrum.resolved:
            raise ValueError("K is not told from a singular matrix at the start, so Theorem 7 gives no step size. Pass step_size.")
        rows = tangent_kernel(system, start).diagonal()
        smoothness = (rows + system.residual(start).abs() * hessian_norms(system, start).per_equation).max().item()
        step_size = stochastic_step_size(spectrum.smallest, smoothness=smoothness, num_equations=n, batch_size=batch_size)

    generator = torch.Generator().manual_seed(seed)
    losses, distances, recorded = [], [], {}
    with tqdm(total=max_steps, desc="stochastic gradient descent", disable=None, delay=2, leave=False) as progress:
        for step in range(max_steps + 1):
            residual = system.residual(w)
            losses.append((0.5 * residual @ residual).item())
            distances.append((w - start).norm().item())
            if record_every is not None and step % record_every == 0:
                recorded[step] = w
            if not isfinite(losses[-1]):
                status = f"diverged: the loss is not finite after {step} steps; the step size is too large"
                break
            if step == max_steps:
                status = "took all its steps"
                break
            draws = torch.randint(n, (batch_size,), generator=generator)
            counts = torch.bincount(draws, minlength=n).to(residual)
            w = w - step_size * system.vjp(w, counts * residual)
            progress.update()
    recorded = {0: start, **recorded, step: w}
    return Trajectory(
        losses=torch.tensor(losses, dtype=torch.float64),
        distances=torch.tensor(distances, dtype=torch.float64),
        w=w,
        points=torch.stack(list(recorded.values())),
        recorded_steps=tuple(recorded),
        step_size=step_size,
        status=status,
        constants=(),
    )


def linearized_losses(system, step_size, num_steps, w=None):
    """The losses of gradient descent on the linearization w -> F(w0) + DF(w0)(w - w0), shape (num_steps + 1,).

    1/2 |(I - step_size K)^t r0|^2, from the eigenvalues of K(w0): exact, no iteration.
    Source: the linear case of the paper's Section 5; for wide networks Lee et al., NeurIPS 2019.
    """
    w = system.point(w)
    eigenvalues, vectors = torch.linalg.eigh(tangent_kernel(system, w))
    weights = (vectors.T @ system.residual(w)).square()
    factors = (1 - step_size * eigenvalues).square()
    powers = torch.arange(num_steps + 1, dtype=torch.float64)
    return 0.5 * (factors[None, :] ** powers[:, None]) @ weights


def _check_options(step_size, max_steps, loss_tolerance, record_every):
    if step_size is not None and not (isfinite(step_size) and step_size > 0):
        raise ValueError(f"step_size must be a positive number, or None for Theorem 6's; got {step_size}.")
    if not (isfinite(max_steps) and max_steps >= 0 and int(max_steps) == max_steps):
        raise ValueError(f"max_steps must be a whole number >= 0, got {max_steps}.")
    if not 0 <= loss_tolerance < 1:
        raise ValueError(f"loss_tolerance is relative to the starting loss and must lie in [0, 1), got {loss_tolerance}.")
    if record_every is not None and not (isfinite(record_every) and record_every >= 1 and int(record_every) == record_every):
        raise ValueError(f"record_every must be a whole number >= 1, or None for the two ends; got {record_every}.")


def _reason_to_stop(losses, gradient, step_size, loss_tolerance, max_steps):
    loss = losses[-1]
    if not isfinite(loss):
        return f"diverged: the loss is not finite after {len(losses) - 1} steps; the step size is too large"
    if loss <= loss_tolerance * losses[0]:
        return "reached the loss tolerance"
    if not gradient.any():
        return "stopped: the computed gradient is zero but the loss is not"
    if len(losses) > max_steps:
        status = "took all its steps without reaching the loss tolerance" if loss_tolerance else "took all its steps"
        ratio = 0.5 * gradient.square().sum().item() / loss
        if step_size * ratio < NEGLIGIBLE:
            status += f"; the loss has stopped falling, at a PL ratio of {ratio:.1g}"
        return status
    return ""


def _verdict(constants, step_size):
    """What the recorded points say of the two constants that the default step size was made of."""
    first = constants[0]
    exceeded = []
    for name, symbol in (("jacobian_norm", "L_F"), ("hessian_bound", "beta_F")):
        at_start, largest = getattr(first, name), max(getattr(c, name) for c in constants)
        # Norms from Lanczos are good to 1%: less is not an excess.
        if largest > 1.01 * at_start:
            exceeded.append(f"{symbol} = {at_start:.3g} at the start, {largest:.3g} later")
    if not exceeded:
        return "; L_F and beta_F of the start were not exceeded by more than 1% on the recorded points"
    allowed = all(step_size <= c.step_size for c in constants)
    return (
        f"; exceeded on the recorded points: {', '.join(exceeded)}; the step size "
        + ("still is" if allowed else "is not")
        + " at most 1/(L_F^2 + beta_F r) at each of them"
    )
