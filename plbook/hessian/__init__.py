"""Hessians of the equations and of the loss, their norms and extreme eigenvalues: chapters 3, 5 and 6.

H_i(w) is the p x p matrix of second derivatives of F_i. It is symmetric and in general indefinite; its spectral
norm is its largest absolute eigenvalue. Norms and eigenvalues need no p x p matrix: Lanczos takes products with vectors only.
"""

from plbook.hessian.curvature import NegativeCurvature, negative_curvature
from plbook.hessian.loss import ExtremeEigenvalues, LossHessianSpectrum, loss_hessian_spectrum
from plbook.hessian.norms import HessianNorms, hessian_norms
from plbook.hessian.products import hessian_products

__all__ = [
    "ExtremeEigenvalues",
    "HessianNorms",
    "LossHessianSpectrum",
    "NegativeCurvature",
    "hessian_norms",
    "hessian_products",
    "loss_hessian_spectrum",
    "negative_curvature",
]
