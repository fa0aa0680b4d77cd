"""The spectrum of a tangent kernel, and what a descent makes of it."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from plbook.figures import style


def diagnosis(report):
    """The eigenvalues of K from the largest to the smallest, the PL ratio, and 1/step size (dashed).

    Eigenvalues below the error bar are left out, and the bar is shaded instead.
    """
    values = np.asarray(report.eigenvalues)[::-1]
    bar = report.spectrum.error
    known = values > bar
    numbers = np.arange(1, len(values) + 1)
    # On the left the eigenvalues lie above the PL ratio, on the right below 1 / step size.
    levels = [
        (report.pl_ratio, "PL ratio", style.SERIES[1], "-", numbers[0], {"ha": "left", "offset": (6, -12)}),
        (1 / report.step_size, "1 / step size", style.THEORY, "--", numbers[-1], {"ha": "right", "offset": (0, 12)}),
    ]
    levels = [level for level in levels if 0 < level[0] < np.inf]
    with style.figure() as (fig, axes):
        axes.set_yscale("log" if known.any() else "linear")
        axes.plot(numbers[known], values[known], "o", color=style.MEASURED, markersize=5, clip_on=False)
        if not known.all():
            axes.axhspan(0, bar, color=style.FAINT, alpha=0.35, linewidth=0)
            text = f"{np.count_nonzero(~known):,} not told from 0"
            style.label(axes, numbers[-1], bar, text, style.NOTE, ha="right", offset=(0, 12))
        for level, text, color, line, where, placed in levels:
            axes.axhline(level, color=color, linestyle=line)
            style.label(axes, where, level, text, color, **placed)
        axes.set(xlabel="number, from the largest", ylabel="eigenvalue of $K$")
        axes.set_xlim(0.5, len(values) + 0.5)
        axes.set_ylim(bottom=bar / 10 if bar and not known.all() else None)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(y=0.12)
    return fig
