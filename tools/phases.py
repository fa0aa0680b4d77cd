"""The data of the page "Width and step size, to explore": gradient descent for every width and step size, and what is known at the start.

All mathematics is plbook's; this module chooses the runs, rounds what they give, and writes it.
"""

import json
from concurrent.futures import ProcessPoolExecutor
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context
from math import isfinite, nan
from multiprocessing import get_context

import torch
from notebook_environment import ROOT

import plbook as pl

DATA = ROOT / "book" / "_static" / "explorables" / "phases-data.js"
PICTURE = ROOT / "book" / "_static" / "explorables" / "phases.png"
# A script that defines one constant: a page opened from a file may load it, which it may not do with JSON.
HEAD, TAIL = "const PHASES = ", ";\n"

NUM_INPUTS, PIXELS = 10, (4, 2)
WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096, 16384)
# Step sizes in units of 1 / lambda_max(K(w0)), each 1.3 times the one before. The limit of stability, 2, lies between two of them.
MULTIPLES = tuple(float(f"{2 * 1.3 ** (k + 0.5):.3g}") for k in range(-14, 6))
MAX_STEPS, CONVERGED, DIVERGED = 1000, 1e-6, 1e6
TIMES = tuple(sorted({round(10 ** (k / 9)) for k in range(28)} | {0}))
# A curve is stored as far as a start that is moved by this fraction of its length gives the same losses up to TOLERANCE.
# Rounding errors are a million times smaller, so up to there another machine draws the same curve.
MOVED, TOLERANCE = 1e-9, 1e-3


def system_of(width):
    """Ten digits of 4 by 2 pixels; one hidden layer of tanh units, output weights +-1 at the start, and outputs counted from those of the start."""
    images = pl.datasets.digits(NUM_INPUTS).inputs.view(-1, 1, 8, 8)
    inputs = pl.datasets.on_sphere(torch.nn.functional.adaptive_avg_pool2d(images, PIXELS).flatten(1))
    network = pl.MLP(inputs.shape[1], [width])
    with torch.no_grad():
        network[-1].weight.sign_()
        targets = network(inputs)[:, 0] + 0.5 * pl.datasets.digits(NUM_INPUTS).targets
    return pl.NetworkSystem(network, inputs, targets)


def digits(x, rounding=ROUND_HALF_EVEN):
    """Three significant digits, which do not differ between machines; None stays None."""
    return None if x is None else float(Context(prec=3, rounding=rounding).create_decimal_from_float(float(x)))


def relative_losses(system, start, step_size):
    """The losses of a run, relative to the first, until it has converged or diverged; and the last point."""
    run = pl.gradient_descent(system, start, step_size=step_size, max_steps=MAX_STEPS, loss_tolerance=CONVERGED)
    losses = run.losses / run.losses[0]
    beyond = (~(losses < DIVERGED)).nonzero().flatten().tolist()  # NaN, too
    return losses[: beyond[0] + 1] if beyond else losses, run.w


def phase_of(losses):
    """How a run ends. "slow" is all that is neither."""
    return "converged" if losses[-1] <= CONVERGED else "slow" if losses[-1] < DIVERGED else "diverged"


def moved_start(system):
    """A start beside system.start, in a seeded direction."""
    direction = torch.randn(system.num_parameters, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return system.start + MOVED * direction * (system.start.norm() / direction.norm())


def same_until(losses, others):
    """The number of steps up to which two runs have the same losses, up to TOLERANCE."""
    common = min(len(losses), len(others))
    apart = ((losses[:common] - others[:common]).abs() > TOLERANCE * losses[:common]).nonzero().flatten().tolist()
    return apart[0] - 1 if apart else common - 1


def cell_of(system, multiple):
    """One run: its phase, the steps it took, its losses at the TIMES and at the end, and the top of K at the end."""
    largest = pl.kernel_spectrum(system).largest
    losses, w = relative_losses(system, system.start, multiple / largest)
    others, _ = relative_losses(system, moved_start(system), multiple / largest)
    phase = phase_of(losses)
    if phase != phase_of(others):
        raise ValueError(f"rounding decides about {multiple:.3g} / lambda_max at {system.num_parameters} parameters; choose other step sizes.")
    end, known = len(losses) - 1, same_until(losses, others)
    cell = {"phase": phase, "steps": None, "curve": [digits(losses[t]) for t in TIMES if t <= known]}
    if known == end:
        cell |= {"steps": end, "last": digits(losses[-1])}
    if phase == "converged":
        cell["top"] = digits(multiple * pl.jacobian_norm(system, w) ** 2 / largest)
    return cell


def start_of(system):
    """What is known before the first step. Step sizes are in units of 1 / lambda_max(K(w0))."""
    spectrum, certificate = pl.kernel_spectrum(system), pl.certify_solution(system)
    eigenvalues, vectors = torch.linalg.eigh(pl.tangent_kernel(system))
    parts = (vectors.T @ system.residual(system.start)).square()
    h, descent = certificate.kantorovich_number, certificate.descent
    return {
        "parameters": system.num_parameters,
        "smallest": digits(spectrum.smallest) if spectrum.resolved else None,
        "largest": digits(spectrum.largest),
        "residual": digits(certificate.residual_norm),
        "hessian": digits(pl.hessian_norms(system).largest),
        "theorem": digits(pl.step_constants(system).step_size * spectrum.largest),
        # Eigenvalues of K relative to the largest, and the part of the loss that belongs to each: the linearized run.
        "modes": [
            [digits(value / spectrum.largest) if value > spectrum.error else 0.0, digits(part / parts.sum())]
            for value, part in zip(eigenvalues, parts)
        ],
        "certified": certificate.holds,
        "kantorovich": digits(h, ROUND_CEILING) if isfinite(h) else None,
        "distance": digits(certificate.radius, ROUND_CEILING) if certificate.holds else None,
        # For every step size c / lambda_max(K(w0)) with c <= "multiple": L(w_t) <= (1 - "rate" c)^t L(w0). Not to be rounded up.
        "guarantee": descent and {
            "multiple": digits(descent.step_size * spectrum.largest, ROUND_FLOOR),
            "rate": digits((1 - descent.factor) / (descent.step_size * spectrum.largest), ROUND_FLOOR),
        },
    }


def row_of(width):
    system = system_of(width)
    return {"width": width, **start_of(system), "cells": [cell_of(system, multiple) for multiple in MULTIPLES]}


def compute():
    """All rows, each on a processor of its own, the long ones first."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as workers:
        rows = list(workers.map(row_of, reversed(WIDTHS)))[::-1]
    return {
        "equations": NUM_INPUTS, "multiples": MULTIPLES, "times": TIMES, "maxSteps": MAX_STEPS,
        "converged": CONVERGED, "diverged": DIVERGED, "rows": rows,
    }


def read():
    """The stored data."""
    return json.loads(DATA.read_text().removeprefix(HEAD).removesuffix(TAIL))


def limits_of(rows):
    """What theory says of the step sizes of each row, by name; nan where it says nothing."""
    return {
        "guaranteed": [row["guarantee"]["multiple"] if row["guarantee"] else nan for row in rows],
        "Theorem 6": [row["theorem"] for row in rows],
        "linear limit": [2.0] * len(rows),
    }


def draw(data):
    """The picture for readers without scripts."""
    import matplotlib

    matplotlib.use("Agg")
    from plbook import figures

    rows = data["rows"]
    outcomes, steps = ([[cell[key] for cell in row["cells"]] for row in rows] for key in ("phase", "steps"))
    figure = figures.phases(
        [row["width"] for row in rows], data["multiples"], outcomes, steps,
        limits=limits_of(rows), xlabel=r"step size, in units of $1/\lambda_{\max}$",
    )
    figure.savefig(PICTURE)


def write():
    """Compute and store the data, one run in a line, and the picture."""
    data = compute()
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    DATA.write_text(HEAD + text.replace('{"curve"', '\n{"curve"') + TAIL)
    draw(data)
