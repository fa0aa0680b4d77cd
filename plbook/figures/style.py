"""The house style: colors with a fixed meaning, fonts that stay legible on a phone, an opaque background."""

from contextlib import contextmanager

import matplotlib.pyplot as plt
from matplotlib.ticker import AutoLocator, LogLocator, NullFormatter

# Okabe and Ito's palette, which color-blind readers can tell apart; each color always means the same.
MEASURED = "#0072B2"
SPECTRUM = "#3C93C2"
THEORY = "#D55E00"
LINEARIZED = "#7A5195"
PL_REGION = "#CFE3F1"
NON_CONVEX = "#F6DCE3"
SINGULAR = "#B0005A"
SOLUTIONS = "#00795A"
FAINT = "#8A8A8A"
# Several measurements of one kind side by side.
SERIES = ("#0072B2", "#222222", "#56A3D9", "#6B6B6B")

RC = {
    "figure.dpi": 130,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 13.5,
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


def plain_ticks(axis, low, high):
    """Plain numbers on a logarithmic axis from low to high that has too few powers of ten for their labels alone."""
    exponents = range(-30, 31)
    usual = sum(low <= digit * 10.0**exponent <= high for digit in (1, 2, 5) for exponent in exponents)
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if usual >= 3 else AutoLocator())
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
