"""Copies of the notebooks that run by themselves, in plain Jupyter and on Colab: plain Markdown, and a first cell that installs plbook.

Usage: python tools/portable.py [--without-solutions]. Variables of the environment: BOOK_SITE_URL, where links to other pages lead;
BOOK_REPOSITORY_URL, from where the first cell installs plbook. Without it a wheel beside the notebook is installed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

import made_pages
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell
from notebook_environment import ROOT, notebooks
from places import all_places
from plain_markdown import Plain, emphasized

FOLDER = ROOT / "_build" / "notebooks"
STUDENTS = ROOT / "_build" / "student-notebooks"
FOLDED_TAGS = {"hide-input", "remove-cell"}
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "plbook")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same files give the same archive

INSTALL = """\
# Run this cell first: it installs plbook where it is missing. The folded cells further down check
# the numbers of the text; once you change an experiment, they may rightly object.
try:
    import plbook
except ImportError:
"""

FROM_REPOSITORY = """\
    %pip install --quiet "plbook @ git+{url}"
"""

FROM_WHEEL = """\
    from pathlib import Path
    if not Path("{wheel}").exists():
        raise ImportError(
            "plbook is not installed, and {wheel} is not beside this notebook. Put it there; "
            "notebooks.zip of the book's site contains it. Or run `pip install .` in a checkout of the book."
        ) from None
    %pip install --quiet ./{wheel}
"""


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def wheel_name():
    return f"{project()['name']}-{project()['version']}-py3-none-any.whl"


def install_cell(repository):
    source = FROM_REPOSITORY.format(url=repository) if repository else FROM_WHEEL.format(wheel=wheel_name())
    return new_code_cell((INSTALL + source).rstrip(), id="install-plbook")


def portable(notebook, plain, repository=""):
    """The copy of a notebook; outputs stay as they are."""
    cells = [install_cell(repository)]
    for original in notebook.cells:
        cell = nbformat.from_dict(original)
        cells.append(cell)
        if cell.cell_type == "markdown":
            cell.source = plain.text(cell.source)
            continue
        if FOLDED_TAGS & set(cell.metadata.get("tags", [])):
            cell.metadata["jupyter"] = {"source_hidden": True}
        if figure := cell.metadata.pop("mystnb", {}).get("figure"):
            caption = f"{plain.place(figure['name']).text}. {plain.inline(figure['caption'])}"
            cells.append(new_markdown_cell(emphasized(caption), id=f"{cell.id}-caption"))
    return nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)


def build_wheel(folder):
    """plbook as a wheel, built in a copy: setuptools leaves its traces where it works."""
    with tempfile.TemporaryDirectory() as work:
        for name in SOURCES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, Path(work, name), ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, work)
        command = f"from setuptools import build_meta; build_meta.build_wheel({str(Path(folder).resolve())!r})"
        environment = os.environ | {"SOURCE_DATE_EPOCH": "315532800"}
        done = subprocess.run([sys.executable, "-c", command], cwd=work, env=environment, capture_output=True, text=True)
    if done.returncode or not Path(folder, wheel_name()).exists():
        raise RuntimeError(f"the wheel of plbook was not built:\n{done.stderr}")


def pack(folder):
    """All notebooks and the wheel in one archive."""
    with zipfile.ZipFile(folder / f"{folder.name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted([*folder.glob("*.ipynb"), folder / wheel_name()]):
            entry = zipfile.ZipInfo(f"plbook-{folder.name}/{path.name}", date_time=EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


def write(folder, *, solutions=True):
    """The copies of all notebooks, the wheel and the archive of both; for students without the solutions of the exercises."""
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    plain = Plain(all_places(), os.environ.get("BOOK_SITE_URL", ""), solutions=solutions)
    for path in notebooks():
        copy = portable(nbformat.read(path, as_version=4), plain, os.environ.get("BOOK_REPOSITORY_URL", ""))
        nbformat.write(copy, folder / path.name)
    build_wheel(folder)
    pack(folder)


if __name__ == "__main__":
    made_pages.write()  # links lead to them
    if sys.argv[1:] == ["--without-solutions"]:
        write(STUDENTS, solutions=False)
    else:
        write(FOLDER)
