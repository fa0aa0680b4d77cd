"""How large the ball has to be in which PL* holds: around a start, and against the radius."""

import numpy as np

from plbook.figures import style
from plbook.figures.landscape import landscape


def radii_around(system, radii, *, mu, extent, trajectory):
    """The region of PL* around the start of a run, and concentric balls, each with its name.

    Args:
        system: with two unknowns.
        radii: name -> radius; the name is written on the upper rim.
        mu: the region PL ratio >= mu is shaded.
        extent: ((left, right), (bottom, top)).
        trajectory: the run, with recorded points.
    """
    fig = landscape(system, mu=mu, extent=extent, trajectories=[trajectory], num_contours=3)
    axes, center = fig.axes[0], trajectory.points[0].numpy()
    for name, radius in radii.items():
        style.ball(axes, center, radius)
        style.label(axes, center[0], center[1] + radius, name, style.THEORY, offset=(0, 0), ha="center", fontsize=15, zorder=6)
    return fig


def radii_needed(radii, needed, *, ylim):
    """The radius that a theorem asks for, dashed, against the radius of the ball on which PL* is known; shaded up to that.

    Args:
        radii: shape (k,), increasing.
        needed: name -> the radius asked for, with the constant of that ball, shape (k,).
        ylim: the ends of the vertical axis.
    """
    radii = np.asarray(radii, dtype=float)
    with style.figure() as (fig, axes):
        available = np.clip(radii, *ylim)
        axes.fill_between(radii, available, ylim[0], color=style.SHADE, linewidth=0)
        axes.plot(radii, radii, "-", color=style.NOTE)
        axes.annotate("large enough", (radii[len(radii) // 2], ylim[0]), xytext=(0, 14), textcoords="offset points",
                      color=style.NOTE, ha="center", va="center")
        for name, values in needed.items():
            values = np.asarray(values, dtype=float)
            axes.plot(radii, values, "--", color=style.THEORY)
            style.label(axes, radii[0], values[0], name, style.THEORY, offset=(10, 12))
        axes.set(xlabel="radius $R$ of the ball", ylabel="radius needed", xlim=(radii[0], radii[-1]), ylim=ylim)
    return fig
