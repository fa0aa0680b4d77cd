"""Certificates: balls that contain a solution, and the width from which they exist."""

import numpy as np
import torch
from matplotlib.lines import Line2D
from torch.func import vmap

from plbook.figures import style

GRID = 240


def certified_balls(system, points, certificates, *, extent=((-3.0, 3.0), (-3.0, 3.0))):
    """The solutions of one equation in two unknowns, and around each point the ball in which a solution is certified.

    Args:
        system: with one equation and two unknowns.
        points: shape (k, 2); those whose certificate does not hold become crosses.
        certificates: k results of `certify_solution`.
        extent: ((left, right), (bottom, top)).
    """
    if (system.num_equations, system.num_parameters) != (1, 2):
        raise ValueError(
            f"this figure needs one equation in two unknowns, got {system.num_equations} in {system.num_parameters}."
        )
    x, y = (torch.linspace(*side, GRID, dtype=torch.float64) for side in extent)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)
    residuals = vmap(system.residual)(grid).view(GRID, GRID)
    with style.figure(5.8, 5.3) as (fig, axes):
        axes.grid(False)
        axes.contour(x, y, residuals, levels=[0.0], colors=style.SOLUTIONS, linewidths=3.2)
        for point, certificate in zip(points, certificates):
            if certificate.holds:
                style.ball(axes, point, certificate.radius)
                axes.plot(*point, "o", color=style.THEORY, markersize=5)
            else:
                axes.plot(*point, "X", color=style.NOTE, markersize=9, markeredgecolor="white")
        handles = [
            Line2D([], [], color=style.SOLUTIONS, linewidth=3.2, label="solutions, F(w) = y"),
            Line2D([], [], color=style.THEORY, linestyle="--", label="certified ball"),
        ]
        if not all(certificate.holds for certificate in certificates):
            handles.append(Line2D([], [], color=style.NOTE, marker="X", linestyle="", markersize=9, label="no certificate"))
        axes.set(xlim=extent[0], ylim=extent[1], xlabel=r"$w_1$", ylabel=r"$w_2$", aspect="equal")
        style.legend_below(fig, handles)
    return fig


def widths_needed(widths, numbers, thresholds, *, trained):
    """Kantorovich numbers of random networks against their width, and where they get below what theorems ask for.

    Args:
        widths: shape (k,), increasing.
        numbers: h at the start, shape (networks, k).
        thresholds: text -> the number below which h has to be, largest first. The dashed line of slope -1/2 goes through
            the last median, as far as the last threshold.
        trained: the width from which gradient descent succeeds.
    """
    widths, numbers = np.asarray(widths, dtype=float), np.asarray(numbers)
    last = np.median(numbers[:, -1])
    crossings = [widths[-1] * (last / value) ** 2 for value in thresholds.values()]
    with style.figure() as (fig, axes):
        axes.loglog(widths, numbers.T, "o", color=style.MEASURED, markersize=4, alpha=0.35, markeredgewidth=0)
        axes.loglog(widths, np.median(numbers, axis=0), "-", color=style.MEASURED)
        axes.loglog([widths[-1], crossings[-1]], [last, list(thresholds.values())[-1]], "--", color=style.THEORY)
        for (text, value), crossing in zip(thresholds.items(), crossings):
            axes.loglog([trained, crossing], [value, value], "--", color=style.THEORY, linewidth=1.2)
            axes.plot(crossing, value, "o", color=style.THEORY, markersize=7)
            style.label(axes, trained, value, text, style.THEORY, offset=(6, -12))
        style.label(axes, widths[0], np.median(numbers[:, 0]), "$h$ at the start", style.MEASURED, offset=(10, 6))
        axes.axvline(trained, color=style.MEASURED, linewidth=1.6)
        style.label(axes, trained, 12 * numbers.max(), "gradient descent succeeds", style.MEASURED)
        axes.set(xlabel="width $m$", ylabel="$h = \\beta r_0 / \\lambda_0$", xlim=(trained / 2, 8 * crossings[-1]))
        axes.set_ylim(list(thresholds.values())[-1] / 8, 40 * numbers.max())
    return fig
