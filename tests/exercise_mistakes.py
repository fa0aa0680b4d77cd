"""For each computational exercise: the cells of its chapter that it builds on, and mistakes that its check must name.

`cells` are ids of code cells; `expected` is true of the right answer, where the text states numbers that the check does
not; `mistakes` maps a piece of a message to code that, after the right answer, makes the mistake.
"""

CASES = {
    "ex-1-width": {
        "cells": "imports system",
        "expected": "0.03 < min(smallest) < max(smallest) < 0.05 and [round(g, 2) for g in gaps] == [0.55, 0.16, 0.05]",
        "mistakes": {
            "one number for each": "gaps = gaps[:1]",
            ".smallest": "smallest = [6.16, 6.2, 6.1]",
            "50 digits": """
few = pl.datasets.digits(5)
first = pl.NetworkSystem(pl.MLP(64, [64], seed=0), few.inputs, few.targets)
smallest = [pl.kernel_spectrum(first).smallest, *smallest[1:]]""",
            "its own start": """
gaps = [(fit.losses[:301] / pl.linearized_losses(system, fit.step_size, 300)).log().abs().max().item()] * 3""",
        },
    },
    "ex-1-step": {
        "cells": "imports system",
        "mistakes": {
            "c / top": """
wild = pl.gradient_descent(system, step_size=top, max_steps=20)
ends = [(wild.losses[-1] / wild.losses[0]).item(), *ends[1:]]""",
            "factor 2": """
half = pl.gradient_descent(system, step_size=2 / top, max_steps=50)
peaks = [*peaks[:3], (half.losses / half.losses[0]).max().item()]""",
            "first loss": "peaks = [60 * x for x in peaks]",
            "largest loss on the way": "peaks = [1.0, 1.0, ends[2], peaks[3]]",
            "last losses": "ends = ends[:1] + peaks[1:]",
        },
    },
    "ex-2-routes": {
        "cells": "imports kernel-image-data",
        "mistakes": {
            "n x n": "a = torch.zeros(()).expand(system.num_parameters, system.num_parameters)",
            "same method twice": "difference = ((a - a).abs().max() / a.abs().max()).item()",
            "largest entry": "difference = ((a - 2 * b).abs().max() / a.abs().max()).item()",
        },
    },
    "ex-2-trained": {
        "cells": "imports kernel-image-data",
        "expected": "0.08 < change < 0.12",
        "mistakes": {
            "Pass run.w": "change = ((before - pl.tangent_kernel(system)).norm() / before.norm()).item()",
            "kernel before": "change = (after - before).norm().item()",
            "not squared": "change = change**2",
        },
    },
    "ex-3-sphere": {
        "cells": "imports",
        "mistakes": {
            "1/2 |F": "lowest = [2 * x for x in lowest]",
            "not a solution": """
hessians = [torch.func.hessian(pl.toys.bowl(tilt).loss)(0 * center) for tilt in (1.0, 0.1)]
lowest = [torch.linalg.eigvalsh(h)[0].item() for h in hessians]""",
            "at -tilt e_2": "lowest = [lowest[0] / 2, lowest[1]]",
            "moves with the tilt": """
lowest[1] = torch.linalg.eigvalsh(torch.func.hessian(sphere.loss)(0.5 * center))[0].item()""",
        },
    },
    "ex-3-random": {
        "cells": "imports digits",
        "mistakes": {
            "ten rows": "steps = steps.T",
            "length 0.1": "steps = 10 * torch.randn(10, 780, dtype=torch.float64, generator=generator)",
            "for each of the ten": "lowest = lowest[:1]",
            "trained + step": "lowest = [pl.loss_hessian_spectrum(system, trained).loss.smallest] * 10",
        },
    },
    "ex-4-witness": {
        "cells": "imports",
        "expected": "abs(pl.pl_ratio(system, w) / mu - 0.99) < 1e-3",
        "mistakes": {
            "sigma_min squared": "mu = 1.01 * S[-1].item()",
            "the last": "mu = 1.01 * S[0].item() ** 2",
            "no witness": "w = torch.linalg.pinv(A) @ (y + U[:, 0])",
        },
    },
    "ex-4-stuck": {
        "cells": "imports",
        "expected": "all(abs(loss - 0.056) < 6e-4 for loss in losses)",
        "mistakes": {
            "y = -1": "losses = [2 * x for x in losses]",
            "right half": """
left = pl.toys.cubic(target=-1.0, start=(-2.5, 0.0))
losses = [pl.gradient_descent(left, step_size=0.02, max_steps=500).losses[-1].item(), losses[1]]""",
            "pass run.w": "ratios = [pl.pl_ratio(cubic)] * 2",
            "ends run.w": "points = [cubic.start, cubic.start]",
        },
    },
    "ex-5-polar": {
        "cells": "imports",
        "mistakes": {
            "a row for each r": "quotients = quotients[0]",
            "rho squared": "quotients = [[0.1 * x for x in quotients[0]], quotients[1]]",
            "eigenvalues after": "quotients = [[100.0, 100.0], quotients[1]]",
            "each r anew": "quotients = [quotients[0], [x / 0.1**2 for x in quotients[1]]]",
        },
    },
    "ex-5-radius": {
        "cells": "imports",
        "expected": "abs(radius - 0.286) < 5e-4 and pl.jacobian_lipschitz_bound(system, radius).center < beta",
        "mistakes": {
            "three rows": "beta = norm = pl.hessian_norms(system).largest",
            "n = 3": "beta = beta * (8 / 3) ** 0.5",
            "not low - mu": "radius = (low - low / 4) / beta",
            "a quarter": "radius = (low**0.5 - (low / 2) ** 0.5) / beta",
        },
    },
    "ex-6-exponent": {
        "cells": "imports first",
        "expected": "-0.6 < slope < -0.4",
        "mistakes": {
            "one median": "distances = distances[:3]",
            "the distance falls": "slope = -slope",
            "fit the logarithms": "slope = np.polyfit(widths, distances, 1)[0]",
            "squared distance": "slope = 2 * slope",
            "not of tanh": """
distances = [(random_kernel([m], 0, "relu") - limit).norm().item() for m in widths]""",
        },
    },
    "ex-6-bias": {
        "cells": "imports first opposite-code",
        "mistakes": {
            "negative of one": "system = pl.NetworkSystem(biased, x, y)",
            "513 biases": """
layers = [torch.nn.Linear(64, 512, bias=False), torch.nn.Tanh(), torch.nn.Linear(512, 1, bias=False)]
system = pl.NetworkSystem(torch.nn.Sequential(*layers), with_negative, targets)""",
            "the new system": """
spectrum = pl.kernel_spectrum(pl.NetworkSystem(pl.MLP(64, [512]), with_negative, targets))""",
        },
    },
    "ex-7-two": {
        "cells": "imports first",
        "mistakes": {
            "4 seeds in rows": "norms = norms.mean(axis=0)",
            "2 units": "norms = np.ones((4, 4))",
            "not its square": "norms = norms**2",
        },
    },
    "ex-7-window": {
        "cells": "imports first exponents",
        "expected": "2 < min(larger / smaller) and max(larger / smaller) < 3",
        "mistakes": {
            "mean over the seeds": "larger = larger[:1]",
            "swapped": "larger, smaller = smaller, larger",
            "passed on": "larger = 1.01 * smaller",
        },
    },
    "ex-8-small": {
        "cells": "imports",
        "expected": "[round(x, 2) for x in bounds] == [0.27, 0.14, 0.14] and {round(x, 3) for x in lengths} == {0.114}",
        "mistakes": {
            "distance from 0": "lengths = [run.w.norm().item()] * 3",
            "record_every=1": "lengths = [run.points[:2].diff(dim=0).norm(dim=1).sum().item()] * 3",
            "the paper's": "bounds = [2 * L_F * r0 / mu] * 3",
            "2 / (2 - theta)": "bounds = [2 * r0 / mu**0.5] * 3",
        },
    },
    "ex-8-batch": {
        "cells": "imports sgd-model",
        "expected": "abs(decays[0] - 0.0131) < 5e-5 and abs(decays[3] - 0.0011) < 5e-5",
        "mistakes": {
            "n is missing": "decays = [3 * d for d in decays]",
            "at s = 1": "decays = [d / 3 for d in decays]",
            "depends on s": "decays = [decays[0]] * 4",
            "no factor s": """
decays = [decays[0], decays[1], decays[2], 100 * decays[3] / 101]
decays[2] = decays[3]""",
        },
    },
    "ex-9-equations": {
        "cells": "imports",
        "expected": "abs(distances[0] - 2.1) < 0.06 and abs(distances[3] - 4.7) < 0.06",
        "mistakes": {
            "mean over the seeds": "distances = lengths + lengths",
            "not of run.w": "distances = [run.w.norm().item()] * 4",
            "squared lengths": "distances = [d**2 / 2 for d in distances]",
            "5 and 40": "distances = [distances[2], *distances[1:]]",
        },
    },
    "ex-9-batch": {
        "cells": "imports",
        "mistakes": {
            "with replacement": "factor = 0.9**2",
            "a square": "factor = sum(p * (1 - 0.1 * k) for k, p in counts.items())",
            "probabilities": "factor = (1 + 0.81 + 0.64) / 3",
        },
    },
    "ex-10-three": {
        "cells": "imports",
        "mistakes": {
            "half the sum": "floor = 8 / 3",
            "mean label": "floor = system.loss([1.0]).item() - 0.1",
            "mu too large": "mu = 3",
            "mu too small": "mu = 1 * (1 - 2 / 3)",
        },
    },
    "ex-10-bumps": {
        "cells": "imports",
        "expected": "abs(threshold - 0.456) < 5e-4",
        "mistakes": {
            "counts maxima": "minima = len(turns)",
            "0.01 or finer": "minima = 4",
            "factor 1/2": "threshold = 2 * threshold",
            "maxima count": "threshold = max(system.loss(grid[i]).item() for i in turns if slopes[i] < 0)",
            "no critical value": "threshold = system.loss(grid[turns[-1] + 30]).item()",
        },
    },
    "ex-11-rotations": {
        "cells": "imports",
        "expected": "[f'{x:.2f}' for x in allowed] == ['1.01', '2.47']",
        "mistakes": {
            "below 1": "allowed = [1 / x for x in allowed]",
            "not squared": "allowed = [x**0.5 for x in allowed]",
            "divide (1, 2, 2)": """
allowed = [pl.coordinate_change(system, change, (t * 3 * axis)[None]).allowed.item() for t in (0.2, 2.0)]""",
            "small rotation": "allowed = [allowed[1], allowed[1]]",
        },
    },
    "ex-11-guess": {
        "cells": "imports",
        "expected": "[f'{x:.3f}' for x in rates] == ['0.964', '0.900', '0.979']",
        "mistakes": {
            "for each guess": "rates = rates[1:]",
            "pass momentum": "rates[1] = pl.momentum_rates([1.0], step_size=0.01, momentum=0.0)[0].item()",
            "not of the loss": "rates = [x**2 for x in rates]",
            "not at the guess": "rates = [pl.momentum_constants(g, 100).rate for g in (0.1, 1.0, 10.0)]",
        },
    },
    "ex-12-single": {
        "cells": "imports train",
        "mistakes": {
            "not rounded": "w = polished.w",
            "not the start": "single = pl.certify_solution(system, system.start)",
            "not polished.w": "single = certificate",
            "40 digits": """
other = pl.NetworkSystem(pl.MLP(64, [64, 64]), digits.inputs, digits.targets + 1e-4)
single = pl.certify_solution(other, w)""",
        },
    },
    "ex-12-own": {
        "cells": "imports",
        "expected": "answers[1].smallest_eigenvalue < 1e-6",
        "mistakes": {
            "polish after": "answers = [pl.certify_solution(system), answers[1]]",
            "that the bounds know": """
from dataclasses import replace
answers = [replace(answers[0], rigour='estimate'), answers[1]]""",
            "there twice": "answers = [answers[0], answers[0]]",
            "compare n": """
from dataclasses import replace
answers = [answers[0], replace(answers[0], smallest_eigenvalue=0.0)]""",
        },
    },
    "ex-13-softplus": {
        "cells": "imports network",
        "expected": "end.steps <= 12",
        "mistakes": {
            "tanh network": "poor = pl.diagnose(network, images, targets)",
            "not the start": "certificate = pl.certify_solution(system)",
            "ReLU": """
from dataclasses import replace
certificate = replace(certificate, holds=False)""",
        },
    },
    "ex-13-rate": {
        "cells": "imports network",
        "mistakes": {
            "sum of squares": """
system = pl.NetworkSystem(network, images, targets)
w = system.start - 2 * eta * system.gradient(system.start)""",
            "for the mean": """
system = pl.NetworkSystem(network, images, targets)
w = system.start - 100 * eta * system.gradient(system.start)""",
            "uphill": """
system = pl.NetworkSystem(network, images, targets)
w = system.start + eta * system.gradient(system.start)""",
            "double precision": "w = w.float().double()",
        },
    },
}
