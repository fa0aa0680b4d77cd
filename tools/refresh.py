"""Execute all notebooks and store their outputs; a second run leaves `git diff` empty."""

import base64
import sys

import nbformat
import run_times
from notebook_environment import ROOT, NotebookFailed, execute, notebooks, set_environment

# The README and the landing page show this figure of the first chapter.
PICTURE_NAME = "fig-landscape-first"
PICTURE = ROOT / "book" / "_static" / "landscape.png"

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
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
