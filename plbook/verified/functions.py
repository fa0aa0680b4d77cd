"""Enclosures of functions of one number: elementary functions, activations and their derivatives (chapter 12).

An elementary function f at x with error e: |f(X) - f(x)| <= e sup |f'| over [x - e, x + e], and the error of the computed
f(x). Activations are composed of these, by formulas that need not be torch's.
"""

import math

import torch

from plbook.verified.arithmetic import Enclosure, NotEnclosed, absolute, enclosed, is_short, positive, widened
from plbook.verified.rounding import SLACK, TINY, UNIT

# Torch's elementary functions are assumed to have an error of at most 4 units in the last place; the tests measure them.
ACCURACY = 8 * UNIT


def elementary(function, slope, accuracy=ACCURACY):
    """The rule of a function; slope(x) bounds |f'| over the interval of an Enclosure, but for rounding."""

    def rule(x):
        value = function(x.value)
        error = value.abs().mul_(accuracy).add_(TINY)
        return propagated(Enclosure(value, error), x, slope)

    return rule


def propagated(result, x, slope):
    """The enclosure of f(X) from one of f at x.value."""
    error = result.error if x.error is None else result.error + slope(x) * x.error
    return Enclosure(result.value, error * SLACK)


def nearest(x):
    """The smallest absolute value in the interval."""
    return (x.value.abs() - x.error).clamp(min=0)


def left(x):
    """The left end of an interval, which must be positive."""
    return positive(x.value - x.error)


sin = elementary(torch.sin, lambda x: 1.0)
cos = elementary(torch.cos, lambda x: 1.0)
exp = elementary(torch.exp, lambda x: (x.value + x.error).exp())
expm1 = elementary(torch.expm1, lambda x: (x.value + x.error).exp())
log = elementary(torch.log, lambda x: 1 / left(x))
log1p = elementary(torch.log1p, lambda x: 1 / positive(1 - 8 * UNIT + (x.value - x.error)))
tanh = elementary(torch.tanh, lambda x: 1 / nearest(x).cosh() ** 2)
sigmoid = elementary(torch.sigmoid, lambda x: 0.25 / (nearest(x) / 2).cosh() ** 2)
erf = elementary(torch.erf, lambda x: 2 / math.sqrt(math.pi) * (-(nearest(x) ** 2)).exp())
atan = elementary(torch.atan, lambda x: 1 / (1 + nearest(x) ** 2))
sinh = elementary(torch.sinh, lambda x: x.magnitude.cosh())
cosh = elementary(torch.cosh, lambda x: x.magnitude.sinh())
# |sqrt(X) - sqrt(x)| = |X - x| / (sqrt(X) + sqrt(x))
sqrt = elementary(torch.sqrt, lambda x: 1 / (x.value.sqrt() + left(x).sqrt()), UNIT)


def reciprocal(x):
    return enclosed(1) / x


def rsqrt(x):
    return reciprocal(sqrt(x))


def power(x, exponent):
    """x^k for a whole number k, and for other k with few digits where x > 0."""
    if not is_short(exponent):
        raise NotEnclosed(f"the exponent {exponent} has too many digits, so that torch rounds those of the derivatives.")
    whole = float(exponent).is_integer()
    if exponent == 0:
        return enclosed(torch.ones_like(x.value))
    if exponent == 1:
        return x
    if whole and exponent < 0:
        return reciprocal(power(x, -exponent))

    def slope(x):
        ends = [x.magnitude] if whole else [left(x), x.magnitude]
        return abs(exponent) * torch.stack([end.pow(exponent - 1) for end in ends]).amax(0)

    result = elementary(lambda value: value.pow(exponent), slope, UNIT if exponent == 2 else ACCURACY)(x)
    return widened(result, abs(exponent) * TINY)


# Activations


def constant(number):
    """A rounded constant: an interval of a few units in the last place."""
    value = torch.tensor(number, dtype=torch.float64)
    return Enclosure(value, 8 * UNIT * value.abs())


def relu(x):
    return Enclosure(x.value.relu(), x.error)


def silu(x):
    return x * sigmoid(x)


def silu_slope(x):
    s = sigmoid(x)
    return s * (1 + x * (1 - s))


def normal_distribution(x):
    return 0.5 * (1 + erf(x * constant(math.sqrt(0.5))))


def normal_density(x):
    return exp(-0.5 * power(x, 2)) * constant(1 / math.sqrt(2 * math.pi))


def gelu(x, approximate="none"):
    return x * (normal_distribution(x) if approximate == "none" else 0.5 * (1 + _gelu_tanh(x)))


def gelu_slope(x, approximate="none"):
    if approximate == "none":
        return normal_distribution(x) + x * normal_density(x)
    t = _gelu_tanh(x)
    inner = constant(math.sqrt(2 / math.pi)) * (1 + constant(3 * 0.044715) * power(x, 2))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner


def _gelu_tanh(x):
    return tanh(constant(math.sqrt(2 / math.pi)) * (x + constant(0.044715) * power(x, 3)))


def softplus(x, beta=1, threshold=20):
    """log(1 + exp(beta x)) / beta, and x where torch says x (beta x > threshold): both lie in the enclosure."""
    t = x * beta
    exact = Enclosure(t.value)
    result = relu(exact) + log1p(exp(-absolute(exact)))
    result = propagated(result, t, lambda t: (t.value + t.error).sigmoid())
    return widened(result, cut_off(t, threshold)) / beta


def softplus_slope(x, beta=1, threshold=20):
    """The sigmoid of beta x, and 1 where torch says 1."""
    t = x * beta
    return widened(sigmoid(t), cut_off(t, threshold))


def cut_off(t, threshold):
    """What torch leaves out of softplus and its derivative above the threshold: at most exp(-t)."""
    error = 0 if t.error is None else t.error
    least = (t.value - error).clamp(min=threshold)
    return torch.where(t.value + error >= threshold * (1 - 4 * UNIT), (-least).exp(), 0.0)


def elu(x, alpha=1, scale=1, input_scale=1):
    below = expm1(-relu(-(x * input_scale)))
    return scale * (relu(x) + alpha * below)


def elu_slope(x):
    """The derivative of elu(x) with alpha = 1: exp(min(x, 0))."""
    return exp(-relu(-x))
