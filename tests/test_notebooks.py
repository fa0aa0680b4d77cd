"""The stored notebooks, read without a kernel: run in order, complete, tidy, accessible, small."""

import base64
import re
import statistics
import struct
import uuid

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebook_environment import notebooks

SILENT_TAGS = {"remove-cell", "no-output"}
MAX_FILE_SIZE = 2**20
MAX_MEDIAN_LINES = 8
MAX_LINES = 30
MAX_DIGITS = 3
CAPTION_LENGTH = (100, 450)
ALT_LENGTH = (60, 300)
# Six inches at 130 dots, and a margin: wider ones would have small words on a phone.
MAX_FIGURE_WIDTH = 800


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    return set(cell.metadata.get("tags", []))


def line_count(cell):
    return len(cell.source.strip().splitlines())


def output_texts(cell):
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.text
        elif not any(kind.startswith("image/") for kind in output.get("data", {})):
            yield output.get("data", {}).get("text/plain", "")


def significant_digits(number):
    """How many digits "0.0120" (3) or "1.5e-07" (2) claims; a whole number claims none."""
    mantissa = re.split("[eE]", number)[0]
    if "." not in mantissa:
        return 0
    return len(mantissa.replace(".", "").lstrip("0"))


def order_findings(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"code cells were not executed in order: {counts}"


def output_findings(notebook):
    for cell in code_cells(notebook):
        if not cell.outputs and not tags(cell) & SILENT_TAGS:
            yield f"{cell.id}: no output, and not tagged no-output"
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"{cell.id}: a stored error"
            elif output.get("name") == "stderr":
                yield f"{cell.id}: text on stderr"
        for number in re.findall(r"(?<![\w.])\d[\d.]*(?:[eE][-+]?\d+)?", "\n".join(output_texts(cell))):
            if significant_digits(number) > MAX_DIGITS:
                yield f"{cell.id}: {number} has more than {MAX_DIGITS} significant digits"


def png_width(cell):
    """The width that the header of the cell's PNG states, or 0."""
    for output in cell.outputs:
        if "image/png" in output.get("data", {}):
            return struct.unpack(">I", base64.b64decode(output.data["image/png"])[16:20])[0]
    return 0


def figure_findings(notebook):
    names = []
    for cell in code_cells(notebook):
        kinds = [kind for output in cell.outputs for kind in output.get("data", {}) if kind.startswith("image/")]
        if not kinds:
            continue
        about = cell.metadata.get("mystnb", {})
        figure, image = about.get("figure", {}), about.get("image", {})
        names.append(figure.get("name", ""))
        if kinds != ["image/png"]:
            yield f"{cell.id}: one PNG a cell, not {kinds}"
        if not names[-1].startswith("fig-"):
            yield f"{cell.id}: the figure has no name fig-..."
        caption, alt = figure.get("caption", "").strip(), image.get("alt", "").strip()
        for text, name, (shortest, longest) in ((caption, "caption", CAPTION_LENGTH), (alt, "alt text", ALT_LENGTH)):
            if not shortest <= len(text) <= longest:
                yield f"{cell.id}: the {name} has {len(text)} characters, not {shortest} to {longest}"
        if re.match(r"((a|an|the) )?(plot|figure|graph|chart|image|picture) (of|that|which|with|showing)\b", alt, flags=re.I):
            yield f"{cell.id}: the alt text says that there is a figure, not what is seen"
        if set(re.split(r"(?<=[.:])\s", alt)) & set(re.split(r"(?<=[.:])\s", caption)):
            yield f"{cell.id}: the alt text repeats the caption"
        if (width := png_width(cell)) > MAX_FIGURE_WIDTH:
            yield f"{cell.id}: a figure of {width} pixels, more than {MAX_FIGURE_WIDTH}"
    if len(set(names)) < len(names):
        yield f"two figures share a name: {names}"


def is_uuid_like(name):
    try:
        uuid.UUID(name)
    except ValueError:
        return re.fullmatch(r"[0-9a-f]{8,}", name) is not None
    return True


def source_findings(notebook):
    cells = code_cells(notebook)
    for cell in notebook.cells:
        if is_uuid_like(cell.id):
            yield f"{cell.id}: give the cell a readable id"
    for cell in cells:
        if "NBVAL_" in cell.source:
            yield f"{cell.id}: a comment marker; readers see it, tags they do not"
        if "nbval-skip" in tags(cell):
            yield f"{cell.id}: tagged nbval-skip, so nothing checks it"
        if line_count(cell) > MAX_LINES:
            yield f"{cell.id}: {line_count(cell)} lines; move code to plbook"
    if cells and statistics.median(map(line_count, cells)) > MAX_MEDIAN_LINES:
        yield f"the median code cell is longer than {MAX_MEDIAN_LINES} lines"
    if not any("remove-cell" in tags(cell) and "assert" in cell.source for cell in cells):
        yield "no remove-cell asserts the numbers of the prose"


def heading_findings(notebook):
    """Headings and what stands between them, over all cells in order."""
    parts = []  # (level of heading or 0 for content, text)
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            parts.append((0, cell.id))
            continue
        text = re.sub(r"^(`{3,}|:{3,}).*?^\1", "content", cell.source, flags=re.M | re.S)
        for line in text.splitlines():
            heading = re.match(r"(#+) +(.*)", line)
            if heading:
                parts.append((len(heading[1]), heading[2]))
            elif line.strip() and not re.fullmatch(r"\([\w-]+\)=", line.strip()):
                parts.append((0, line))
    titles = [level for level, _ in parts if level == 1]
    if not parts or parts[0][0] != 1 or len(titles) != 1:
        yield "a chapter has exactly one level-1 heading, at its top"
    for (level, text), (next_level, _) in zip(parts, [*parts[1:], (1, "end")]):
        if level and 0 < next_level <= level:
            yield f"no content under the heading {text!r}"


def need_findings(notebook):
    """A chapter says what it needs just before it asks its question."""
    texts = [cell.source if cell.cell_type == "markdown" else "" for cell in notebook.cells]
    if not re.search(r"^# \d+\. ", texts[0], flags=re.M):
        return
    asks = [i for i, text in enumerate(texts) if re.search("^## The question$", text, flags=re.M)]
    if len(asks) != 1:
        yield "a chapter has one section named The question"
    elif not texts[asks[0] - 1].startswith("**What you need.** "):
        yield "a chapter says what it needs before its question"


def kernel_findings(notebook):
    name = notebook.metadata.get("kernelspec", {}).get("name")
    if name != "python3":
        yield f"the kernel is {name}, not python3"


RULES = [
    order_findings,
    output_findings,
    figure_findings,
    source_findings,
    heading_findings,
    need_findings,
    kernel_findings,
]


def findings(notebook):
    return [finding for rule in RULES for finding in rule(notebook)]


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.name)
def test_notebook_keeps_the_rules(path):
    assert path.stat().st_size <= MAX_FILE_SIZE
    assert findings(nbformat.read(path, as_version=4)) == []


def test_there_are_notebooks():
    assert notebooks()


def png_output(width=754):
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, 507)
    data = {"image/png": base64.b64encode(header).decode(), "text/plain": "<Figure size 754x507 with 1 Axes>"}
    return new_output("display_data", data=data)


CAPTION = "The loss of a run of gradient descent falls exponentially. It is steepest at the start and flatter later on."


def good_notebook():
    figure = {
        "figure": {"name": "fig-loss", "caption": CAPTION},
        "image": {"alt": "A line falls from one to one hundredth on a logarithmic axis, and bends upward."},
    }
    cells = [
        new_markdown_cell("# 1. Title\n\n(sec-first)=\n## Section\n\nText.", id="title"),
        new_markdown_cell("**What you need.** A pencil.", id="need"),
        new_markdown_cell("## The question\n\nWhy?", id="question"),
        new_code_cell("import plbook as pl", id="setup", metadata={"tags": ["no-output"]}),
        new_code_cell("print(0.123)", id="number", outputs=[new_output("stream", text="0.123 1.5e-07 2000\n")]),
        new_code_cell("assert True", id="check", metadata={"tags": ["remove-cell"]}),
        new_code_cell("draw()", id="figure", metadata={"mystnb": figure}, outputs=[png_output()]),
    ]
    notebook = new_notebook(cells=cells, metadata={"kernelspec": {"display_name": "Python 3", "name": "python3"}})
    for count, cell in enumerate(code_cells(notebook), start=1):
        cell.execution_count = count
    return notebook


def cell_of(notebook, name):
    return next(cell for cell in notebook.cells if cell.id == name)


def spoil(change):
    """A good notebook with one thing wrong."""
    notebook = good_notebook()
    change(notebook)
    return notebook


def set_figure(part, key, value):
    def change(notebook):
        cell_of(notebook, "figure").metadata["mystnb"][part][key] = value

    return change


def set_source(name, text):
    return lambda notebook: cell_of(notebook, name).update(source=text)


def add_output(name, *outputs):
    return lambda notebook: cell_of(notebook, name).outputs.extend(outputs)


def lengthen_all(notebook):
    for cell in code_cells(notebook):
        cell.source = "\n".join(["x = 1"] * 9)


FAULTS = {
    "executed in order": lambda notebook: cell_of(notebook, "check").update(execution_count=7),
    "not tagged no-output": lambda notebook: cell_of(notebook, "number").update(outputs=[]),
    "stored error": add_output("number", new_output("error", ename="E", evalue="", traceback=[])),
    "text on stderr": add_output("number", new_output("stream", name="stderr", text="warning")),
    "0.1234 has more": add_output("number", new_output("stream", text="0.1234")),
    "1.2345e-07 has more": add_output("number", new_output("execute_result", data={"text/plain": "[1.2345e-07]"})),
    "one PNG a cell": add_output("figure", png_output()),
    "not ['image/png', 'image/svg+xml']": add_output("figure", new_output("display_data", data={"image/svg+xml": ""})),
    "no name fig-": set_figure("figure", "name", "loss"),
    "the caption has 9 characters": set_figure("figure", "caption", "The loss. "),
    "the alt text has 0 characters": set_figure("image", "alt", ""),
    "the alt text has 400 characters": set_figure("image", "alt", 400 * "x"),
    "not what is seen": set_figure("image", "alt", "A plot of the loss, which falls from one to one hundredth on a logarithmic axis."),
    "repeats the caption": set_figure("image", "alt", CAPTION),
    "a figure of 1029 pixels": lambda notebook: cell_of(notebook, "figure").update(outputs=[png_output(1029)]),
    "share a name": lambda notebook: notebook.cells.append(cell_of(notebook, "figure").copy()),
    "readable id": lambda notebook: cell_of(notebook, "check").update(id="3f1c9a7be02d"),
    "comment marker": set_source("number", "# NBVAL_IGNORE_OUTPUT\nprint(1)"),
    "tagged nbval-skip": lambda notebook: cell_of(notebook, "number").metadata.update(tags=["nbval-skip"]),
    "move code to plbook": set_source("number", "\n".join(["x = 1"] * 31)),
    "median code cell": lengthen_all,
    "no remove-cell": set_source("check", "pass"),
    "at its top": set_source("title", "Text.\n\n# 1. Title"),
    "exactly one level-1": set_source("title", "# 1. Title\n\nText.\n\n# Another\n\nText."),
    "no content under the heading 'Empty'": set_source("title", "# 1. Title\n\n## Empty\n\n## Next\n\nText."),
    "needs before its question": set_source("need", "A pencil."),
    "one section named The question": set_source("question", "## A question\n\nWhy?"),
    "kernel is conda": lambda notebook: notebook.metadata.kernelspec.update(name="conda"),
}


def test_a_good_notebook_passes():
    assert findings(good_notebook()) == []


@pytest.mark.parametrize("text", FAULTS)
def test_a_fault_is_found(text):
    assert any(text in finding for finding in findings(spoil(FAULTS[text])))
