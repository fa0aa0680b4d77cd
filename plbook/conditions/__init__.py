"""PL*, PL*_epsilon and condition numbers, at points, along paths and on balls: chapters 4, 8 and 10.

PL* with constant mu at w, in the convention of this book: 1/2 |grad L(w)|^2 >= mu L(w).
"""

from plbook.conditions.numbers import ConditionNumber, ConditionNumberBound, condition_number, condition_number_bound
from plbook.conditions.paths import PLStarCurve, pl_star_curve
from plbook.conditions.points import COMPARISON_SLACK, PLStarCheck, check_pl_star, pl_ratio
from plbook.conditions.relaxation import (
    DescentToEpsilon,
    StochasticDescentToEpsilon,
    descent_to_epsilon,
    stochastic_descent_to_epsilon,
)
from plbook.conditions.uniform import UniformConditioning, uniform_conditioning

__all__ = [
    "COMPARISON_SLACK",
    "ConditionNumber",
    "ConditionNumberBound",
    "DescentToEpsilon",
    "PLStarCheck",
    "PLStarCurve",
    "StochasticDescentToEpsilon",
    "UniformConditioning",
    "check_pl_star",
    "condition_number",
    "condition_number_bound",
    "descent_to_epsilon",
    "pl_ratio",
    "pl_star_curve",
    "stochastic_descent_to_epsilon",
    "uniform_conditioning",
]
