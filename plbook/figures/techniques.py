"""Brackets of the conditioning of balls, bottlenecks, and shares of random draws, beside what theorems promise."""

import numpy as np
from matplotlib.ticker import NullFormatter

from plbook.figures import style

FLOOR = 1e-3  # of the eigenvalue at the center: where the vertical axis ends


def brackets(records, guarantees, *, start):
    """The smallest eigenvalue of K on balls around one point, against their radius: what is proved and what is found.

    Args:
        records: results of `uniform_conditioning`, by increasing radius. Upper ends are joined, lower ends are circles.
        guarantees: text -> (radii, values), what a theorem promises; the one that ends first comes first.
        start: the smallest eigenvalue at the center; everything is drawn as a multiple of it.
    """
    radii = np.array([record.radius for record in records])
    lower, upper = (np.array([getattr(record, end) for record in records]) / start for end in ("lower", "upper"))
    with style.figure() as (fig, axes):
        axes.loglog(radii, upper, "-", color=style.MEASURED, marker="o", markersize=5)
        axes.loglog(radii, lower, "o", color=style.THEORY, markersize=6, markerfacecolor="white")
        style.label(axes, radii[0], upper[0], "smallest found", style.MEASURED, offset=(0, 14))
        for (text, (positions, values)), side in zip(guarantees.items(), ("right", "left")):
            positions, values = np.asarray(positions), np.asarray(values) / start
            axes.loglog(positions, values, "--", color=style.THEORY)
            last = np.flatnonzero(values > 4 * FLOOR)[-1]
            shift = 8 if side == "left" else -8
            style.label(axes, positions[last], values[last], text, style.THEORY, offset=(shift, 0), ha=side)
        axes.set(xlabel="radius $R$ of the ball", xlim=(radii[0] / 2, 5 * radii[-1]), ylim=(FLOOR, 2.2))
        axes.set_ylabel("$\\lambda_{\\min}(K)\\,/\\,\\lambda_{\\min}(K(w_0))$")
    return fig


def bottlenecks(sizes, whole, upper):
    """The smallest eigenvalue of K_h for networks h = g o f, against the outputs of f, and that of K_g, which bounds it.

    Args:
        sizes: shape (k,), increasing.
        whole, upper: the eigenvalues of K_h and of K_g, shape (draws, k). Draws of K_h are dots; lines join medians.
    """
    middle = len(sizes) // 2
    medians, bound = np.median(whole, axis=0), np.median(upper, axis=0)
    with style.figure() as (fig, axes):
        axes.loglog(sizes, np.transpose(whole), "o", color=style.MEASURED, markersize=4, alpha=0.35, markeredgewidth=0)
        axes.loglog(sizes, medians, "-", color=style.MEASURED)
        axes.loglog(sizes, bound, "--", color=style.THEORY)
        style.label(axes, sizes[middle], medians[middle], "$K_h$", style.MEASURED, offset=(0, 24), ha="center")
        style.label(axes, sizes[middle], bound[middle], "$K_g$, the bound", style.THEORY, offset=(0, -18))
        axes.set(xlabel="units in the bottleneck", ylabel="$\\lambda_{\\min}$")
        axes.set_xticks(sizes, [f"{size}" for size in sizes])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(top=5 * np.max(whole))
    return fig


def shares(numbers, measured, promises):
    """Shares of random draws in which something holds, against the number of inputs, beside what was promised.

    Args:
        numbers: shape (k,), increasing.
        measured: text -> shares from 0 to 1, shape (k,).
        promises: text -> a share; the first one has its text above its line, others below.
    """
    middle = numbers[len(numbers) // 2]
    with style.figure() as (fig, axes):
        for (text, values), color in zip(measured.items(), style.SERIES):
            axes.plot(numbers, values, "-", color=color, marker="o", markersize=5)
            style.label(axes, numbers[-1], values[-1], text, color)
        for (text, share), height in zip(promises.items(), (13, -13)):
            axes.plot(numbers, np.full(len(numbers), share), "--", color=style.THEORY)
            style.label(axes, middle, share, text, style.THEORY, offset=(0, height), ha="center")
        axes.set(xlabel="number of inputs $n$", ylabel="share of the draws", ylim=(-0.04, 1.12))
        axes.set_xticks(numbers)
        axes.set_xlim(right=numbers[-1] + 0.35 * (numbers[-1] - numbers[0]))
    return fig
