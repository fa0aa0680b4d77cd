"""The page of all statements and headings of the paper, made from the ledger, and of the book's own statements."""

import re
from collections import Counter

import ledger
from notebook_environment import ROOT

PAGE = ROOT / "book" / "statements.md"
OWN_KINDS = ("theorem", "proposition", "lemma", "corollary")
FILE = re.compile(r"test_(\w+)\.py")

INTRODUCTION = """\
(ch-statements)=
# Statements

Every definition, theorem, proposition, lemma and remark of {cite:t}`liu2022loss`, in the order of the paper, with a link to
where this book states and proves it.
The verdict is about the statement as it is printed, read with the factor $\\tfrac12$ in the PL\\* condition: *true*, *imprecise*
if it needs a hypothesis or a word more, *false* if there is a counterexample.
What changes stands beside it.

Each statement has tests on systems that meet its hypotheses, and tests that show what breaks without them.
The last column counts them by file: "conditions" is `tests/test_conditions.py`.
To run those of one statement:

```bash
python -m pytest -m "statement(name='Theorem 1')"
```

## Of the paper
"""

OWN = """
## Of this book

What we prove beside the paper's statements: sharper forms, corrections, and what the experiments needed.
"""

HEADINGS = """
## The paper's headings

Where the book treats what stands under each heading of the paper.
"""


def escaped(text):
    return text.replace("*", "\\*").replace("|", "\\|")


def statement_link(text, label):
    return f"{{prf:ref}}`{text} <{label}>`"


def section_link(row):
    role = "prf:ref" if row["anchor"].startswith("prop-") else "ref"
    return f"{{{role}}}`{row['title']} <{row['anchor']}>`"


def verdict(row):
    return f"*{row['verdict']}*" + (f": {escaped(row['correction'])}" if "correction" in row else "")


def test_files(row):
    """What the tests of a statement are about, by their files, each with their number."""
    files = Counter(name.split("::")[0] for kind in ledger.KINDS for name in row[kind])
    return "<br>".join(f"{FILE.fullmatch(name)[1].replace('_', ' ')}:&nbsp;{number}" for name, number in files.items())


def statement_rows(rows):
    """The rows of the table of the paper's statements, in Markdown."""
    yield "| statement | verdict | in plbook | tests |"
    yield "| --- | --- | --- | --- |"
    for row in rows:
        link = statement_link(row["name"], row["anchor"])
        code = "<br>".join(f"`{name}`" for name in row["functions"])
        yield f"| {link}, {escaped(row['title'])} | {verdict(row)} | {code} | {test_files(row)} |"


def own_rows(boxes, anchors):
    """The rows of the table of the book's own statements, in Markdown."""
    yield "| statement | chapter |"
    yield "| --- | --- |"
    for box in boxes:
        if box.kind in OWN_KINDS and box.label not in anchors:
            yield f"| {statement_link(box.kind.title(), box.label)}, {box.title} | [{int(box.page[:2])}](./{box.page}) |"


def heading_rows(rows):
    """The rows of the table of headings, in Markdown."""
    yield "| section | heading of the paper |"
    yield "| --- | --- |"
    for row in rows:
        yield f"| {row['section']} | {section_link(row)} |"


def write():
    rows = ledger.load()
    lines = [
        INTRODUCTION,
        *statement_rows(rows["statement"]),
        OWN,
        *own_rows(ledger.boxes(), {row["anchor"] for row in rows["statement"]}),
        HEADINGS,
        *heading_rows(rows["heading"]),
    ]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
