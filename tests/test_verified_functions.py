"""Functions of one number: torch's are as accurate as assumed, and enclosed on intervals, against 50 digits."""

import importlib
import math

import mpmath
import pytest
import torch
from near_duplicates import VALUE_AND_SLOPE

from plbook.verified import Enclosure
from plbook.verified.rounding import UNIT

arithmetic, functions, rules = (
    importlib.import_module(f"plbook.verified.{name}") for name in ("arithmetic", "functions", "rules")
)


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


# The model: torch's elementary functions


def spread(low, high, count=1500, seed=0):
    """Numbers of both signs and of sizes 10^low to 10^high."""
    generator = torch.Generator().manual_seed(seed)
    sizes = 10 ** (low + (high - low) * torch.rand(count, dtype=torch.float64, generator=generator))
    return torch.where(torch.rand(count, generator=generator) < 0.5, sizes, -sizes)


MULTIPLES = torch.arange(1, 500, dtype=torch.float64) * (math.pi / 2)
ELEMENTARY = {
    "sin": (mpmath.sin, [spread(-10, 3), MULTIPLES, spread(3, 300, 300)]),
    "cos": (mpmath.cos, [spread(-10, 3), MULTIPLES, spread(3, 300, 300)]),
    "exp": (mpmath.exp, [spread(-20, 2.84)]),
    "expm1": (mpmath.expm1, [spread(-300, 2.84)]),
    "log": (mpmath.log, [spread(-300, 300).abs(), 1 + spread(-15, -0.5)]),
    "log1p": (mpmath.log1p, [spread(-300, -0.01), spread(0, 300).abs()]),
    "tanh": (mpmath.tanh, [spread(-300, 2)]),
    "sigmoid": (lambda x: 1 / (1 + mpmath.exp(-x)), [spread(-20, 2.84)]),
    "erf": (mpmath.erf, [spread(-300, 1)]),
    "atan": (mpmath.atan, [spread(-300, 300)]),
    "sinh": (mpmath.sinh, [spread(-300, 2.84)]),
    "cosh": (mpmath.cosh, [spread(-20, 2.84)]),
    "sqrt": (mpmath.sqrt, [spread(-300, 300).abs()]),
}
POWERS = {3.0: spread(-90, 90), 7.0: spread(-40, 40), 40.0: spread(-7, 7), 0.5: spread(-90, 90).abs(), -1.5: spread(-90, 90).abs()}


def worst(computed, function, points):
    """The largest relative error, in units of 2^-53."""
    with mpmath.workdps(50):
        truths = [function(mpmath.mpf(point)) for point in points.tolist()]
        pairs = [(value, truth) for value, truth in zip(computed.tolist(), truths) if truth]
        return max(float(abs(value - truth) / abs(truth)) for value, truth in pairs) / UNIT


@pytest.mark.parametrize("name", ELEMENTARY)
def test_elementary_functions_are_as_accurate_as_assumed(name):
    reference, ranges = ELEMENTARY[name]
    for points in ranges:
        whole = getattr(torch, name)(points)
        assert worst(whole, reference, points) * UNIT <= functions.ACCURACY
        # One by one: other code runs where a vector does not fill the processor's registers.
        single = torch.stack([getattr(torch, name)(point) for point in points[:100]])
        assert worst(single, reference, points[:100]) * UNIT <= functions.ACCURACY


@pytest.mark.parametrize("exponent", POWERS)
def test_powers_are_as_accurate_as_assumed(exponent):
    points = POWERS[exponent]
    assert worst(points.pow(exponent), lambda x: x ** mpmath.mpf(exponent), points) * UNIT <= functions.ACCURACY


def test_a_less_accurate_function_would_be_found():
    points = spread(-10, 1)
    assert worst(points.float().sin().double(), mpmath.sin, points) * UNIT > functions.ACCURACY


# Errors that are large: every number of the interval


def holds_on_intervals(rule, reference, points, allowed=lambda x, e: True):
    """|f(X) - value| <= error for X at both ends and inside of [x - e, x + e]."""
    for size in (0.0, 1e-12, 1e-3, 0.3, 2.0):
        chosen = points[[allowed(x, size) for x in points.tolist()]]
        result = rule(Enclosure(chosen, torch.full_like(chosen, size)))
        with mpmath.workdps(50):
            for x, value, error in zip(chosen.tolist(), result.value.tolist(), arithmetic.errors(result).tolist()):
                for share in (-1, -0.7, 0, 0.4, 1):
                    exact_value = reference(mpmath.mpf(x) + share * mpmath.mpf(size))
                    assert abs(exact_value - value) <= error, (x, size, share)


POINTS = torch.cat([torch.linspace(-8, 8, 41, dtype=torch.float64), spread(-6, 1.4, 40, seed=2)])
DOMAINS = {"log": lambda x, e: x - e > 0, "sqrt": lambda x, e: x - e > 0, "log1p": lambda x, e: x - e > -1 + 1e-9}


@pytest.mark.parametrize("name", ELEMENTARY)
def test_elementary_functions_are_enclosed_on_intervals(name):
    holds_on_intervals(getattr(functions, name), ELEMENTARY[name][0], POINTS, DOMAINS.get(name, lambda x, e: True))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 7, 0.5, 1.5, -0.5, -1, -2])
def test_powers_are_enclosed_on_intervals(exponent):
    # A negative power is the reciprocal of a positive one, whose interval must not reach 0.
    share = 8 if exponent < 0 else 1
    positive = exponent < 0 or exponent % 1
    holds_on_intervals(
        lambda x: functions.power(x, exponent),
        lambda x: x ** mpmath.mpf(exponent),
        POINTS,
        lambda x, e: not positive or x - share * e > 1e-9,
    )


SLOPES = {"silu": functions.silu_slope, "gelu": functions.gelu_slope, "softplus": functions.softplus_slope}
ACTIVATION_POINTS = torch.cat([POINTS, tensor([-40.0, 19.0, 19.9999999999, 20.0, 20.0000000001, 20.5, 30.0, 40.0])])


@pytest.mark.parametrize("name", SLOPES)
def test_activations_and_their_derivatives_are_enclosed(name):
    """The reference cuts softplus off at 20, as torch does."""
    for index, rule in enumerate((getattr(functions, name), SLOPES[name])):
        holds_on_intervals(rule, lambda x, index=index: VALUE_AND_SLOPE[name](x)[index], ACTIVATION_POINTS)


def test_softplus_without_torchs_threshold_is_enclosed_too():
    sigmoid = ELEMENTARY["sigmoid"][0]
    for beta in (1.0, 0.3, 2.5):
        exactly = mpmath.mpf(beta)
        holds_on_intervals(
            lambda x: functions.softplus(x, beta), lambda x: mpmath.log1p(mpmath.exp(exactly * x)) / exactly, ACTIVATION_POINTS
        )
        holds_on_intervals(lambda x: functions.softplus_slope(x, beta), lambda x: sigmoid(exactly * x), ACTIVATION_POINTS)
    near = functions.softplus(Enclosure(tensor([20.5, 19.5])))
    assert near.error[0] >= math.exp(-20.6) and near.error[1] < 1e-13


def mp_gelu_tanh(x):
    return x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)))


def test_other_activations_are_enclosed():
    elu = lambda x: x if x > 0 else 1.5 * mpmath.expm1(x)
    holds_on_intervals(lambda x: functions.elu(x, 1.5), elu, POINTS)
    holds_on_intervals(functions.elu_slope, lambda x: mpmath.exp(min(x, 0)), POINTS)
    holds_on_intervals(lambda x: functions.gelu(x, "tanh"), mp_gelu_tanh, POINTS)
    holds_on_intervals(lambda x: functions.gelu_slope(x, "tanh"), lambda x: mpmath.diff(mp_gelu_tanh, x), POINTS[::4])
    log_sigmoid = lambda x: -mpmath.log1p(mpmath.exp(-x))
    holds_on_intervals(lambda x: rules.RULES[rules.aten.log_sigmoid_forward.default](x)[0], log_sigmoid, POINTS)
    leaky = rules.RULES[rules.aten.leaky_relu.default]
    holds_on_intervals(lambda x: leaky(x, 0.25), lambda x: x if x > 0 else x / 4, POINTS)
