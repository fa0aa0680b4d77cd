"""Networks in the paper's scaling: chapters 6 and 7.

Weights are standard normal and the input of every layer is divided by the square root of its fan-in. The layers are
torch's own, without biases, so that everything that works for these networks works for yours.
"""

from math import sqrt

import torch
from torch import nn


class Elementwise(nn.Module):
    """A function of one number, applied to every entry."""

    def __init__(self, name, function):
        super().__init__()
        self.name, self.function = name, function

    def forward(self, x):
        return self.function(x)

    def extra_repr(self):
        return self.name


class Divide(nn.Module):
    """x / divisor: the scaling of the layer that follows."""

    def __init__(self, divisor):
        super().__init__()
        self.divisor = divisor

    def forward(self, x):
        return x / self.divisor

    def extra_repr(self):
        return f"{self.divisor:.4g}"


ACTIVATIONS = {
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "erf": lambda: Elementwise("erf", torch.erf),
    "sin": lambda: Elementwise("sin", torch.sin),
    "identity": nn.Identity,
}


def MLP(input_size, widths, output_size=1, *, activation="tanh", output_activation=None, seed=0):
    """A fully connected network: alpha_l = sigma(W_l alpha_{l-1} / sqrt(m_{l-1})), every entry of W_l drawn from N(0, 1).

    Args:
        input_size: m_0, the number of input features.
        widths: the sizes of the hidden layers, for instance [512, 512]; [] gives a linear model.
        output_size: the number of outputs.
        activation: one of plbook.networks.ACTIVATIONS, for the hidden layers.
        output_activation: the same for the output; None means linear.
        seed: of the generator that draws the weights; the same seed gives the same network.

    Returns:
        A torch.nn.Sequential in float64 that takes inputs of shape (inputs, input_size).

    Raises:
        ValueError: for sizes that are not whole numbers >= 1 and for an unknown activation.

    Source: the paper's equation (17). The paper allows an activation at the output, too: its Theorem 5 needs a
    linear output, Theorems 4 and 8 one whose derivative stays away from 0.
    """
    if isinstance(widths, int):
        raise ValueError(f"widths must be a list with one size per hidden layer; for one layer write [{widths}].")
    sizes = [input_size, *widths, output_size]
    if not all(isinstance(size, int) and size >= 1 for size in sizes):
        raise ValueError(f"layer sizes must be whole numbers >= 1, got {sizes}.")
    for name in (activation, output_activation or "identity"):
        if name not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {name!r}.")

    generator = torch.Generator().manual_seed(seed)
    layers = []
    for fan_in, fan_out in zip(sizes, sizes[1:]):
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out, bias=False, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.normal_(generator=generator)
        layers += [Divide(sqrt(fan_in)), linear, ACTIVATIONS[activation]()]
    layers.pop()
    if output_activation is not None:
        layers.append(ACTIVATIONS[output_activation]())
    return nn.Sequential(*layers)
