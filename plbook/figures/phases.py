"""How gradient descent ends, for every width and step size."""

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullFormatter

from plbook.figures import style

FAINTEST = 0.35  # of the slowest run that converged


def phases(widths, step_sizes, outcomes, steps, *, limits, xlabel):
    """A field for each run: colored if it converged, the darker the faster; gray if it did not within its steps; a cross if it diverged.

    Args:
        widths: shape (k,), one row each, the first below.
        step_sizes: shape (l,), increasing by a constant factor.
        outcomes: k rows of l words, "converged", "slow" or "diverged".
        steps: k rows of l numbers, the steps that each run took.
        limits: name -> what theory says of each width, shape (k,), nan where it says nothing.
        xlabel: what the step sizes are.
    """
    sizes, half = np.asarray(step_sizes, dtype=float), (step_sizes[1] / step_sizes[0]) ** 0.5
    taken = np.log([n for row, words in zip(steps, outcomes) for n, word in zip(row, words) if word == "converged"])
    with style.figure(5.8, 5.0) as (fig, axes):
        axes.set(xscale="log", xlim=(sizes[0] / half, sizes[-1] * half), ylim=(-0.5, len(widths) - 0.5))
        axes.grid(False)
        for y, (words, numbers) in enumerate(zip(outcomes, steps)):
            for size, word, number in zip(sizes, words, numbers):
                if word == "diverged":
                    axes.plot(size, y, "x", color=style.FAINT, markersize=5)
                    continue
                alpha = 0.3
                if word == "converged":
                    slowness = (np.log(number) - taken.min()) / max(np.ptp(taken), 1e-9)
                    alpha = 1 - (1 - FAINTEST) * slowness
                color = style.MEASURED if word == "converged" else style.FAINT
                axes.add_patch(Rectangle((size / half, y - 0.5), size * (half - 1 / half), 1, facecolor=color, alpha=alpha, edgecolor="white"))
        rows = np.arange(len(widths))
        for name, values in limits.items():
            values = np.asarray(values, dtype=float)
            known = np.isfinite(values)
            # A step for each width: the limit belongs to the whole row.
            x, y = np.repeat(values[known], 2), (rows[known, None] + [-0.5, 0.5]).ravel()
            axes.plot(x, y, "--", color=style.THEORY)
            axes.annotate(name, (x[-1], len(widths) - 0.5), xytext=(0, 4), textcoords="offset points", color=style.THEORY,
                          ha="right" if x[-1] < 1.5 else "left", va="bottom", fontsize=12, annotation_clip=False)
        ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5) if sizes[0] <= tick <= sizes[-1]]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(rows, [f"{width:,}" for width in widths])
        axes.set(xlabel=xlabel, ylabel="width $m$")
    return fig
