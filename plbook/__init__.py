"""plbook: tangent kernels, Hessian norms and the PL* condition, for systems of equations and torch networks.

The executable companion of Liu, Zhu and Belkin, "Loss landscapes and optimization in over-parameterized non-linear
systems and neural networks". Each module holds what one chapter of the book needs; the first line of its docstring
names the chapter.
"""

from plbook import charts, datasets, toys, verified
from plbook.acceleration import MomentumConstants, accelerated_gradient_descent, momentum_constants, momentum_rates
from plbook.bounds import BallConstants, JacobianLipschitzBound, ball_constants, jacobian_lipschitz_bound
from plbook.certificates import Certificate, PolishedPoint, certify_solution, polish
from plbook.charts import CoordinateChange, coordinate_change
from plbook.conditions import (
    ConditionNumber,
    ConditionNumberBound,
    DescentToEpsilon,
    PLStarCheck,
    PLStarCurve,
    StochasticDescentToEpsilon,
    UniformConditioning,
    check_pl_star,
    condition_number,
    condition_number_bound,
    descent_to_epsilon,
    pl_ratio,
    pl_star_curve,
    stochastic_descent_to_epsilon,
    uniform_conditioning,
)
from plbook.constant_paths import ConstantPath, constant_path
from plbook.descent import (
    StepConstants,
    Trajectory,
    gradient_descent,
    linearized_losses,
    step_constants,
    stochastic_gradient_descent,
)
from plbook.diagnosis import Diagnosis, diagnose
from plbook.hessian import (
    ExtremeEigenvalues,
    HessianNorms,
    LossHessianSpectrum,
    NegativeCurvature,
    hessian_norms,
    loss_hessian_spectrum,
    negative_curvature,
)
from plbook.networks import MLP, ConvNet, ResNet
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
from plbook.transforms import (
    CompositionKernels,
    TransformedConditioning,
    composition,
    composition_kernels,
    input_conditioning,
    input_transform,
    output_conditioning,
    output_transform,
)

__all__ = [
    "BallConstants",
    "Certificate",
    "CompositionKernels",
    "ConditionNumber",
    "ConditionNumberBound",
    "ConstantPath",
    "ConvNet",
    "CoordinateChange",
    "DescentToEpsilon",
    "Diagnosis",
    "ExtremeEigenvalues",
    "HessianNorms",
    "JacobianLipschitzBound",
    "KernelRoutes",
    "KernelSpectrum",
    "LossHessianSpectrum",
    "MLP",
    "MomentumConstants",
    "NegativeCurvature",
    "NetworkSystem",
    "PLStarCheck",
    "PLStarCurve",
    "PolishedPoint",
    "ResNet",
    "StepConstants",
    "StochasticDescentToEpsilon",
    "System",
    "Trajectory",
    "TransformedConditioning",
    "UniformConditioning",
    "accelerated_gradient_descent",
    "ball_constants",
    "certify_solution",
    "charts",
    "check_pl_star",
    "composition",
    "composition_kernels",
    "condition_number",
    "condition_number_bound",
    "constant_path",
    "coordinate_change",
    "datasets",
    "descent_to_epsilon",
    "diagnose",
    "distributed_tangent_kernel",
    "explain_kernel",
    "gradient_descent",
    "hessian_norms",
    "infinite_width_kernel",
    "input_conditioning",
    "input_transform",
    "jacobian_lipschitz_bound",
    "jacobian_norm",
    "kernel_spectrum",
    "kernel_vector_product",
    "linearized_losses",
    "loss_hessian_spectrum",
    "momentum_constants",
    "momentum_rates",
    "negative_curvature",
    "output_conditioning",
    "output_transform",
    "pl_ratio",
    "pl_star_curve",
    "polish",
    "step_constants",
    "stochastic_descent_to_epsilon",
    "stochastic_gradient_descent",
    "tangent_kernel",
    "toys",
    "uniform_conditioning",
    "verified",
]
