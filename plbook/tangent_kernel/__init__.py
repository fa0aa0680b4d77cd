"""The tangent kernel K(w) = DF(w) DF(w)^T and its spectrum: chapters 2, 4 and 6.

Two exact routes. "jacobian" forms DF(w) and works for every system. "layers" never forms it: a Linear layer with
inputs A and back-propagated derivatives D contributes (A A^T) o (D D^T), its bias (1 1^T) o (D D^T), and a
convolution the like, summed over positions.
"""

from plbook.tangent_kernel.distributed import distributed_tangent_kernel
from plbook.tangent_kernel.infinite_width import infinite_width_kernel
from plbook.tangent_kernel.kernel import KernelRoutes, explain_kernel, kernel_vector_product, tangent_kernel
from plbook.tangent_kernel.spectrum import KernelSpectrum, jacobian_norm, kernel_spectrum

__all__ = [
    "KernelRoutes",
    "KernelSpectrum",
    "distributed_tangent_kernel",
    "explain_kernel",
    "infinite_width_kernel",
    "jacobian_norm",
    "kernel_spectrum",
    "kernel_vector_product",
    "tangent_kernel",
]
