"""Notebooks in JupyterLab: while open they have the book's macros; saved, they have what `make refresh` would leave."""

import re

import nbformat
import yaml
from plain_markdown import macros
from refresh import tidy

BLOCK = re.compile(r"\A---\nmath:\n.*?^---\n", re.MULTILINE | re.DOTALL)


def front_matter():
    """The macros of _config.yml, as jupyterlab-myst reads them from the first cell."""
    bodies = {f"\\{name}": body for name, (body, _) in macros().items()}
    return f"---\n{yaml.safe_dump({'math': bodies})}---\n"


def first_text(notebook):
    """The first Markdown cell, or None: a new notebook has none."""
    return next((cell for cell in notebook.cells if cell.cell_type == "markdown"), None)


def opened(notebook):
    """What JupyterLab gets to see of a file."""
    notebook = nbformat.from_dict(notebook)
    if cell := first_text(notebook):
        cell.source = front_matter() + cell.source
    return notebook


def saved(notebook):
    """What goes into the file. The macros go, also if the reader has changed them, and what depends on the machine."""
    notebook = nbformat.from_dict(notebook)
    if cell := first_text(notebook):
        cell.source = BLOCK.sub("", cell.source)
    tidy(notebook)
    return notebook
