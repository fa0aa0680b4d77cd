"""How the certified bound over the ball of radius 1 falls with the width: like sqrt(ln width / width).

One case is (hidden layers, width, seed). The slope is that of log(bound / sqrt(ln width)) against log(width), over the means
of the seeds.
"""

import math
from statistics import mean

import numpy
import torch

import plbook as pl

SIZE = 64
WIDTHS = {1: (256, 512, 1024, 2048, 4096, 8192, 16384), 2: (256, 512, 1024, 2048, 4096)}
SEEDS = [(hidden, width, seed) for hidden, widths in WIDTHS.items() for width in widths for seed in range(8)]
EXPECTED, TOLERANCE = -0.5, 0.1


def measure(case):
    hidden, width, seed = case
    network = pl.MLP(SIZE, [width] * hidden, seed=seed)
    system = pl.NetworkSystem(network, pl.datasets.sphere(1, SIZE, seed=seed).inputs, torch.zeros(1, dtype=torch.float64))
    return case, pl.jacobian_lipschitz_bound(system, 1.0).value


def slopes(results):
    """The slope for each number of hidden layers."""
    found = {}
    for hidden in sorted({case[0] for case, _ in results}):
        widths = sorted({case[1] for case, _ in results if case[0] == hidden})
        means = [mean(bound for case, bound in results if case[:2] == (hidden, width)) for width in widths]
        scaled = [math.log(bound / math.sqrt(math.log(width))) for bound, width in zip(means, widths)]
        found[hidden] = float(numpy.polyfit([math.log(width) for width in widths], scaled, 1)[0])
    return found


def summary(results):
    found = slopes(results)
    return {
        "slopes": {f"{hidden} hidden": slope for hidden, slope in found.items()},
        "bounds": {f"{hidden} hidden, width {width}": mean(bound for case, bound in results if case[:2] == (hidden, width))
                   for hidden, widths in WIDTHS.items() for width in widths},
        "failures": [hidden for hidden, slope in found.items() if abs(slope - EXPECTED) > TOLERANCE],
    }
