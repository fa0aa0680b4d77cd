"""The systems of tests/test_distributed.py: the test and its processes build the same."""

from helpers import network, randn
from torch import nn

import plbook as pl


def convolutional():
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2))


CASES = {
    "one output": lambda: network(lambda: pl.MLP(3, [20, 20]), 3, num_inputs=23),
    "three outputs, normalized": lambda: network(
        lambda: nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3)), 3, num_inputs=10
    ),
    "convolution": lambda: network(convolutional, 1, 4, 4, num_inputs=7),
    "fewer inputs than processes": lambda: network(lambda: pl.MLP(3, [5]), 3, num_inputs=1),
}
OTHER = randn(5, 3, seed=9)
