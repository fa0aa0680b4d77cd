"""The house style: colors with a fixed meaning, fonts that stay legible on a phone, an opaque background."""

from contextlib import contextmanager

import matplotlib.pyplot as plt
from matplotlib.patches import Circle
from matplotlib.ticker import AutoLocator, LogLocator, NullFormatter

# After Okabe and Ito's palette; each color always means the same, and color-blind readers can tell the meanings apart.
# Each line stands out from white, and measurement and theory are dark enough for words, too.
MEASURED = "#0072B2"  # solid lines
THEORY = "#C44E00"  # dashed lines: laws, bounds, guarantees, balls that a theorem promises
PL_REGION = "#CFE3F1"
NON_CONVEX = "#F2E2B0"
SINGULAR = "#8C004B"  # where DF loses rank
SOLUTIONS = "#009E73"
# Several measurements side by side.
SERIES = (MEASURED, "#222222", "#459ACA", "#6B6B6B")
# Without a meaning of their own: contours and zero lines; remarks and marks; shading.
FAINT = "#8A8A8A"
NOTE = "#555555"
SHADE = "#E9E9E9"

RC = {
    "figure.dpi": 130,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 13.5,
    "axes.titlesize": 13,
    "font.family": "DejaVu Sans",
    "font.size": 13,
    "lines.linewidth": 2.2,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "mathtext.fontset": "dejavusans",
}


@contextmanager
def figure(width=5.8, height=3.9, *, projection=None):
    """(figure, axes) in the house style; the figure is closed to pyplot at the end, so a cell shows it once.

    `projection` is "3d" for a surface.
    """
    with plt.rc_context(RC):
        fig, axes = plt.subplots(figsize=(width, height), layout="constrained", subplot_kw={"projection": projection})
        yield fig, axes
        fig.canvas.draw()
    plt.close(fig)


def label(axes, x, y, text, color, **options):
    """A label beside what it names, in its color, instead of a legend."""
    options = {"va": "center", "ha": "left", **options}
    axes.annotate(
        text, (x, y), xytext=options.pop("offset", (6, 0)), textcoords="offset points", color=color,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}, **options,
    )


def legend_below(fig, handles, columns=2):
    """A legend under the axes, for maps, in which labels would hide what they name."""
    fig.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=11.5)


def ball(axes, center, radius):
    """A ball of which a theorem says something."""
    axes.add_patch(Circle(center, radius, fill=False, edgecolor=THEORY, linestyle="--", linewidth=2.2, zorder=5))


def plain_ticks(axis):
    """Plain numbers on an axis that is logarithmic and has too few powers of ten for their labels alone."""
    low, high = axis.get_view_interval()
    if axis.get_scale() != "log" or high >= 100 * low:
        return
    exponents = range(-30, 31)
    usual = sum(low <= digit * 10.0**exponent <= high for digit in (1, 2, 5) for exponent in exponents)
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if usual >= 3 else AutoLocator())
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
