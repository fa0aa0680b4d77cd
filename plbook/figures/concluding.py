"""Several measured curves beside several that theory predicts: the figures of chapter 11."""

import numpy as np
from matplotlib.ticker import NullFormatter

from plbook.figures import style


def compared(x, measured, theory, *, xlabel, ylabel, log="y", at=None, mark=None, xticks=None):
    """Measured curves, solid and each in its color, and curves from theory, dashed.

    Args:
        x: shape (k,), increasing.
        measured, theory: name -> values of shape (k,) or one number; NaN where there is none.
        log: the axes with a logarithmic scale: "", "x", "y" or "xy".
        at: name -> (where along the x axis its label stands, from 0 to 1, and how many points above the curve); other
            labels stand at the middle, 12 points above. A name that begins with "_" has no label.
        mark: (text, x) of a vertical line.
        xticks: the numbers on the x axis, if not matplotlib's.
    """
    x = np.asarray(x, dtype=float)
    positions = np.log(x) if "x" in log else x
    with style.figure() as (fig, axes):
        for axis in log:
            getattr(axes, f"set_{axis}scale")("log")
        curves = [(name, values, color, "-") for (name, values), color in zip(measured.items(), style.SERIES)]
        curves += [(name, values, style.THEORY, "--") for name, values in theory.items()]
        for name, values, color, line in curves:
            values = np.broadcast_to(np.asarray(values, dtype=float), x.shape)
            axes.plot(x, values, line, color=color, marker="o" if line == "-" and len(x) <= 20 else None, markersize=5)
            if not name.startswith("_"):
                where, height = (at or {}).get(name, (0.5, 12))
                index = np.abs(positions - (positions[0] + where * (positions[-1] - positions[0]))).argmin()
                side = "left" if where < 0.4 else "center" if where < 0.7 else "right"
                style.label(axes, x[index], values[index], name, color, offset=(0, height), ha=side)
        if mark is not None:
            text, place = mark
            axes.axvline(place, color=style.FAINT, linewidth=1.2)
            axes.annotate(text, (place, 0.97), xycoords=("data", "axes fraction"), xytext=(5, 0), textcoords="offset points",
                          color=style.NOTE, va="top")
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.margins(y=0.12)
        style.plain_ticks(axes.yaxis)
        style.plain_ticks(axes.xaxis)
        if xticks is not None:
            axes.set_xticks(xticks, [f"{tick:g}" for tick in xticks])
            axes.xaxis.set_minor_formatter(NullFormatter())
    return fig
