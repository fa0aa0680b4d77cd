"""Both ends of the spectrum of the tangent kernel, with an error bar."""

from dataclasses import dataclass
from math import inf

import torch

from plbook.tangent_kernel.kernel import tangent_kernel

# The spectrum comes from singular values of DF while DF takes at most this many bytes.
JACOBIAN_BYTES = 2**31


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

    lambda_min(K) = sigma_min(DF)^2 is taken from the singular values of DF where DF fits in 2 GiB, else from K.
    The bar is 2 max(n, p) u |DF|_2^2 (with u = 2^-52; |DF|_F in place of |DF|_2 on the second route): the usual
    bound for backward-stable singular values of a matrix whose entries are known to that relative accuracy. It is a
    float64 estimate, not an enclosure. With p < n the kernel is singular and `smallest` is exactly 0.

    Cost: DF and its singular values, n^2 p products; on the second route K and its eigenvalues.
    """
    w = system.point(w)
    n, p = system.num_equations, system.num_parameters
    unit = 2 * max(n, p) * torch.finfo(torch.float64).eps
    if 8 * n * p <= JACOBIAN_BYTES:
        singular = torch.linalg.svdvals(system.jacobian(w))
        largest, smallest = (singular[0] ** 2).item(), (singular[-1] ** 2).item()
        error = unit * largest
    else:
        eigenvalues = torch.linalg.eigvalsh(tangent_kernel(system, w))
        largest, smallest = eigenvalues[-1].item(), eigenvalues[0].item()
        error = unit * eigenvalues.sum().item()
    return KernelSpectrum(smallest if p >= n else 0.0, largest, error)


def jacobian_norm(system, w=None):
    """|DF(w)|_2 = sqrt(lambda_max(K(w))). Cost: the tangent kernel and its eigenvalues."""
    return torch.linalg.eigvalsh(tangent_kernel(system, w))[-1].clamp(min=0).sqrt().item()
