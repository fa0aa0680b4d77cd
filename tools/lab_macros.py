"""The book's macros for JupyterLab: they stand before a notebook while it is open, never in its file."""

import re

import yaml
from plain_markdown import macros

BLOCK = re.compile(r"\A---\nmath:\n.*?^---\n", re.MULTILINE | re.DOTALL)


def front_matter():
    """The macros of _config.yml, as jupyterlab-myst reads them from the first cell."""
    bodies = {f"\\{name}": body for name, (body, _) in macros().items()}
    return f"---\n{yaml.safe_dump({'math': bodies})}---\n"


def first_text(notebook):
    """The first Markdown cell, or None: a new notebook has none."""
    return next((cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"), None)


def add(notebook):
    if cell := first_text(notebook):
        cell["source"] = front_matter() + cell["source"]


def remove(notebook):
    """Also if the reader has changed the block."""
    if cell := first_text(notebook):
        cell["source"] = BLOCK.sub("", cell["source"])
