"""`pip install .` gives plbook and what it computes with, nothing of Jupyter or of the site."""

import subprocess
import sys
import tomllib

import pytest
from notebook_environment import ROOT
from packaging.requirements import Requirement

HEAVY = ("jupyter", "ipykernel", "ipython", "nbclient", "nbformat", "notebook", "sphinx", "myst", "docutils", "pytest")


def heavy(names):
    """Which of the names belong to the tools of the book."""
    return sorted(name for name in names if name.lower().startswith(HEAVY))


def loaded_by(statement):
    """The top-level modules that a fresh interpreter has loaded after the statement."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(line).name for line in project["dependencies"]]


def test_the_package_depends_on_no_tool_of_the_book():
    assert "torch" in dependencies()
    assert heavy(dependencies()) == []


def test_importing_plbook_loads_no_tool_of_the_book():
    loaded = loaded_by("import plbook, plbook.figures, plbook.diagnosis")
    assert "plbook" in loaded and heavy(loaded) == []


@pytest.mark.parametrize(("statement", "name"), [("import nbformat", "nbformat"), ("import IPython.display", "IPython")])
def test_a_tool_that_is_loaded_is_found(statement, name):
    assert name in heavy(loaded_by(statement))


def test_a_dependency_on_a_tool_is_found():
    assert heavy(["numpy", "jupyter-book", "Sphinx"]) == ["Sphinx", "jupyter-book"]
