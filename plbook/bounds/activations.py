"""What an activation's derivatives do on an interval: exact ranges, from the few points where they turn."""

from dataclasses import dataclass
from math import atanh, log, pi, sqrt

import torch
from scipy.optimize import brentq
from torch import nn

# The derivatives are computed to a few units in the last place; ranges are widened by far more than that.
WIDENING = 1e-13
FAR = 1e6


@dataclass(frozen=True)
class Activation:
    """A smooth function of one number, by its first two derivatives.

    `turns` are the points where the first derivative has its local extremes, `second_turns` those of the second. Between
    neighboring turns a derivative is monotone, so its extremes over an interval lie at the ends or at turns inside.
    `period` is the distance at which the turns repeat, if they do.
    """

    function: callable
    derivative: callable
    second_derivative: callable
    turns: tuple
    second_turns: tuple
    period: float | None = None

    def derivative_range(self, low, high):
        """(smallest, largest) first derivative on [low, high], entry by entry."""
        values = self._extremes(self.derivative, self.turns, low, high)
        return values.amin(dim=0) - WIDENING, values.amax(dim=0) + WIDENING

    def largest_curvature(self, low, high):
        """The largest |second derivative| on [low, high], entry by entry."""
        return self._extremes(self.second_derivative, self.second_turns, low, high).abs().amax(dim=0) * (1 + WIDENING) + WIDENING

    def _extremes(self, function, turns, low, high):
        """The function at both ends and at every turn inside, where there is one: shape (2 + turns, ...)."""
        if self.period is not None:
            # Far from 0 the turns are not known to rounding: one whole period there has the same extremes.
            far = torch.maximum(low.abs(), high.abs()) > FAR
            low, high = torch.where(far, 0.0, low), torch.where(far, self.period, high)
        candidates = [low, high]
        for turn in turns:
            if self.period is not None:
                turn = turn + self.period * torch.ceil((low - turn) / self.period)
            inside = torch.where(turn < high, turn, high)
            candidates.append(torch.where(low < inside, inside, low))
        return torch.stack([function(point) for point in candidates])


def _scaled(base, factor):
    """The Activation x -> base(factor x) / factor, which is how torch's Softplus takes its beta."""
    return Activation(
        lambda x: base.function(factor * x) / factor,
        lambda x: base.derivative(factor * x),
        lambda x: factor * base.second_derivative(factor * x),
        tuple(turn / factor for turn in base.turns),
        tuple(turn / factor for turn in base.second_turns),
    )


def _tanh_second(x):
    t = torch.tanh(x)
    return -2 * t * (1 - t * t)


def _logistic_derivative(x):
    return torch.sigmoid(x) * torch.sigmoid(-x)


def _logistic_second(x):
    return -_logistic_derivative(x) * torch.tanh(x / 2)


def _normal_density(x):
    return torch.exp(-x * x / 2) / sqrt(2 * pi)


def _silu_derivative(x):
    return torch.sigmoid(x) + x * _logistic_derivative(x)


def _silu_second(x):
    return _logistic_derivative(x) * (2 - x * torch.tanh(x / 2))


def _erf_derivative(x):
    return torch.exp(-x * x) * (2 / sqrt(pi))


def _symmetric(positive):
    return (-positive, positive)


def _tanh(x):
    return float(torch.tanh(torch.tensor(x, dtype=torch.float64)))


_SOFTPLUS = Activation(nn.functional.softplus, torch.sigmoid, _logistic_derivative, (), (0.0,))
_TANH = Activation(torch.tanh, lambda x: 1 - torch.tanh(x) ** 2, _tanh_second, (0.0,), _symmetric(atanh(1 / sqrt(3))))
_SIGMOID = Activation(torch.sigmoid, _logistic_derivative, _logistic_second, (0.0,), _symmetric(log(2 + sqrt(3))))
_GELU = Activation(
    nn.functional.gelu,
    lambda x: (1 + torch.erf(x / sqrt(2))) / 2 + x * _normal_density(x),
    lambda x: _normal_density(x) * (2 - x * x),
    _symmetric(sqrt(2)),
    (-2.0, 0.0, 2.0),
)
# With t = tanh(x / 2): the second derivative vanishes where x t = 2, the third at 0 and where x (3 t^2 - 1) = 6 t.
_SILU = Activation(
    nn.functional.silu,
    _silu_derivative,
    _silu_second,
    _symmetric(brentq(lambda x: x * _tanh(x / 2) - 2, 1, 4, xtol=1e-15)),
    (0.0, *_symmetric(brentq(lambda x: x * (3 * _tanh(x / 2) ** 2 - 1) - 6 * _tanh(x / 2), 2, 6, xtol=1e-15))),
)
_ERF = Activation(torch.erf, _erf_derivative, lambda x: -2 * x * _erf_derivative(x), (0.0,), _symmetric(1 / sqrt(2)))
_SIN = Activation(torch.sin, torch.cos, lambda x: -torch.sin(x), (0.0, pi), (pi / 2, 3 * pi / 2), period=2 * pi)

FUNCTIONS = {
    torch.tanh: _TANH,
    nn.functional.tanh: _TANH,
    torch.sigmoid: _SIGMOID,
    nn.functional.sigmoid: _SIGMOID,
    torch.erf: _ERF,
    torch.special.erf: _ERF,
    torch.sin: _SIN,
    nn.functional.silu: _SILU,
}
METHODS = {"tanh": _TANH, "sigmoid": _SIGMOID, "erf": _ERF, "sin": _SIN}
# Not differentiable, or only once: their DF jumps.
KINKED = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Threshold)
KINKED_NAMES = {"relu", "relu_", "relu6", "leaky_relu", "prelu", "hardtanh", "hardsigmoid", "hardswish", "threshold", "abs", "max", "clamp"}


def of_module(module):
    """The Activation of a torch module, or None if this table does not have it."""
    kind = type(module)
    if kind is nn.Softplus:
        # Beyond the threshold torch's code is the identity: below 20 that is a jump, not rounding.
        return _scaled(_SOFTPLUS, module.beta) if module.threshold >= 20 and module.beta > 0 else None
    if kind is nn.GELU:
        return _GELU if module.approximate == "none" else None
    return {nn.Tanh: _TANH, nn.Sigmoid: _SIGMOID, nn.SiLU: _SILU}.get(kind)
