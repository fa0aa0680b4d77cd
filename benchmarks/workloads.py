"""What is measured: five networks on the digits, and a way to hand them to another process."""

from dataclasses import asdict, dataclass
from math import sqrt

import numpy as np
import torch
from torch import nn

import plbook as pl
from plbook.networks import Divide

PIXELS = 64
SIDE = 8  # of an image


@dataclass(frozen=True)
class Workload:
    """A network on the first n digits. `kind` is "mlp" or "conv"; widths are those of the hidden layers, or channels."""

    name: str
    n: int
    widths: tuple
    outputs: int = 1
    kind: str = "mlp"

    def data(self):
        return pl.datasets.digits(self.n, targets="parity" if self.outputs == 1 else "one-hot")

    def inputs(self):
        inputs = self.data().inputs
        return inputs.reshape(self.n, 1, SIDE, SIDE) if self.kind == "conv" else inputs

    def targets(self):
        return self.data().targets

    def network(self):
        """The network, in float64: an ordinary torch module, the same one for the same workload."""
        if self.kind == "mlp":
            return pl.MLP(PIXELS, list(self.widths), self.outputs)
        return convolutional(self.widths, self.outputs)

    def words(self):
        """The network in words."""
        sizes = sorted(set(self.widths))
        size = f"{sizes[0]:,}" if len(sizes) == 1 else ", ".join(f"{width:,}" for width in self.widths)
        if self.kind == "mlp":
            return f"{len(self.widths)} hidden layers of {size}"
        return f"{len(self.widths)} convolutions 3x3, {size} channels, 8x8 images, global average pooling, linear output"


WORKLOADS = {
    workload.name: workload
    for workload in [
        Workload("W1", 200, (256, 256, 256)),
        Workload("W2", 500, (1024, 1024, 1024)),
        Workload("W3", 1000, (4096, 4096)),
        Workload("W4", 100, (512, 512, 512), outputs=10),
        Workload("W5", 200, (64, 64, 64), kind="conv"),
    ]
}


def convolutional(channels, outputs, seed=0):
    """3x3 convolutions and tanh, the average over positions, a linear output; no biases, entries N(0, 1), each layer's
    input divided by the square root of its fan-in."""
    layers, fan_in = [], 1
    for size in channels:
        layers += [Divide(sqrt(9 * fan_in)), nn.Conv2d(fan_in, size, 3, padding=1, bias=False), nn.Tanh()]
        fan_in = size
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), Divide(sqrt(fan_in)), nn.Linear(fan_in, outputs, bias=False)]
    network = nn.Sequential(*layers).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(generator=generator)
    return network


def save(workload, path):
    """Inputs, targets and weights (in order, torch's layout) for the workers, as an .npz file."""
    weights = {str(i): w.detach().numpy() for i, w in enumerate(workload.network().parameters())}
    np.savez(path, inputs=workload.inputs().numpy(), targets=workload.targets().numpy(), **weights)


def fields(workload):
    """What `Workload(**fields)` makes the workload from, as JSON can carry it."""
    return asdict(workload)


def load(fields, path, dtype):
    """(network, inputs, targets) in this dtype, from what `save` wrote."""
    network = Workload(**fields).network()
    with np.load(path) as file, torch.no_grad():
        for i, weight in enumerate(network.parameters()):
            weight.copy_(torch.from_numpy(file[str(i)]))
        inputs, targets = (torch.from_numpy(file[name]).to(dtype) for name in ("inputs", "targets"))
    return network.to(dtype), inputs, targets
