"""The measurements behind a diagnosis."""

from math import inf, isfinite, nan, sqrt

import torch

from plbook.bounds.graph import Kinked, NotLayered, read_graph
from plbook.certificates import Certificate, certify_solution
from plbook.conditions import pl_ratio
from plbook.descent import StepConstants
from plbook.diagnosis.report import Diagnosis
from plbook.hessian import hessian_norms
from plbook.systems import NetworkSystem
from plbook.tangent_kernel import kernel_spectrum, tangent_kernel

# Hessian norms take up to some 5 microseconds per equation and parameter, half a minute for this many on one core.
HESSIAN_ENTRIES = 5 * 10**6
# A certificate is tried where DF has at most this many entries: a second for a perceptron, 15 for convolutions.
CERTIFICATE_ENTRIES = 2 * 10**6


def diagnose(module, inputs, targets):
    """What limits optimization of this network on these data, at its present weights: a Diagnosis.

    Args:
        module, inputs, targets: as for NetworkSystem. The module is copied, in float64, and never changed. Class labels
            are refused; they go in as one-hot vectors.

    Returns:
        A Diagnosis. Print it, or let it be the last line of a notebook cell; its numbers are fields, `limits` the
        sentences, and `figure()` draws the spectrum of K.

    The step size and rate are those of a certificate, where one holds. Else they are Theorem 6's 1/(L_F^2 + beta_F r0) with
    the constants of this point, and 1 - step_size lambda_min(K): estimates of what a theorem about a whole ball would
    promise. `learning_rate` is the same step for torch.nn.MSELoss(), the mean over all n = inputs x outputs entries: as
    L = n/2 times that mean, it is step_size n / 2, for torch.optim.SGD without momentum on all inputs at once.

    With n equations and p parameters: Hessian norms of all equations are measured while n p is at most 5 10^6, and else of
    evenly spaced inputs (at least one); their joint norm is then scaled by the square root of the share, an estimate. A
    certificate is tried up to n p = 2 10^6, for networks whose parts the certified bounds know, and only where it can
    hold: no Hessian's norm exceeds beta, so h is at least max_i |H_i|_2 r0 / lambda_min.

    Cost: K, its eigenvalues, singular values of DF where `kernel_spectrum` takes them, the Hessian norms, a certificate.

    Raises:
        ValueError: as NetworkSystem does, for class labels, modules in training mode and data that do not fit.

    Source: the paper's Theorems 1 and 6; chapter 13.
    """
    system = NetworkSystem(module, inputs, targets)
    n, residual_norm = system.num_equations, system.residual(system.start).norm().item()
    kernel, spectrum = tangent_kernel(system), kernel_spectrum(system)
    norms = _hessian_norms(system)
    joint = norms.joint * sqrt(n / len(norms.per_equation))
    constants = StepConstants(sqrt(spectrum.largest), joint, residual_norm)
    kink, obstacle = _obstacles(system, norms.largest * residual_norm, spectrum)
    certificate = _failed(obstacle, residual_norm) if obstacle else certify_solution(system)

    number, number_rigour = certificate.kantorovich_number, certificate.rigour
    if not isfinite(number):
        number, number_rigour = _kantorovich_estimate(constants, spectrum, kink), "estimate"
    descent, step_rigour = certificate.descent, certificate.rigour
    if descent is not None:
        step_size, rate, mu = descent.step_size, descent.factor, descent.mu
    else:
        step_size, step_rigour = _step_size(constants), "estimate"
        mu = spectrum.smallest if spectrum.resolved else 0.0
        rate = max(1 - step_size * mu, 0.0)
    pair, gap = _closest_inputs(kernel, len(system._samples))
    return Diagnosis(
        name=type(module).__name__,
        num_inputs=len(system._samples),
        num_outputs=n // len(system._samples),
        num_parameters=system.num_parameters,
        loss=system.loss(system.start).item(),
        residual_norm=residual_norm,
        target_norm=system.targets.norm().item(),
        spectrum=spectrum,
        eigenvalues=torch.linalg.eigvalsh(kernel).cpu(),
        pl_ratio=pl_ratio(system),
        hessian_norms=norms,
        constants=constants,
        kink=kink,
        certificate=certificate,
        kantorovich_number=number,
        kantorovich_rigour=number_rigour,
        step_size=step_size,
        mu=mu,
        rate=rate,
        learning_rate=step_size * n / 2,
        step_rigour=step_rigour,
        num_silent=int((kernel.diagonal() <= spectrum.error).sum()),
        closest_inputs=pair,
        closest_gap=gap,
    )


def _hessian_norms(system):
    """Of all equations, or of as many evenly spaced inputs as HESSIAN_ENTRIES allows."""
    inputs = len(system._samples)
    affordable = max(1, HESSIAN_ENTRIES * inputs // (system.num_equations * system.num_parameters))
    if affordable >= inputs:
        return hessian_norms(system)
    rows = torch.linspace(0, inputs - 1, affordable).round().long().to(system._samples.device)
    targets = system.targets.view(inputs, -1)[rows]
    return hessian_norms(NetworkSystem(system.module_at(system.start), system._samples[rows], targets))


def _obstacles(system, curvature, spectrum):
    """(why DF has no Lipschitz constant, why no certificate is tried): reasons, or ""; `curvature` is max_i |H_i|_2 r0."""
    try:
        read_graph(system)
    except Kinked as found:
        return str(found), f"fails: {found}"
    except NotLayered as found:
        return "", f"not tried: the certified bounds do not cover this network: {found}"
    n, p = system.num_equations, system.num_parameters
    if p < n:
        return "", "fails: K is singular, as there are fewer parameters than equations"
    entries = n * p
    if entries > CERTIFICATE_ENTRIES:
        return "", f"not tried: DF has {entries:.2g} entries; call certify_solution if you can wait"
    least = spectrum.smallest + spectrum.error
    if curvature >= least / 2 > 0:
        return "", f"fails: h is at least {curvature / least:.2g}, not below 1/2"
    return "", ""


def _failed(status, residual_norm):
    """The Certificate where none was tried."""
    return Certificate(False, status, nan, nan, inf, nan, residual_norm, nan, "estimate", (), None)


def _kantorovich_estimate(constants, spectrum, kink):
    """beta_F r0 / lambda_min with the constants of the point; inf if K is not resolved or DF has no Lipschitz constant."""
    if kink or not spectrum.resolved:
        return inf
    return constants.hessian_bound * constants.residual_norm / spectrum.smallest


def _step_size(constants):
    """Theorem 6's, or nan where DF and all Hessians vanish."""
    if constants.jacobian_norm == 0 and constants.hessian_bound * constants.residual_norm == 0:
        return nan
    return constants.step_size


def _closest_inputs(kernel, inputs):
    """The two inputs that are hardest to tell apart, and the bound of lambda_min that they give; (None, inf) for one input.

    With g and g' the gradients of one output for two inputs, lambda_min(K) <= 1/2 |g - g'|^2.
    """
    if inputs == 1:
        return None, inf
    blocks = kernel.view(inputs, len(kernel) // inputs, inputs, -1).diagonal(dim1=1, dim2=3)
    squares = blocks.diagonal(dim1=0, dim2=1).T
    gaps = ((squares[:, None] + squares[None]) / 2 - blocks).amin(dim=2).fill_diagonal_(inf)
    first, second = divmod(int(gaps.argmin()), inputs)
    return (first, second), max(gaps[first, second].item(), 0.0)
