"""Execute all notebooks, store their outputs, draw the stored pictures and compute the stored runs; a second run leaves `git diff` empty.

Names of notebooks, or the word phases, refresh only these.
"""

import base64
import sys

import nbformat
import run_times
from notebook_environment import ROOT, NotebookFailed, execute, notebooks, set_environment

# The README and the landing page show this figure of the first chapter.
PICTURE_NAME = "fig-landscape-first"
PICTURE = ROOT / "book" / "_static" / "landscape.png"

# The first view of the explorable landscape, for readers without scripts; the tests compare these numbers with the script's.
EXPLORABLE = ROOT / "book" / "_static" / "explorables" / "landscape.png"
EXPLORABLE_START, EXPLORABLE_MU, EXPLORABLE_RADIUS = (2.4, 0.6), 10**0.28, 1.0

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},  # no version: readers' differ
}


def tidy(notebook):
    """Drop what differs between machines."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)


def picture(notebook, name):
    """The PNG of the figure with this name, or None."""
    for cell in notebook.cells:
        if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == name:
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    return base64.b64decode(output.data["image/png"])
    return None


def draw_explorable():
    """The start of the explorable: w1 w2 = 1, the ball of its check and the balls of the theorems."""
    import matplotlib

    matplotlib.use("Agg")
    import plbook as pl
    from plbook import figures

    system = pl.toys.product(start=EXPLORABLE_START)
    # In the ball |DF| = |w| is at most this.
    steepest = system.start.norm().item() + EXPLORABLE_RADIUS
    r0 = system.residual(system.start).norm().item()
    radii = {
        "$R$": EXPLORABLE_RADIUS,
        "$r_0/\\sqrt{\\mu}$": r0 / EXPLORABLE_MU**0.5,
        "Theorem 6": 2 * steepest * r0 / EXPLORABLE_MU,
    }
    run = pl.gradient_descent(system, step_size=1 / (steepest**2 + r0), max_steps=100, record_every=1)
    figure = figures.radii_around(system, radii, mu=EXPLORABLE_MU, extent=((-3.0, 3.0), (-3.0, 3.0)), trajectory=run)
    figure.savefig(EXPLORABLE)


def main():
    set_environment()
    only = set(sys.argv[1:])
    failures = []
    for path in notebooks():
        if only and path.name not in only:
            continue
        print(f"{path.name} ...", end=" ", flush=True)
        try:
            notebook, seconds = execute(path)
        except NotebookFailed as failure:
            print("failed")
            failures.append(str(failure))
            continue
        tidy(notebook)
        nbformat.write(notebook, path)
        run_times.store(path, seconds)
        print(f"{seconds:.1f} s")
        if (png := picture(notebook, PICTURE_NAME)) is not None:
            PICTURE.write_bytes(png)
    draw_explorable()
    if not only or "phases" in only:
        import phases  # imports torch, which needs the environment

        phases.write()
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
