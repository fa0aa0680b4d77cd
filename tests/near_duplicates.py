"""Networks with near-duplicate inputs, and their spectra in 50 digits: the seeded cases of two test suites.

Weights and inputs are float64 numbers and count as exact, so the kernel's eigenvalues are exact numbers, too. The
reference computes them with mpmath and its own formulas; it shares nothing with plbook but the module that holds the
weights.
"""

from dataclasses import dataclass
from math import floor, log10

import mpmath
import torch
from helpers import SPECTRUM_ROUTES, spectrum_route
from torch import nn

import plbook as pl
from plbook.networks import ACTIVATIONS, Divide

DIGITS = 50
# In 50 digits an eigenvalue of 0 comes out at about 1e-50 of the largest one.
ZERO = mpmath.mpf("1e-40")


# The cases


@dataclass(frozen=True)
class Case:
    module: nn.Sequential
    activation: str
    inputs: torch.Tensor

    def system(self):
        with torch.no_grad():
            return pl.NetworkSystem(self.module, self.inputs, torch.zeros_like(self.module(self.inputs)))

    def jacobian(self):
        system = self.system()
        return system.jacobian(system.start)


class Draw:
    """Random choices from one seeded generator."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def integer(self, low, high):
        return torch.randint(low, high + 1, (), generator=self.generator).item()

    def uniform(self, low, high):
        return low + (high - low) * torch.rand((), dtype=torch.float64, generator=self.generator).item()

    def normal(self, *shape):
        return torch.randn(shape, dtype=torch.float64, generator=self.generator)

    def choice(self, options):
        return options[self.integer(0, len(options) - 1)]


def draw_network(draw, input_size, outputs):
    """The paper's network, or torch's own layers with biases; and the name of its activation."""
    widths = [draw.integer(1, 6) for _ in range(draw.integer(1, 3))]
    activation = draw.choice(sorted(ACTIVATIONS))
    if draw.integer(0, 1):
        return pl.MLP(input_size, widths, outputs, activation=activation, seed=draw.integer(0, 10**6)), activation
    sizes, layers = [input_size, *widths, outputs], []
    for fan_in, fan_out in zip(sizes, sizes[1:]):
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(draw.normal(fan_out, fan_in) / fan_in**0.5)
            linear.bias.copy_(draw.normal(fan_out))
        layers += [linear, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1]), activation


def draw_case(seed):
    """The case of a seed: 2 to 20 equations, inputs of size 0.1 to 10, some with a copy, equal or at a small distance.

    lambda_min is about constant * distance^2. The constant is measured in float64 at one distance, then the distance
    is set so that lambda_min / lambda_max becomes what was drawn: mostly near 1e-11, some from 1e-16 to 1e-6. Of 20
    cases, one is kept whatever it is, also with fewer unknowns than equations or singular for other reasons; two have
    equal inputs.
    """
    draw = Draw(seed)
    kind = draw.integer(1, 20)
    while True:
        input_size, outputs = draw.integer(1, 8), draw.integer(1, 2)
        module, activation = draw_network(draw, input_size, outputs)
        count = draw.integer(2, 20 // outputs)
        if draw.integer(0, 1):
            # As many inputs as the network could fit: if it is small, it has about as many unknowns as equations.
            count = max(2, min(20, sum(p.numel() for p in module.parameters())) // outputs)
        copies = draw.integer(1, count // 2)
        originals = 10 ** draw.uniform(-1, 1) * draw.normal(count - copies, input_size)
        offsets = draw.normal(copies, input_size)
        order = torch.randperm(count, generator=draw.generator)

        def case(distance):
            inputs = torch.cat([originals, originals[:copies] + distance * offsets])[order]
            return Case(module, activation, inputs)

        jacobian = case(1e-4).jacobian()
        singular = torch.linalg.svdvals(jacobian)
        ratio = (singular[-1] / singular[0]).item() ** 2
        wanted = draw.uniform(-16, -6) if draw.integer(0, 2) == 0 else -11 + 0.7 * draw.normal().item()
        if kind == 1:
            return case(1e-4)
        if kind <= 3:
            return case(0.0)
        # Float64 knows a ratio above 1e-12 to two digits. Smaller ones come from something other than the copies.
        if jacobian.shape[0] <= jacobian.shape[1] and ratio > 1e-12:
            # Two decimals of the exponent are the same on every machine, so the case is, too.
            return case(10 ** round(-4 + (wanted - log10(ratio)) / 2, 2))


# The reference


def sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


def tanh_and_slope(x):
    value = mpmath.tanh(x)
    return value, 1 - value * value


def sigmoid_and_slope(x):
    value = sigmoid(x)
    return value, value * (1 - value)


def softplus_and_slope(x):
    # Above 20, torch's softplus is the identity, by definition.
    return (x, mpmath.mpf(1)) if x > 20 else (mpmath.log(1 + mpmath.exp(x)), sigmoid(x))


def gelu_and_slope(x):
    below = (1 + mpmath.erf(x / mpmath.sqrt(2))) / 2
    return x * below, below + x * mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi)


def silu_and_slope(x):
    value = sigmoid(x)
    return x * value, value + x * value * (1 - value)


VALUE_AND_SLOPE = {
    "tanh": tanh_and_slope,
    "sigmoid": sigmoid_and_slope,
    "softplus": softplus_and_slope,
    "gelu": gelu_and_slope,
    "silu": silu_and_slope,
    "relu": lambda x: (x, mpmath.mpf(1)) if x > 0 else (mpmath.mpf(0), mpmath.mpf(0)),
    "erf": lambda x: (mpmath.erf(x), 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-x * x)),
    "sin": lambda x: (mpmath.sin(x), mpmath.cos(x)),
    "identity": lambda x: (x, mpmath.mpf(1)),
}


def exact(values):
    """Nested lists of float64 numbers as mpmath numbers."""
    return [exact(value) for value in values] if isinstance(values, list) else mpmath.mpf(values)


def exact_layers(case):
    """The layers as pairs: ("linear", (weight, bias)), ("divide", divisor) or ("activation", function)."""
    layers = []
    for layer in case.module:
        if isinstance(layer, nn.Linear):
            bias = None if layer.bias is None else exact(layer.bias.tolist())
            layers.append(("linear", (exact(layer.weight.tolist()), bias)))
        elif isinstance(layer, Divide):
            layers.append(("divide", mpmath.mpf(layer.divisor)))
        else:
            layers.append(("activation", VALUE_AND_SLOPE[case.activation]))
    return layers


def forward(layers, x):
    """The output at x, and what each layer keeps for the way back: a linear one its input, an activation its slopes."""
    kept = []
    for kind, content in layers:
        if kind == "linear":
            weight, bias = content
            kept.append(x)
            x = [mpmath.fdot(row, x) for row in weight]
            x = x if bias is None else [a + b for a, b in zip(x, bias)]
        elif kind == "divide":
            kept.append(None)
            x = [a / content for a in x]
        else:
            pairs = [content(a) for a in x]
            kept.append([slope for _, slope in pairs])
            x = [value for value, _ in pairs]
    return x, kept


def backward(layers, kept, output, outputs):
    """For one output and each linear layer: its input, and the output's derivatives by what the layer gives."""
    delta = [mpmath.mpf(k == output) for k in range(outputs)]
    factors = []
    for (kind, content), memory in zip(reversed(layers), reversed(kept)):
        if kind == "linear":
            factors.append((memory, delta))
            delta = [mpmath.fdot(column, delta) for column in zip(*content[0])]
        elif kind == "divide":
            delta = [a / content for a in delta]
        else:
            delta = [a * slope for a, slope in zip(delta, memory)]
    return factors


def exact_kernel(layers, inputs):
    """The tangent kernel as an mpmath matrix.

    The derivative by a weight is an entry of the layer's input times an entry of delta, the derivative by a bias is
    delta. So each layer adds <delta, delta'> (<input, input'> + 1), without the 1 if it has no bias.
    """
    biases = [content[1] is not None for kind, content in reversed(layers) if kind == "linear"]
    equations = []
    for x in inputs:
        value, kept = forward(layers, x)
        equations += [backward(layers, kept, output, len(value)) for output in range(len(value))]
    n = len(equations)
    kernel = mpmath.matrix(n)
    for i in range(n):
        for j in range(i + 1):
            entry = mpmath.mpf(0)
            for bias, (a, delta), (b, other) in zip(biases, equations[i], equations[j]):
                entry += mpmath.fdot(delta, other) * (mpmath.fdot(a, b) + bias)
            kernel[i, j] = kernel[j, i] = entry
    return kernel


def exact_ends(case):
    """lambda_min and lambda_max of the case's kernel in 50 digits; what is 0 up to these digits is 0."""
    with mpmath.workdps(DIGITS):
        eigenvalues = mpmath.eigsy(exact_kernel(exact_layers(case), exact(case.inputs.tolist())), eigvals_only=True)
        smallest, largest = min(eigenvalues), max(eigenvalues)
        return (smallest if smallest > ZERO * largest else mpmath.mpf(0)), largest


# The check


@dataclass(frozen=True)
class Result:
    """The exact ends of one case, and what kernel_spectrum says about them on each route."""

    seed: int
    smallest: mpmath.mpf
    largest: mpmath.mpf
    spectra: dict

    @property
    def ratio(self):
        """lambda_min / lambda_max; 0 for a kernel of zeros."""
        return float(self.smallest / self.largest) if self.smallest else 0.0


def measure(seed):
    case = draw_case(seed)
    smallest, largest = exact_ends(case)
    return Result(seed, smallest, largest, spectra(case.system()))


def spectra(system):
    found = {}
    for route in SPECTRUM_ROUTES:
        with spectrum_route(route):
            found[route] = pl.kernel_spectrum(system)
    return found


def share_of_bar(computed, exact_value, bar):
    """|computed - exact value| / bar; at most 1 if the bar holds."""
    with mpmath.workdps(DIGITS):
        distance = abs(mpmath.mpf(computed) - exact_value)
        return float(distance / bar) if distance else 0.0


def faults(spectrum, smallest, largest):
    """What a spectrum says wrongly, given the exact ends."""
    found = []
    # "not <=", so that a value that is not a number is a fault.
    if not share_of_bar(spectrum.smallest, smallest, spectrum.error) <= 1:
        found.append("smallest is outside its bar")
    if not share_of_bar(spectrum.largest, largest, spectrum.error) <= 1:
        found.append("largest is outside its bar")
    if spectrum.resolved and smallest == 0:
        found.append("0 is called resolved")
    if not spectrum.resolved and smallest > 2 * spectrum.error:
        found.append("an eigenvalue above twice the bar is called not resolved")
    return found


# The record of a stress run

SEEDS = range(1000, 2000)


def decade(ratio):
    if ratio == 0:
        return "0"
    exponent = floor(log10(ratio))
    return f"1e{exponent} to 1e{exponent + 1}" if exponent >= -17 else "below 1e-17"


def summary(results):
    """The failures, how many cases were resolved in each decade of lambda_min / lambda_max, and the largest errors."""
    failures, resolved, errors = [], {}, {}
    for result in sorted(results, key=lambda result: -result.ratio):
        row = resolved.setdefault(decade(result.ratio), {"cases": 0, **dict.fromkeys(result.spectra, 0)})
        row["cases"] += 1
        for route, spectrum in result.spectra.items():
            row[route] += spectrum.resolved
            if found := faults(spectrum, result.smallest, result.largest):
                failures.append({"seed": result.seed, "route": route, "faults": found})
            largest = errors.setdefault(route, {"smallest": 0.0, "largest": 0.0})
            for end in largest:
                share = share_of_bar(getattr(spectrum, end), getattr(result, end), spectrum.error)
                largest[end] = max(largest[end], float(f"{share:.3g}"))
    return {"failures": failures, "resolved by ratio": resolved, "largest error / bar": errors}
