"""Both ends of the spectrum of the tangent kernel, with an error bar."""

from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from scipy.linalg import lapack
from scipy.sparse.linalg import LinearOperator, eigsh

from plbook.systems import NetworkSystem
from plbook.tangent_kernel.kernel import tangent_kernel

# The spectrum comes from singular values of DF while DF takes at most this many bytes.
JACOBIAN_BYTES = 2**31
# All eigenvalues of K are computed up to this size, and only both ends above.
DENSE_EQUATIONS = 4000


@dataclass(frozen=True)
class KernelSpectrum:
    """Both ends of the spectrum of K, with one absolute error bar for both."""

    smallest: float
    largest: float
    error: float

    @property
    def resolved(self):
        """Whether the smallest eigenvalue stands clear of the error bar; if not, the bar does not tell it from 0."""
        return self.smallest > self.error

    @property
    def condition_number(self):
        """largest / smallest, and inf if the smallest is not resolved."""
        return self.largest / self.smallest if self.resolved else inf


def kernel_spectrum(system, w=None):
    """The smallest and largest eigenvalue of K(w), with an error bar.

    Three ways, by size, with u = 2^-52, n equations and p parameters:

    - DF fits in 2 GiB: lambda_min(K) = sigma_min(DF)^2, from the singular values of DF.
      error = 2 (n + p) u |DF|_2^2. Time n^2 p, memory about three times DF.
    - n <= 4,000: all eigenvalues of K. error = 2 (n + s) u tr(K), where s adds up the lengths of the sums behind an
      entry of K: the rows and columns of all weights and the entries of one input. Time n^3.
    - Larger n: lambda_max(K) by Lanczos, lambda_min(K) by Lanczos on the inverse of K + error I, through a Cholesky
      factorization in place of K; the same error, and Lanczos's residuals. If the factorization breaks down, the bar is
      raised until it does not. Time n^3 / 3; memory 8 n^2 bytes beside what `tangent_kernel` takes, so n = 20,000 needs
      3.2 GB.

    The first knows lambda_min best: in K, everything below u |K| is lost. With p < n the kernel is singular and
    `smallest` is exactly 0.

    The bar is an estimate, not an enclosure: the usual bound for backward-stable methods, and for rounding in DF or K
    where intermediate results are of moderate size. An activation that oscillates far from 0, such as sin at 1,000,
    passes on more error than that. Residuals show that an eigenvalue is near, not that it is the last one.
    """
    w = system.point(w)
    n, p = system.num_equations, system.num_parameters
    unit = 2 * torch.finfo(torch.float64).eps
    if 8 * n * p <= JACOBIAN_BYTES:
        singular = torch.linalg.svdvals(system.jacobian(w))
        largest, smallest = (singular[0] ** 2).item(), (singular[-1] ** 2).item()
        error = unit * (n + p) * largest
    else:
        kernel = tangent_kernel(system, w)
        error = unit * (n + _summands(system)) * kernel.trace().item()
        if n <= DENSE_EQUATIONS:
            eigenvalues = torch.linalg.eigvalsh(kernel)
            largest, smallest = eigenvalues[-1].item(), eigenvalues[0].item()
        else:
            smallest, largest, error = _both_ends(kernel.cpu().numpy(), error)
    return KernelSpectrum(smallest if p >= n else 0.0, largest, error)


def _summands(system):
    """The lengths of the sums behind an entry of K, added up: what rounding in it may grow with."""
    if not isinstance(system, NetworkSystem):
        return system.num_parameters
    weights = sum(shape[0] + shape.numel() // shape[0] for shape in system._shapes.values() if len(shape) and shape.numel())
    return min(system.num_parameters, weights) + system._samples[0].numel()


def _both_ends(kernel, error):
    """(smallest, largest, error) of a symmetric positive semidefinite array, which is overwritten."""
    n, start = len(kernel), np.random.default_rng(0).standard_normal(len(kernel))
    if kernel.trace() == 0:
        return 0.0, 0.0, error  # a positive semidefinite matrix without a diagonal is 0
    # Lanczos stops where it adds little to the bar; asked for more, it would run after rounding errors.
    largest, top = _lanczos(kernel.__matmul__, start, 0.1 * error / kernel.trace())

    diagonal, shift = kernel.diagonal().copy(), error
    while True:
        np.fill_diagonal(kernel, diagonal + shift)
        # LAPACK counts by columns, so to it the array is its transpose, and the factor takes the array's upper triangle.
        factor, failed = lapack.dpotrf(kernel.T, lower=True, clean=False, overwrite_a=True)
        if not failed:
            break
        for i in range(n):
            kernel[i, i:] = kernel[i:, i]
        shift *= 10

    def solve(v):
        return lapack.dpotrs(factor, v, lower=True)[0]

    rough, _ = _lanczos(solve, start, 1e-2)
    inverse, bottom = _lanczos(solve, start, min(1e-2, 0.1 * shift * rough))
    # An error e in 1 / lambda is one of e lambda^2 in lambda.
    return 1 / inverse - shift, largest, max(error, shift) + top + bottom / inverse**2


def _lanczos(product, start, tolerance):
    """The largest eigenvalue of a symmetric operator to a relative tolerance, and its residual."""
    n = len(start)
    if n == 1:
        return product(np.ones(1)).item(), 0.0
    (value,), vectors = eigsh(LinearOperator((n, n), matvec=product, dtype=np.float64), k=1, which="LA", v0=start, tol=tolerance)
    vector = vectors[:, 0]
    return value.item(), np.linalg.norm(product(vector) - value * vector).item()


def jacobian_norm(system, w=None):
    """|DF(w)|_2 = sqrt(lambda_max(K(w))). Cost: the tangent kernel and its eigenvalues."""
    return torch.linalg.eigvalsh(tangent_kernel(system, w))[-1].clamp(min=0).sqrt().item()
