"""Curves: losses along runs and segments, eigenvalues along paths, measurements against what theory says."""

import numpy as np
from matplotlib.ticker import NullFormatter

from plbook.figures import style


def descent(trajectory, *, mu, linearized=None):
    """The relative loss of a run against the guarantee (1 - eta mu)^t, and the linearized prediction if given."""
    losses = trajectory.losses / trajectory.losses[0]
    steps = np.arange(len(losses))
    guarantee = (1 - trajectory.step_size * mu) ** steps
    end = steps[-1]
    with style.figure() as (fig, axes):
        axes.semilogy(steps, guarantee, "--", color=style.THEORY)
        axes.semilogy(steps, losses, "-", color=style.MEASURED)
        style.label(axes, 0.55 * end, guarantee[int(0.55 * end)], "guarantee, $(1-\\eta\\mu)^t$", style.THEORY, offset=(0, 14))
        style.label(axes, 0.3 * end, losses[int(0.3 * end)], "measured", style.MEASURED, offset=(8, 12))
        if linearized is not None:
            axes.semilogy(steps, linearized / linearized[0], "--", color=style.THEORY)
            at = int(0.6 * end)
            style.label(axes, at, linearized[at] / linearized[0], "linearized", style.THEORY, offset=(-8, -14), ha="right")
        axes.set(xlabel="step $t$", ylabel="$L(w_t)\\,/\\,L(w_0)$", xlim=(0, None))
    return fig


def segment(positions, losses, *, ends=("first", "second")):
    """The loss along the straight line between two points, with the chord that a convex loss would stay below."""
    with style.figure() as (fig, axes):
        axes.plot(positions, losses, "-", color=style.MEASURED)
        axes.plot(positions[[0, -1]], losses[[0, -1]], "--", color=style.THEORY)
        axes.plot(positions[[0, -1]], losses[[0, -1]], "o", color=style.SOLUTIONS, markersize=9, clip_on=False)
        middle = len(positions) // 2
        style.label(axes, positions[middle], losses[middle], "measured loss", style.MEASURED, offset=(0, 14), ha="center")
        style.label(axes, positions[middle], 0.0, "a convex loss stays on or below this line", style.THEORY, offset=(0, 12), ha="center")
        axes.set(xlabel=f"position between the {ends[0]} and the {ends[1]} solution", ylabel="$L$")
        axes.set_ylim(bottom=-0.06 * float(losses.max()), top=1.15 * float(losses.max()))
        axes.locator_params(axis="x", nbins=5)
    return fig


def eigenvalues_along_path(steps, smallest, ratios):
    """The smallest eigenvalue of K and the PL ratio at the recorded points of a run."""
    with style.figure() as (fig, axes):
        axes.semilogy(steps, ratios, "-", color=style.MEASURED)
        axes.semilogy(steps, smallest, "-", color=style.SERIES[1])
        middle = len(steps) // 2
        style.label(axes, steps[middle], ratios[middle], "PL ratio", style.MEASURED, offset=(0, 16))
        style.label(axes, steps[middle], smallest[middle], "$\\lambda_{\\min}(K)$", style.SERIES[1], offset=(0, -16))
        axes.set(xlabel="step $t$", ylabel="PL ratio, $\\lambda_{\\min}(K)$")
        axes.set_ylim(min(smallest) / 3, max(ratios) * 3)
    return fig


def ratios(smallest, measured):
    """PL ratios against the smallest eigenvalue at the same points: nothing lies below the diagonal."""
    with style.figure() as (fig, axes):
        low, high = min(smallest) / 1.5, max(smallest) * 1.5
        axes.loglog([low, high], [low, high], "--", color=style.THEORY)
        axes.loglog(smallest, measured, "o", color=style.MEASURED, markersize=4, alpha=0.6, markeredgewidth=0)
        middle = (low * high) ** 0.5
        style.label(axes, middle, middle, "ratio = $\\lambda_{\\min}$", style.THEORY, va="top", offset=(8, -14))
        axes.set(xlabel="smallest eigenvalue of $K(w)$", ylabel="PL ratio at $w$", xlim=(low, high))
        style.plain_ticks(axes.xaxis)
        style.plain_ticks(axes.yaxis)
    return fig


def exponents(x, curves, *, slopes, xlabel, ylabel):
    """Measured curves on logarithmic axes, each with the power law of its predicted slope.

    Args:
        x: shape (k,), increasing.
        curves: name -> positive values of shape (k,).
        slopes: name -> predicted exponent; its dashed line passes through the curve's first point.
    """
    highest = max(values.max() for values in curves.values())
    with style.figure() as (fig, axes):
        for (name, values), color in zip(curves.items(), style.SERIES):
            axes.loglog(x, values, "-", color=color, marker="o", markersize=4)
            law = values[0] * (x / x[0]) ** slopes[name]
            shown = law <= 1.5 * highest
            axes.loglog(x[shown], law[shown], "--", color=style.THEORY, linewidth=1.5)
            style.label(axes, x[-1], values[-1], name, color)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        # Between powers of ten the labels of a logarithmic axis would run into each other.
        axes.xaxis.set_minor_formatter(NullFormatter())
        # Room for the names at the right ends of the curves.
        axes.set_xlim(right=x[-1] * (x[-1] / x[0]) ** 0.3)
        style.plain_ticks(axes.xaxis)
        style.plain_ticks(axes.yaxis)
    return fig


def against_bound(
    x, measured, bound, *, xlabel, ylabel, measured_label="measured", bound_label="bound", log="", label_at=(0.5, 0.5)
):
    """A measured curve and the theory that bounds it from either side.

    Args:
        x, measured, bound: shape (k,); bound may also be one number.
        log: the axes with a logarithmic scale: "", "x", "y" or "xy".
        label_at: where along the x axis the labels of measurement and bound stand, from 0 to 1.
    """
    x, measured = np.asarray(x, dtype=float), np.asarray(measured, dtype=float)
    bound = np.broadcast_to(np.asarray(bound, dtype=float), x.shape)
    positions = np.log(x) if "x" in log else x
    with style.figure() as (fig, axes):
        axes.plot(x, bound, "--", color=style.THEORY)
        axes.plot(x, measured, "-", color=style.MEASURED, marker="o" if len(x) <= 40 else None, markersize=5)
        for axis in log:
            getattr(axes, f"set_{axis}scale")("log")
        for where, values, text, color in zip(
            label_at, (measured, bound), (measured_label, bound_label), (style.MEASURED, style.THEORY)
        ):
            index = np.abs(positions - (positions[0] + where * (positions[-1] - positions[0]))).argmin()
            style.label(axes, x[index], values[index], text, color, offset=(0, 12), ha="left" if where < 0.8 else "right")
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.margins(y=0.12)
        style.plain_ticks(axes.xaxis)
        style.plain_ticks(axes.yaxis)
    return fig


def rates(steps, measured, laws, *, ylabel="mean of $L(w_t)\\,/\\,L(w_0)$"):
    """A measured loss, relative to its start, against exponential laws.

    Args:
        steps, measured: shape (k,).
        laws: name -> the predicted values, shape (k,).
    """
    steps, measured = np.asarray(steps), np.asarray(measured)
    with style.figure() as (fig, axes):
        for position, (name, values) in enumerate(laws.items()):
            axes.semilogy(steps, values, "--", color=style.THEORY)
            at = int((0.8 - 0.3 * position) * (len(steps) - 1))
            below = values[at] < measured[at]
            style.label(
                axes, steps[at], values[at], name, style.THEORY,
                offset=(-8, -12) if below else (0, 14), ha="right" if below else "left",
            )
        axes.semilogy(steps, measured / measured[0], "-", color=style.MEASURED)
        style.label(axes, steps[-1], measured[-1] / measured[0], "measured", style.MEASURED)
        axes.set(xlabel="step $t$", ylabel=ylabel, xlim=(0, 1.22 * steps[-1]))
        style.plain_ticks(axes.yaxis)
    return fig


def kernel_image(kernel, labels):
    """The entries of a tangent kernel as an image, inputs sorted by label."""
    labels = np.asarray(labels)
    order = np.argsort(labels, kind="stable")
    entries = np.asarray(kernel)[np.ix_(order, order)]
    limit = np.abs(entries).max()
    with style.figure(5.6, 4.8) as (fig, axes):
        axes.grid(False)
        image = axes.imshow(entries, cmap="RdBu_r", vmin=-limit, vmax=limit)
        fig.colorbar(image, ax=axes, label="$K_{ij}$", shrink=0.85)
        sorted_labels = labels[order]
        starts = np.searchsorted(sorted_labels, np.unique(sorted_labels))
        centers = (starts + np.append(starts[1:], len(order)) - 1) / 2
        for set_ticks in (axes.set_xticks, axes.set_yticks):
            set_ticks(centers, np.unique(sorted_labels))
        axes.set(xlabel="digit of input $j$", ylabel="digit of input $i$")
    return fig
