"""Almost over-parameterized systems: valleys with a bumpy bottom, balls and domains of PL*, losses that stall."""

import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch.func import jacrev, vmap

from plbook.figures import style
from plbook.figures.landscape import landscape

GRID = 240
SURFACE = 80
BOTTOM = "#B8B8B8"
HEIGHTS = LinearSegmentedColormap.from_list("heights", ["#0B3C5D", style.MEASURED, style.PL_REGION])


def valley(system, *, epsilon=None, extent=((-3.0, 3.0), (-0.8, 3.6)), highest=2.0, view=(70, -80)):
    """The loss over the plane as a surface, with its local minima: the paper's Figures 3 and 5.

    A local minimum whose loss is not zero is a singular point, so it has that color.

    Args:
        system: with two unknowns.
        epsilon: the part with a loss of at least this is colored, the rest gray; None colors by height.
        extent: ((left, right), (bottom, top)).
        highest: the surface is cut off at this loss.
        view: elevation and azimuth, in degrees.
    """
    _check_two_unknowns(system)
    x, y, points = _grid(extent, SURFACE)
    losses = vmap(system.loss)(points).view(SURFACE, SURFACE).numpy()
    shown = np.where(losses <= highest, losses, np.nan)
    with style.figure(5.4, 4.4, projection="3d") as (fig, axes):
        colors = HEIGHTS(np.minimum(losses / highest, 1))
        if epsilon is not None:
            colors[losses < epsilon] = to_rgba(BOTTOM)
        axes.plot_surface(*np.meshgrid(x, y), shown, facecolors=colors, rcount=SURFACE, ccount=SURFACE, linewidth=0, antialiased=False, shade=False)
        axes.plot(*_local_minima(system, extent), "o", color=style.SINGULAR, markersize=8, markeredgecolor="white", zorder=10)
        axes.view_init(*view)
        axes.set(xlabel="$w_1$", ylabel="$w_2$", zlabel="$L$", zlim=(0, highest))
        axes.locator_params(nbins=4)
        axes.set_zticks([0, highest / 2, highest], [f"{height:g}" for height in (0, highest / 2, highest)])
        handles = [Line2D([], [], color=style.SINGULAR, marker="o", linestyle="", markersize=7, label="local minima")]
        if epsilon is not None:
            handles += [Patch(color=HEIGHTS(0.45), label=f"$L \\geq {epsilon:g}$"), Patch(color=BOTTOM, label=f"$L < {epsilon:g}$")]
        style.legend_below(fig, handles, columns=3)
    return fig


def solution_balls(system, balls, *, mu, extent=((-3.0, 3.0), (-3.0, 3.0)), singular_points=(), name="ball of Theorem 6"):
    """The region of PL* with constant mu, and balls that Theorem 6 says contain a solution: the paper's Figure 2.

    Args:
        system: with two unknowns.
        balls: pairs of a center and a radius.
        singular_points: points to mark, where DF loses rank.
        name: what the balls are called.
    """
    fig = landscape(system, mu=mu, extent=extent, singular_points=singular_points, num_contours=3)
    axes = fig.axes[0]
    for center, radius in balls:
        style.ball(axes, center, radius)
        axes.plot(*center, "o", color=style.THEORY, markersize=5, zorder=5)
    legend = fig.legends[0]
    handles = [*legend.legend_handles, Line2D([], [], color=style.THEORY, linestyle="--", label=name)]
    legend.remove()
    style.legend_below(fig, handles)
    return fig


def domain(system, *, mu, extent=((-3.0, 3.0), (-3.0, 3.0))):
    """Where lambda_min(K) >= mu, so that PL* holds for every target, and the singular set: the paper's Figure 4.

    Args:
        system: two equations in two unknowns, so that the singular set, det DF = 0, consists of curves.
        mu: the region lambda_min(K) >= mu is shaded.
    """
    _check_two_unknowns(system)
    if system.num_equations != 2:
        raise ValueError(f"this figure needs two equations, so that det DF = 0 is a curve; got {system.num_equations}.")
    x, y, points = _grid(extent, GRID)
    jacobians = vmap(jacrev(system.value))(points)
    smallest = torch.linalg.svdvals(jacobians)[:, -1].square().view(GRID, GRID)
    determinants = torch.linalg.det(jacobians).view(GRID, GRID)
    with style.figure(5.8, 5.3) as (fig, axes):
        axes.grid(False)
        axes.contourf(x, y, smallest, levels=[mu, np.inf], colors=[style.PL_REGION])
        axes.contour(x, y, determinants, levels=[0.0], colors=style.SINGULAR, linewidths=2.2)
        axes.set(xlim=extent[0], ylim=extent[1], xlabel=r"$w_1$", ylabel=r"$w_2$", aspect="equal")
        handles = [
            Patch(color=style.PL_REGION, label=f"PL* holds with μ = {mu:g}, whatever y is"),
            Line2D([], [], color=style.SINGULAR, label="singular set"),
        ]
        style.legend_below(fig, handles)
    return fig


def stall(losses, promised, *, floor=None):
    """The loss of a run, and the steps after which Theorem 9 promises a loss below each epsilon.

    Args:
        losses: shape (k,), one a step.
        promised: pairs (steps, epsilon); those beyond the last step are left out.
        floor: the largest epsilon without a promise, a thin line; None draws none.
    """
    losses = np.asarray(losses, dtype=float)
    steps = np.arange(len(losses))
    promised = np.array([(step, epsilon) for step, epsilon in promised if step <= steps[-1]], dtype=float)
    with style.figure() as (fig, axes):
        axes.semilogy(steps, losses, "-", color=style.MEASURED)
        axes.semilogy(*promised.T, "--", color=style.THEORY)
        middle = len(promised) // 2
        style.label(axes, *promised[middle], "promised by Theorem 9", style.THEORY, offset=(8, 8))
        at = int(0.3 * steps[-1])
        style.label(axes, at, losses[at], "measured", style.MEASURED, offset=(0, 12))
        if floor is not None:
            axes.axhline(floor, color=style.THEORY, linestyle="--", linewidth=1.2)
            style.label(axes, steps[-1], floor, "no promise below", style.THEORY, offset=(0, -12), ha="right")
            axes.set_ylim(bottom=0.7 * floor)
        axes.set(xlabel="step $t$", ylabel="$L(w_t)$")
        style.plain_ticks(axes.yaxis)
    return fig


def thresholds(curves, *, markers=(), offsets=None):
    """The largest constant mu of PL*_epsilon along paths, against epsilon.

    Args:
        curves: name -> a PLStarCurve; the name stands at the left end.
        markers: pairs (epsilon, text), dashed vertical lines: where theory puts a threshold.
        offsets: name -> (x, y) in points, where a name stands beside the end of its curve: on the left if x < 0.
    """
    with style.figure() as (fig, axes):
        for (name, curve), color in zip(curves.items(), style.SERIES):
            positive = curve.constants > 0
            epsilon, mu = curve.thresholds[positive].numpy(), curve.constants[positive].numpy()
            axes.loglog(epsilon, mu, "-", color=color)
            end, offset = epsilon.argmin(), (offsets or {}).get(name, (-6, 0))
            style.label(axes, epsilon[end], mu[end], name, color, offset=offset, ha="right" if offset[0] < 0 else "left")
        for epsilon, text in markers:
            axes.axvline(epsilon, color=style.THEORY, linestyle="--", linewidth=1.6)
            style.label(axes, epsilon, 0.95, text, style.THEORY, offset=(-6, 0), ha="right")
            axes.texts[-1].xycoords = axes.get_xaxis_transform()
        axes.set(xlabel="$\\epsilon$", ylabel="largest $\\mu$ of PL*$_\\epsilon$ on the path")
        # Room for the names at the left ends.
        low, high = axes.get_xlim()
        axes.set_xlim(left=low * (low / high) ** 0.35)
        style.plain_ticks(axes.xaxis)
        style.plain_ticks(axes.yaxis)
    return fig


def stragglers(shares, bound):
    """The share of stochastic runs that have not been below epsilon yet, and what the corrected Theorem 10 allows."""
    shares, bound = np.asarray(shares, dtype=float), np.asarray(bound, dtype=float)
    steps = np.arange(len(shares))
    with style.figure() as (fig, axes):
        axes.plot(steps, np.minimum(bound, 1), "--", color=style.THEORY)
        axes.step(steps, shares, "-", where="post", color=style.MEASURED)
        middle = len(steps) // 2
        style.label(axes, middle, min(bound[middle], 1), "allowed by Theorem 10", style.THEORY, offset=(8, 10))
        at = int(np.abs(shares - 0.5).argmin())
        style.label(axes, at, shares[at], "measured", style.MEASURED)
        axes.set(xlabel="step $t$", ylabel="share of runs with $L \\geq \\epsilon$ so far", ylim=(-0.03, 1.08))
    return fig


def _check_two_unknowns(system):
    if system.num_parameters != 2:
        raise ValueError(f"this figure needs a system with two unknowns, got {system.num_parameters}.")


def _grid(extent, size):
    x, y = (torch.linspace(*side, size, dtype=torch.float64) for side in extent)
    return x.numpy(), y.numpy(), torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)


def _local_minima(system, extent):
    """The points of a grid, finer than the surface, where the loss is lowest among nine: shape (3, k), w1, w2 and L."""
    x, y, points = _grid(extent, 2 * GRID)
    losses = vmap(system.loss)(points).view(len(y), len(x)).numpy()
    i, j = np.nonzero(_below_neighbors(losses))
    return np.stack([x[j], y[i], losses[i, j]])


def _below_neighbors(values):
    """Where a value is below its eight neighbors; never on the border."""
    inner = values[1:-1, 1:-1]
    below = np.ones_like(inner, dtype=bool)
    rows, columns = values.shape
    for down in (0, 1, 2):
        for right in (0, 1, 2):
            if (down, right) != (1, 1):
                below &= inner < values[down : rows - 2 + down, right : columns - 2 + right]
    found = np.zeros_like(values, dtype=bool)
    found[1:-1, 1:-1] = below
    return found
