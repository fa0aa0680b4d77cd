"""Bounds of a system's kernel, Jacobian and residual that are true in spite of rounding: chapter 12."""

from dataclasses import dataclass

import torch
from torch.func import vjp, vmap
from torch.fx import Interpreter

from plbook.verified.arithmetic import Enclosure, NotEnclosed, matmul
from plbook.verified.enclosures import aten, replay, trace
from plbook.verified.matrices import frobenius_norm_bound, smallest_singular_value_bound, spectral_norm_bound
from plbook.verified.rigour import VERIFIED, VERIFIED_LINEAR_ALGEBRA
from plbook.verified.rounding import down, up

# Jacobian rows are enclosed in chunks of at most this many bytes; an operation on a chunk takes some ten times as much.
CHUNK_BYTES = 2**26


@dataclass(frozen=True)
class KernelBounds:
    """What a certificate needs to know of a system at a point.

    smallest_eigenvalue is at most lambda_min(K), jacobian_norm at least |DF|_2, residual_norm at least |F - y|_2. With
    the rigour "verified" that is so for the exact F and DF. With "verified linear algebra" it is so for F and DF as
    float64 computes them, and `reason` says which operation could not be enclosed.
    """

    smallest_eigenvalue: float
    jacobian_norm: float
    residual_norm: float
    rigour: str
    reason: str = ""


def kernel_bounds(system, w=None):
    """Bounds of lambda_min(K(w)) from below, of |DF(w)|_2 and |F(w) - y|_2 from above, in spite of rounding.

    F and DF are enclosed by running error analysis, DF = J + E with known bounds of |E_ij|. By Weyl's inequality for
    singular values, lambda_min(K) >= (sigma_min(J) - |E|_F)^2 and |DF|_2 <= |J|_2 + |E|_F. w, the targets and the tensors
    that F holds are exact. A network's equations are those of each input by itself.

    Returns:
        KernelBounds. The bound of lambda_min is 0 if nothing better is proved, as for p < n.

    Cost: about ten times `system.jacobian`; memory 6 n p numbers.

    Source: the model of float64 is that of `plbook.verified.rounding`, the derivatives are those of torch's operations.
    """
    w = system.point(w).detach()
    try:
        residual, jacobian = residual_and_jacobian(system, w)
        rigour, reason = VERIFIED, ""
    except NotEnclosed as found:
        residual, jacobian = (Enclosure(part(w).detach().cpu()) for part in (system.residual, system.jacobian))
        rigour, reason = VERIFIED_LINEAR_ALGEBRA, str(found)
    error = 0.0 if jacobian.error is None else frobenius_norm_bound(jacobian.error)
    wide = system.num_equations <= system.num_parameters
    smallest = max(down((smallest_singular_value_bound(jacobian.value) if wide else 0.0) - error), 0.0)
    return KernelBounds(
        max(down(smallest * smallest), 0.0),
        up(spectral_norm_bound(jacobian.value).item() + error),
        spectral_norm_bound(residual.magnitude[None]).item(),
        rigour,
        reason,
    )


def kernel_enclosure(system, w=None):
    """K(w) as an Enclosure: |K - value| <= error, entry by entry. NotEnclosed (a ValueError) if DF cannot be enclosed."""
    jacobian = residual_and_jacobian(system, w)[1]
    return matmul(jacobian, Enclosure(jacobian.value.mT, jacobian.error.mT))


def residual_and_jacobian(system, w=None):
    """Enclosures of F(w) - y and of DF(w), shapes (n,) and (n, p); NotEnclosed (a ValueError) where there is no rule."""
    w = system.point(w).detach()
    samples, outputs, p = system._samples, system._outputs, system.num_parameters
    graph, _ = trace(system._sample_value, w, samples[0])
    function = Plain(graph).run

    def rows(w, samples, picks):
        def of_sample(sample):
            value, pullback = vjp(lambda w: function(w, sample)[0], w)
            return value, vmap(lambda pick: pullback(pick)[0])(picks)

        return vmap(of_sample)(samples)

    values, value_errors = torch.empty(2, len(samples), outputs, dtype=torch.float64)
    jacobian, jacobian_errors = torch.empty(2, len(samples), outputs, p, dtype=torch.float64)
    picks = torch.eye(outputs, dtype=w.dtype, device=w.device)
    at_once = min(outputs, max(1, CHUNK_BYTES // (8 * p)))
    chunk, graphs = max(1, CHUNK_BYTES // (8 * p * at_once)), {}
    for first in range(0, len(samples), chunk):
        for row in range(0, outputs, at_once):
            some, those = slice(first, first + chunk), slice(row, row + at_once)
            arguments = (w, samples[some], picks[those])
            shape = len(samples[some]), len(picks[those])
            if shape not in graphs:
                graphs[shape] = trace(rows, *arguments)[0]
            value, piece = replay(graphs[shape], arguments)
            values[some], value_errors[some] = value.value, value.error
            jacobian[some, those], jacobian_errors[some, those] = piece.value, piece.error
    residual = Enclosure(values.reshape(-1), value_errors.reshape(-1)) - system.targets.cpu()
    return residual, Enclosure(jacobian.reshape(-1, p), jacobian_errors.reshape(-1, p))


class Plain(Interpreter):
    """Runs a traced function so that its derivative is that of the mathematical function.

    What code hides from differentiation, by detach or no_grad, is not in the graph or is left out here.
    """

    def call_function(self, target, args, kwargs):
        if target in (aten.detach.default, aten.alias.default, aten.lift_fresh_copy.default):
            return args[0]
        if target is aten.copy.default and args[0].dtype == args[1].dtype:
            return args[1].expand_as(args[0])
        if target is aten.view.default:
            return args[0].reshape(args[1])
        return super().call_function(target, args, kwargs)
