"""Loss landscapes of systems with two unknowns."""

import numpy as np
import torch
from torch.func import jacrev, vmap

from plbook.figures import style

GRID = 240


def landscape(system, *, mu, extent=((-3.0, 3.0), (-3.0, 3.0)), singular_points=(), trajectories=(), num_contours=9):
    """Contours of the loss, the region where PL* holds with constant mu, the solutions, and descents.

    Args:
        system: with two unknowns.
        mu: the region PL ratio >= mu is shaded.
        extent: ((left, right), (bottom, top)).
        singular_points: points to mark, where DF loses rank.
        trajectories: runs whose recorded points are drawn.
        num_contours: how many levels of the loss are drawn.
    """
    if system.num_parameters != 2:
        raise ValueError(f"a landscape needs a system with two unknowns, got {system.num_parameters}.")
    x, y, losses, ratios, residuals = _on_grid(system, extent)
    with style.figure(5.8, 5.3) as (fig, axes):
        axes.grid(False)
        axes.contourf(x, y, ratios, levels=[mu, np.inf], colors=[style.PL_REGION])
        levels = np.quantile(losses, np.linspace(0.04, 0.9, num_contours))
        axes.contour(x, y, losses, levels=np.unique(levels), colors=style.FAINT, linewidths=0.8)
        if system.num_equations == 1:
            axes.contour(x, y, residuals, levels=[0.0], colors=style.SOLUTIONS, linewidths=3.2)
        for trajectory in trajectories:
            points = trajectory.points
            axes.plot(points[:, 0], points[:, 1], "-", color=style.MEASURED, marker="o", markersize=2.5, linewidth=1.4)
            axes.plot(*points[0], "o", color=style.MEASURED, markersize=7)
        for point in singular_points:
            axes.plot(*point, "X", color=style.SINGULAR, markersize=11, markeredgecolor="white")
        axes.set(xlim=extent[0], ylim=extent[1], xlabel=r"$w_1$", ylabel=r"$w_2$", aspect="equal")
        style.legend_below(fig, _handles(mu, bool(singular_points), bool(trajectories), system.num_equations == 1))
    return fig


def _on_grid(system, extent):
    x, y = (torch.linspace(*side, GRID, dtype=torch.float64) for side in extent)
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)
    residuals = vmap(system.residual)(points)
    jacobians = vmap(jacrev(system.residual))(points)
    squares = residuals.square().sum(dim=1)
    gradients = torch.einsum("knp,kn->kp", jacobians, residuals)
    # On a solution the ratio is 0/0, and PL* holds.
    ratios = torch.where(squares > 0, gradients.square().sum(dim=1) / squares, torch.inf)
    ratios = ratios.nan_to_num(posinf=1e300)
    return x, y, (squares / 2).view(GRID, GRID), ratios.view(GRID, GRID), residuals[:, 0].view(GRID, GRID)


def _handles(mu, singular, descents, curve):
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [Patch(color=style.PL_REGION, label=f"PL* holds with μ = {mu:.3g}")]
    if curve:
        handles.append(Line2D([], [], color=style.SOLUTIONS, linewidth=3.2, label="solutions, F(w) = y"))
    if singular:
        handles.append(Line2D([], [], color=style.SINGULAR, marker="X", linestyle="", markersize=9, label="singular points"))
    if descents:
        handles.append(Line2D([], [], color=style.MEASURED, marker="o", markersize=4, linewidth=1.4, label="gradient descent"))
    return handles
