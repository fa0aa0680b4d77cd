"""plbook: tangent kernels, Hessian norms and the PL* condition, for systems of equations and torch networks.

The executable companion of Liu, Zhu and Belkin, "Loss landscapes and optimization in over-parameterized non-linear
systems and neural networks". Each module holds what one chapter of the book needs; the first line of its docstring
names the chapter.
"""

from plbook import datasets, toys
from plbook.conditions import PLStarCheck, check_pl_star, pl_ratio
from plbook.descent import StepConstants, Trajectory, gradient_descent, linearized_losses, step_constants
from plbook.hessian import ExtremeEigenvalues, HessianNorms, LossHessianSpectrum, hessian_norms, loss_hessian_spectrum
from plbook.networks import MLP
from plbook.systems import NetworkSystem, System
from plbook.tangent_kernel import (
    KernelRoutes,
    KernelSpectrum,
    distributed_tangent_kernel,
    explain_kernel,
    infinite_width_kernel,
    jacobian_norm,
    kernel_spectrum,
    kernel_vector_product,
    tangent_kernel,
)

__all__ = [
    "MLP",
    "ExtremeEigenvalues",
    "HessianNorms",
    "KernelRoutes",
    "KernelSpectrum",
    "LossHessianSpectrum",
    "NetworkSystem",
    "PLStarCheck",
    "StepConstants",
    "System",
    "Trajectory",
    "check_pl_star",
    "datasets",
    "distributed_tangent_kernel",
    "explain_kernel",
    "gradient_descent",
    "hessian_norms",
    "infinite_width_kernel",
    "jacobian_norm",
    "kernel_spectrum",
    "kernel_vector_product",
    "linearized_losses",
    "loss_hessian_spectrum",
    "pl_ratio",
    "step_constants",
    "tangent_kernel",
    "toys",
]
