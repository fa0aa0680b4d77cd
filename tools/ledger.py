"""The ledger of the paper's statements: book/statements.toml, the boxes and labels of the pages, the markers of the tests."""

import ast
import re
import tomllib
from collections import defaultdict
from dataclasses import dataclass

import nbformat
from notebook_environment import ROOT

LEDGER = ROOT / "book" / "statements.toml"
KINDS = ("positive", "negative")
TARGET = re.compile(r"^\(([\w-]+)\)=$", re.MULTILINE)
BOX = re.compile(r"^[:`]{3,}\{prf:(\w+)\} *(.*)\n(?::nonumber:\n)?:label: ([\w-]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Box:
    """A definition, theorem, ... of a page."""

    page: str
    kind: str
    title: str
    label: str

    @property
    def name(self):
        """The title as a marker writes it."""
        return self.title.replace("\\*", "*")


def load():
    """The ledger as a dict of two lists of rows, `statement` and `heading`."""
    return tomllib.loads(LEDGER.read_text(encoding="utf-8"))


def pages():
    """(name, Markdown text) of every page, in the order of the file names."""
    for path in sorted([*ROOT.glob("book/*.md"), *ROOT.glob("book/*.ipynb")]):
        if path.suffix == ".md":
            yield path.name, path.read_text(encoding="utf-8")
        else:
            cells = nbformat.read(path, as_version=4).cells
            yield path.name, "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def boxes():
    """The Box of every statement on the pages."""
    return [Box(name, *found) for name, text in pages() for found in BOX.findall(text)]


def labels():
    """Every label that the pages define for a section or a statement."""
    return {label for _, text in pages() for label in TARGET.findall(text)} | {box.label for box in boxes()}


def marked_tests():
    """name of the statement -> kind -> the tests that carry its marker, "test_file.py::test_name"."""
    found = defaultdict(lambda: {kind: [] for kind in KINDS})
    for path in sorted(ROOT.glob("tests/test_*.py")):
        for function in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(function, ast.FunctionDef):
                for name, kind in filter(None, map(marker, function.decorator_list)):
                    found[name][kind].append(f"{path.name}::{function.name}")
    return found


def marker(decorator):
    """(name, kind) of a decorator @pytest.mark.statement(name=..., kind=...), else None."""
    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.statement":
        values = {keyword.arg: ast.literal_eval(keyword.value) for keyword in decorator.keywords}
        return values["name"], values["kind"]
    return None
