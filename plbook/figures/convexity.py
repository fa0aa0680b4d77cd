"""Where a loss with two unknowns curves downward, and curvature along lines beside what theory predicts."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch.func import hessian, vmap

from plbook.figures import style

GRID = 160
FLAT = -1e-9  # eigenvalues above it count as 0: rounding


def convexity(systems, titles, *, extents, minima):
    """Contours of losses side by side; shaded where the Hessian of the loss has a negative eigenvalue.

    Args:
        systems: each with two unknowns. The solutions of one with a single equation are drawn as a curve.
        titles: a text for each.
        extents: ((left, right), (bottom, top)) for each.
        minima: for each, isolated minima to mark, a list of points.
    """
    for system in systems:
        if system.num_parameters != 2:
            raise ValueError(f"a map of convexity needs systems with two unknowns, got {system.num_parameters}.")
    with plt.rc_context(style.RC):
        # As wide as other figures, so that words stay as large on a phone.
        fig, row = plt.subplots(1, len(systems), figsize=(5.8, 4.8), layout="constrained", squeeze=False)
        for axes, system, title, extent, points in zip(row[0], systems, titles, extents, minima):
            x, y, losses, smallest, residuals = _on_grid(system, extent)
            axes.grid(False)
            axes.contourf(x, y, smallest, levels=[-np.inf, FLAT], colors=[style.NON_CONVEX])
            levels = np.unique(np.quantile(losses, np.linspace(0.03, 0.9, 11)))
            axes.contour(x, y, losses, levels=levels, colors=style.FAINT, linewidths=0.8)
            if system.num_equations == 1:
                axes.contour(x, y, residuals, levels=[0.0], colors=style.SOLUTIONS, linewidths=3.2)
            for point in points:
                axes.plot(*point, "o", color=style.NOTE, markersize=9, markeredgecolor="white")
            axes.set(xlim=extent[0], ylim=extent[1], xlabel="$w_1$", ylabel="$w_2$", title=title)
            axes.locator_params(nbins=5)
        style.legend_below(fig, _handles(systems, minima))
        fig.canvas.draw()
    plt.close(fig)
    return fig


def _on_grid(system, extent):
    x, y = (torch.linspace(*side, GRID, dtype=torch.float64) for side in extent)
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)
    residuals = vmap(system.residual)(points)
    # The smaller eigenvalue of [[a, b], [b, d]].
    (a, b), (_, d) = vmap(hessian(system.loss))(points).permute(1, 2, 0)
    smallest = (a + d) / 2 - torch.hypot((a - d) / 2, b)
    losses = residuals.square().sum(dim=1) / 2
    return x, y, *(values.view(GRID, GRID) for values in (losses, smallest, residuals[:, 0]))


def _handles(systems, minima):
    handles = [Patch(color=style.NON_CONVEX, label="the loss curves downward in a direction")]
    if any(system.num_equations == 1 for system in systems):
        handles.append(Line2D([], [], color=style.SOLUTIONS, linewidth=3.2, label="solutions"))
    if any(minima):
        handles.append(Line2D([], [], color=style.NOTE, marker="o", linestyle="", markersize=8, label="isolated minima"))
    return handles


def profiles(positions, measured, predicted, *, xlabel, ylabel, offsets=None):
    """Curves along a line, solid, each beside what theory predicts for it, dashed.

    Args:
        positions: shape (k,), increasing.
        measured: text -> values, shape (k,); the text stands at the right end.
        predicted: text -> values, shape (k,), or for a part of a curve shape (j,) with j <= k, its first j positions;
            a text that `measured` has, too, is not repeated.
        offsets: text -> (x, y) in points, where a text stands beside the end of its curve.
    """
    positions, offsets = np.asarray(positions), offsets or {}
    with style.figure() as (fig, axes):
        axes.axhline(0, color=style.FAINT, linewidth=1)
        for (text, values), color in zip(measured.items(), style.SERIES):
            axes.plot(positions, values, "-", color=color)
            style.label(axes, positions[-1], values[-1], text, color, offset=offsets.get(text, (6, 0)))
        for text, values in predicted.items():
            shown = positions[: len(values)]
            axes.plot(shown, values, "--", color=style.THEORY)
            if text not in measured:
                style.label(axes, shown[-1], values[-1], text, style.THEORY, offset=offsets.get(text, (6, 0)))
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.margins(y=0.1)
        # Room for the texts at the right ends.
        axes.set_xlim(positions[0], positions[-1] + 0.3 * (positions[-1] - positions[0]))
    return fig
