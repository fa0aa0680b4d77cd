"""The gate itself: on a copy of the repository, the suite turns red when something is spoiled."""

import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from notebook_environment import ROOT

CHAPTER = "book/02-definitions.ipynb"
STORED = ["tests/test_notebooks.py"]
RERUN = [CHAPTER]
UNIT = ["tests/test_systems.py", "tests/test_descent.py"]

SIGNS = {
    "residual": ("plbook/systems/system.py", "return self.value(w) - self._targets", "return self.value(w) + self._targets"),
    "descent": ("plbook/descent.py", "w = w - step_size * gradient", "w = w + step_size * gradient"),
}


@pytest.fixture
def copy(tmp_path):
    """The repository without what is not its own: tests of a copy use the copy's plbook."""
    folder = tmp_path / "repository"
    ignored = shutil.ignore_patterns(".*", "_build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, folder, ignore=ignored)
    return folder


def run_tests(folder, targets):
    """Run a part of the copy's suite; return the exit status and the report."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-n0", "--dist=no", "-x", "-q", "--color=no", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *targets], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout + done.stderr


def assert_red(folder, targets, reason):
    """Tests ran and one failed (status 1), for the expected reason."""
    status, report = run_tests(folder, targets)
    assert status == 1 and re.search(reason, report), report


def edit_notebook(folder, change):
    path = folder / CHAPTER
    notebook = nbformat.read(path, as_version=4)
    change([cell for cell in notebook.cells if cell.cell_type == "code"])
    nbformat.write(notebook, path)


def change_one_number(cells):
    """Another last digit in the first printed number."""
    for cell in cells:
        for output in cell.outputs:
            if output.output_type == "stream" and (digit := re.search(r"\d(?!.*\d)", output.text, flags=re.S)):
                other = str((int(digit[0]) + 1) % 10)
                output.text = output.text[: digit.start()] + other + output.text[digit.end() :]
                return
    raise LookupError(f"no printed number in {CHAPTER}")


def strip_outputs(cells):
    for cell in cells:
        cell.outputs, cell.execution_count = [], None


def break_figure(cells):
    for cell in cells:
        if "figure" in cell.metadata.get("mystnb", {}):
            cell.source += '\nraise RuntimeError("broken figure")'
            return
    raise LookupError(f"no figure in {CHAPTER}")


def test_an_untouched_copy_is_green(copy):
    status, report = run_tests(copy, STORED + RERUN + UNIT)
    assert status == 0, report


def test_a_changed_number_is_found(copy):
    edit_notebook(copy, change_one_number)
    assert_red(copy, RERUN, "mismatch 'stdout'")


def test_stripped_outputs_are_found(copy):
    edit_notebook(copy, strip_outputs)
    assert_red(copy, STORED, "code cells were not executed in order")


def test_a_raising_figure_is_found(copy):
    edit_notebook(copy, break_figure)
    assert_red(copy, RERUN, "broken figure")


@pytest.mark.parametrize("sign", SIGNS)
def test_a_flipped_sign_is_found(copy, sign):
    name, right, wrong = SIGNS[sign]
    text = (copy / name).read_text(encoding="utf-8")
    assert text.count(right) == 1, f"{name} no longer has {right!r}: update this test"
    (copy / name).write_text(text.replace(right, wrong), encoding="utf-8")
    assert_red(copy, UNIT, "(?m)^FAILED tests/test_")
