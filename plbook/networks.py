"""Networks in the paper's scaling: chapters 6 and 7.

Weights are standard normal, and the input of every layer is divided by the square root of its width m: the number of
features, or of channels in a convolution. The layers are torch's own, without biases, so that everything that works for
these networks works for yours; every network can be traced by torch.fx.
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


class Skip(nn.Module):
    """x + block(x)."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        return x + self.block(x)


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
        widths: the sizes of the hidden layers, for instance [512, 512]; [] gives a linear model, and a narrow layer
            between wide ones, as in [512, 2, 512], a bottleneck.
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
    sizes = _checked_sizes([input_size], widths, output_size, activation, output_activation)
    draw = _Draw(seed)
    layers = [layer for ends in zip(sizes[:-1], sizes[1:-1]) for layer in draw.dense(*ends, activation)]
    return nn.Sequential(*layers, *draw.output(sizes[-2], output_size, output_activation))


def ResNet(input_size, widths, output_size=1, *, activation="tanh", output_activation=None, seed=0):
    """A fully connected network with skips: alpha_l = sigma(W_l alpha_{l-1} / sqrt(m_{l-1})) + alpha_{l-1}.

    A layer has its skip where it is a hidden one, not the first, and its input and output sizes agree; every other layer
    is that of `MLP`. The paper prints skips at the first and the last layer, too, where they would force the sizes of
    input and output on the whole network. A skip adds to the size of what it skips: alpha_l grows with the depth.

    Arguments, result and errors are those of `MLP`.

    Source: the paper's equation (51), with skips at l = 2, ..., L.
    """
    sizes = _checked_sizes([input_size], widths, output_size, activation, output_activation)
    draw = _Draw(seed)
    layers = []
    for index, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:-1])):
        dense = draw.dense(fan_in, fan_out, activation)
        layers += [Skip(nn.Sequential(*dense))] if index and fan_in == fan_out else dense
    return nn.Sequential(*layers, *draw.output(sizes[-2], output_size, output_activation))


def ConvNet(input_size, widths, output_size=1, *, kernel_size=3, activation="tanh", output_activation=None, seed=0):
    """A convolutional network: alpha_l = sigma(W_l * alpha_{l-1} / sqrt(m_{l-1})), every entry of W_l drawn from N(0, 1).

    The output is <W_{L+1}, alpha_L> / sqrt(m_L), over all m_L channels and all positions. Images keep their size: outside
    of them there are zeros.

    As in the paper, a layer divides by the square root of its number of channels only: not by that of the K entries of
    the kernel, nor by that of the Q positions which the output sums over. Both stay fixed while the widths grow, but they
    count: with the identity for activation and inputs of entries +-1, a value of layer l that no border cuts has
    variance K^l, and the output has variance at most K^L Q.

    Args:
        input_size: (m_0, height, width): channels and size of the images.
        widths: the numbers of channels of the hidden layers; [] gives a linear model.
        output_size: the number of outputs.
        kernel_size: one odd number or a pair of them, (height, width). (1, K) on images of height 1 is the paper's
            one-dimensional convolution.
        activation, output_activation, seed: as for `MLP`.

    Returns:
        A torch.nn.Sequential in float64 that takes inputs of shape (inputs, channels, height, width).

    Raises:
        ValueError: for sizes that are not whole numbers >= 1, even kernel sizes and an unknown activation.

    Source: the paper's equations (49) and (50), in two dimensions. Its output is linear; an output activation is an
    output transformation in the sense of Theorem 3.
    """
    if not (isinstance(input_size, (tuple, list)) and len(input_size) == 3):
        raise ValueError(f"input_size must be (channels, height, width), for instance (1, 8, 8); got {input_size!r}.")
    kernel = kernel_size if isinstance(kernel_size, (tuple, list)) else (kernel_size, kernel_size)
    if len(kernel) != 2 or not all(isinstance(size, int) and size >= 1 and size % 2 for size in kernel):
        raise ValueError(f"kernel_size must be an odd whole number >= 1 or a pair of them, got {kernel_size!r}.")
    channels, height, width, *rest = _checked_sizes(input_size, widths, output_size, activation, output_activation)
    draw, sizes = _Draw(seed), [channels, *rest[:-1]]
    layers = [layer for ends in zip(sizes, sizes[1:]) for layer in draw.convolution(*ends, kernel, activation)]
    output = draw.output(sizes[-1], output_size, output_activation, positions=height * width)
    return nn.Sequential(*layers, nn.Flatten(), *output)


def _checked_sizes(input_size, widths, output_size, activation, output_activation):
    """All sizes in one list, for options that are fit to use."""
    if isinstance(widths, int):
        raise ValueError(f"widths must be a list with one size per hidden layer; for one layer write [{widths}].")
    sizes = [*input_size, *widths, output_size]
    if not all(isinstance(size, int) and size >= 1 for size in sizes):
        raise ValueError(f"layer sizes must be whole numbers >= 1, got {sizes}.")
    for name in (activation, output_activation or "identity"):
        if name not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {name!r}.")
    return sizes


class _Draw:
    """Layers with standard normal weights, one after the other from one seeded generator."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def layer(self, kind, *sizes, **options):
        layer = nn.utils.skip_init(kind, *sizes, bias=False, dtype=torch.float64, **options)
        with torch.no_grad():
            layer.weight.normal_(generator=self.generator)
        return layer

    def dense(self, fan_in, fan_out, activation):
        return [Divide(sqrt(fan_in)), self.layer(nn.Linear, fan_in, fan_out), ACTIVATIONS[activation]()]

    def convolution(self, fan_in, fan_out, kernel, activation):
        convolution = self.layer(nn.Conv2d, fan_in, fan_out, kernel, padding="same")
        return [Divide(sqrt(fan_in)), convolution, ACTIVATIONS[activation]()]

    def output(self, fan_in, output_size, activation, positions=1):
        layers = [Divide(sqrt(fan_in)), self.layer(nn.Linear, fan_in * positions, output_size)]
        return layers if activation is None else [*layers, ACTIVATIONS[activation]()]


def Antisymmetric(input_size, width, *, seed=0):
    """One hidden layer of tanh units in two copies with opposite output weights: f starts as the zero function.

    f(x) = v . tanh(W x / sqrt(m_0)) / sqrt(width) with W = [A; A] and v = [b; -b]; the entries of A are drawn from N(0, 1),
    those of b are +1 or -1. All weights are trained, each copy for itself.

    Args:
        input_size: m_0, the number of input features.
        width: the number of hidden units, both copies together; even.
        seed: of the generator that draws the weights.

    Returns:
        A torch.nn.Sequential in float64, built like `MLP(input_size, [width])`.

    Raises:
        ValueError: for a width that is odd, and for what `MLP` refuses.
    """
    network = MLP(input_size, [width], seed=seed)
    if width % 2:
        raise ValueError(f"width must be even, since half of the units are copies of the others; got {width}.")
    hidden, output = network.parameters()
    with torch.no_grad():
        hidden[width // 2 :] = hidden[: width // 2]
        output.sign_()
        output[:, width // 2 :] = -output[:, : width // 2]
    return network
