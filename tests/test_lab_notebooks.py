"""JupyterLab sees the book's macros, and what it saves has neither them nor traces of the machine."""

import lab_notebooks
import nbformat
import plain_markdown
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from notebook_environment import notebooks


def notebook():
    return new_notebook(cells=[new_code_cell("x = 1"), new_markdown_cell("# 1. One\n\n---\nmath:\n---\n"), new_markdown_cell("Two.")])


def sources(notebook):
    return [cell.source for cell in notebook.cells]


def test_the_first_text_has_the_macros_of_the_book():
    opened = lab_notebooks.opened(notebook())
    _, block, rest = sources(opened)[1].split("---\n", 2)
    assert yaml.safe_load(block)["math"] == {f"\\{name}": body for name, (body, _) in plain_markdown.macros().items()}
    assert rest == sources(notebook())[1]
    assert sources(opened)[::2] == sources(notebook())[::2]


@pytest.mark.parametrize("change", [lambda text: text, lambda text: text.replace("math:\n", "math:\n  '\\new': 'x'\n", 1)])
def test_a_save_takes_them_away_again(change):
    opened = lab_notebooks.opened(notebook())
    opened.cells[1].source = change(opened.cells[1].source)
    assert sources(opened) != sources(notebook())
    assert sources(lab_notebooks.saved(opened)) == sources(notebook())


@pytest.mark.parametrize("path", notebooks()[:1], ids=lambda path: path.name)
def test_opened_run_and_saved_a_file_stays_as_it_is(path):
    stored = nbformat.read(path, as_version=4)
    opened = lab_notebooks.opened(stored)
    opened.metadata["language_info"] = {"name": "python", "version": "3.0.0"}
    code = next(cell for cell in opened.cells if cell.cell_type == "code")
    code.metadata["execution"] = {"iopub.status.busy": "2025-01-01T00:00:00Z"}
    assert opened != stored and lab_notebooks.saved(opened) == stored


def test_a_notebook_without_text_is_left_alone():
    empty = new_notebook(cells=[new_code_cell("x = 1")])
    assert sources(lab_notebooks.saved(lab_notebooks.opened(empty))) == ["x = 1"]
