"""Random networks of growing width: their kernels side by side, against the width, and against the angle of two inputs."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter

from plbook.figures import style


def kernels(matrices, titles, *, columns=3):
    """Kernels as images, with one scale of colors for all, so that equal colors are equal entries."""
    matrices = [np.asarray(matrix) for matrix in matrices]
    limit = max(np.abs(matrix).max() for matrix in matrices)
    rows = -(-len(matrices) // columns)
    with plt.rc_context(style.RC):
        fig, grid = plt.subplots(rows, columns, figsize=(5.8, 1.95 * rows), layout="constrained", squeeze=False)
        for axes, matrix, title in zip(grid.flat, matrices, titles):
            image = axes.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit)
            axes.set(xticks=[], yticks=[], xlabel="$j$", ylabel="$i$")
            axes.set_title(title)
        fig.colorbar(image, ax=grid, label="$K_{ij}$", shrink=0.85)
        fig.canvas.draw()
    plt.close(fig)
    return fig


def against_width(widths, draws, *, ylabel, xlabel="width $m$", laws=None, level=None):
    """Random networks against their width: each draw a dot, the medians joined, theory dashed.

    Args:
        widths: shape (k,), increasing.
        draws: name -> positive values of shape (draws, k), nan where nothing was measured; a single one may have the name "".
        laws: name -> the predicted values, shape (k,), nan where there is no prediction. A name that no draw has is
            written beside the last value.
        xlabel: what the x axis shows, if not widths.
        level: (text, value) of a horizontal line, what the draws should tend to.
    """
    with style.figure() as (fig, axes):
        for (name, values), color in zip(draws.items(), style.SERIES):
            values = np.asarray(values)
            axes.loglog(widths, values.T, "o", color=color, markersize=4, alpha=0.35, markeredgewidth=0)
            medians = np.median(values, axis=0)
            axes.loglog(widths, medians, "-", color=color)
            if name:
                last = np.flatnonzero(np.isfinite(medians))[-1]
                style.label(axes, widths[last], medians[last], name, color)
        for name, values in (laws or {}).items():
            axes.loglog(widths, values, "--", color=style.THEORY)
            if name not in draws:
                last = np.flatnonzero(np.isfinite(values))[-1]
                style.label(axes, widths[last], values[last], name, style.THEORY)
        if level is not None:
            text, value = level
            axes.axhline(value, linestyle="--", color=style.THEORY)
            style.label(axes, widths[0], value, text, style.THEORY, offset=(0, 12))
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.set_xticks(widths, [f"{width:,}" for width in widths])
        axes.xaxis.set_minor_formatter(NullFormatter())
        style.plain_ticks(axes.yaxis)
        if any(draws):  # room for the names at the right ends
            axes.set_xlim(right=widths[-1] * (widths[-1] / widths[0]) ** 0.35)
    return fig


def against_angle(angles, limits, measured, errors):
    """Kernel entries of two inputs against the angle between them: the limit dashed, means of random networks with bars.

    Args:
        angles: shape (k,), in degrees.
        limits, measured, errors: name -> shape (k,); `errors` are the half lengths of the bars.
    """
    with style.figure() as (fig, axes):
        for name, color in zip(limits, style.SERIES):
            axes.plot(angles, limits[name], "--", color=style.THEORY)
            axes.errorbar(angles, measured[name], errors[name], fmt="o", color=color, markersize=4.5, capsize=3, linewidth=1.3)
            style.label(axes, angles[-1], limits[name][-1], name, color)
        axes.axhline(0, color=style.FAINT, linewidth=0.8)
        axes.set(xlabel="angle between the inputs", ylabel="$K_{12}$")
        axes.set_xticks([0, 45, 90, 135, 180], ["0°", "45°", "90°", "135°", "180°"])
        axes.set_xlim(-4, 232)
    return fig
