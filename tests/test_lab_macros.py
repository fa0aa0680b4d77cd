"""The macros that JupyterLab sees are the book's, and no file ever gets them."""

import lab_macros
import plain_markdown
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook


def notebook():
    return new_notebook(cells=[new_code_cell("x = 1"), new_markdown_cell("# 1. One\n\n---\nmath:\n---\n"), new_markdown_cell("Two.")])


def sources(notebook):
    return [cell.source for cell in notebook.cells]


def test_the_first_text_has_the_macros_of_the_book():
    opened = notebook()
    lab_macros.add(opened)
    _, block, rest = sources(opened)[1].split("---\n", 2)
    assert yaml.safe_load(block)["math"] == {f"\\{name}": body for name, (body, _) in plain_markdown.macros().items()}
    assert rest == sources(notebook())[1]
    assert sources(opened)[::2] == sources(notebook())[::2]


@pytest.mark.parametrize("change", [lambda text: text, lambda text: text.replace("math:\n", "math:\n  '\\new': 'x'\n", 1)])
def test_a_save_takes_them_away_again(change):
    opened = notebook()
    lab_macros.add(opened)
    opened.cells[1].source = change(opened.cells[1].source)
    assert sources(opened) != sources(notebook())
    lab_macros.remove(opened)
    assert sources(opened) == sources(notebook())


def test_a_notebook_without_text_is_left_alone():
    empty = new_notebook(cells=[new_code_cell("x = 1")])
    lab_macros.add(empty)
    lab_macros.remove(empty)
    assert sources(empty) == ["x = 1"]
