"""A system of equations given by a function."""

import math

import torch
from torch.func import jacrev, jvp, vjp

from plbook.systems.guards import as_data, check_value


class System:
    """The equations F(w) = y in p unknowns, with the square loss L(w) = 1/2 |F(w) - y|^2.

    Args:
        function: F, from a float64 tensor of shape (p,) to one of shape (n,), made of torch operations.
        targets: y, shape (n,).
        start: w0, shape (p,).
        jacobian_lipschitz: a proven beta with |DF(w) - DF(v)|_2 <= beta |w - v| for all w and v, if there is one.

    Everything is computed in float64. Costs below are in evaluations of F.

    Raises:
        ValueError: for data that is empty, not finite or of the wrong shape, and for a function that is random.

    Source: the paper's Section 2, equations (1) and (2).
    """

    def __init__(self, function, targets, start, *, jacobian_lipschitz=None):
        start = as_data(start, "start")
        targets = as_data(targets, "targets")
        if start.ndim != 1 or targets.ndim != 1:
            raise ValueError(
                f"start and targets must be vectors, of shapes (p,) and (n,); got {tuple(start.shape)} and "
                f"{tuple(targets.shape)}. Flatten them with .reshape(-1)."
            )
        if jacobian_lipschitz is not None and not 0 <= jacobian_lipschitz < math.inf:
            raise ValueError(
                f"jacobian_lipschitz must be a finite number >= 0, got {jacobian_lipschitz}. "
                "Leave it out if no constant has been proved."
            )
        try:
            value, again = function(start), function(start)
        except RuntimeError as error:
            raise ValueError(
                f"F cannot be evaluated at the start, a float64 tensor of shape {tuple(start.shape)}: {error}. "
                "If dtypes clash, build the constants of F with dtype=torch.float64."
            ) from error
        self._setup(function, targets, start)
        self.jacobian_lipschitz = jacobian_lipschitz
        check_value(self, value, again)

    def _setup(self, function, targets, start):
        self._function = function
        self._targets = targets
        self._start = start
        # A system is a list of samples with a few equations each; a plain one is a single sample.
        self._samples = torch.zeros(1, dtype=torch.float64)
        self._outputs = len(targets)

    def _sample_value(self, w, sample):
        """The equations of one sample, shape (outputs,): what derivatives per equation are taken of."""
        return self._function(w)

    @property
    def num_parameters(self):
        """p, the number of unknowns (the paper's m)."""
        return len(self._start)

    @property
    def num_equations(self):
        """n, the number of equations; for a network, inputs times outputs."""
        return len(self._targets)

    @property
    def start(self):
        """w0, shape (p,)."""
        return self._start

    @property
    def targets(self):
        """y, shape (n,)."""
        return self._targets

    def point(self, w):
        """`w` as a float64 vector of this system, `start` for None; ValueError if its shape is wrong."""
        if w is None:
            return self._start
        w = torch.as_tensor(w, dtype=torch.float64, device=self._start.device)
        if w.shape != self._start.shape:
            raise ValueError(
                f"w must have shape ({self.num_parameters},), one number per parameter; got {tuple(w.shape)}."
            )
        return w

    def value(self, w):
        """F(w), shape (n,). Cost: 1 evaluation."""
        return self._function(self.point(w))

    def residual(self, w):
        """F(w) - y, shape (n,). Cost: 1 evaluation."""
        return self.value(w) - self._targets

    def loss(self, w):
        """1/2 |F(w) - y|^2, a scalar tensor. Cost: 1 evaluation."""
        residual = self.residual(w)
        return 0.5 * residual @ residual

    def gradient(self, w):
        """The gradient DF(w)^T (F(w) - y) of the loss, shape (p,). Cost: about 3 evaluations."""
        return self._residual_and_gradient(w)[1]

    def _residual_and_gradient(self, w):
        value, pullback = vjp(self._function, self.point(w))
        residual = value - self._targets
        return residual, pullback(residual)[0]

    def jacobian(self, w):
        """DF(w), shape (n, p). Cost: n backward passes; memory 8 n p bytes."""
        return jacrev(self._function)(self.point(w))

    def jvp(self, w, v):
        """DF(w) v, shape (n,), for v of shape (p,). Cost: about 2 evaluations (forward mode)."""
        return jvp(self._function, (self.point(w),), (self.point(v),))[1]

    def vjp(self, w, u):
        """DF(w)^T u, shape (p,), for u of shape (n,). Cost: about 3 evaluations (reverse mode)."""
        u = torch.as_tensor(u, dtype=torch.float64, device=self._start.device)
        if u.shape != self._targets.shape:
            raise ValueError(f"u must have shape ({self.num_equations},), one number per equation; got {tuple(u.shape)}.")
        return vjp(self._function, self.point(w))[1](u)[0]
