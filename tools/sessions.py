"""The sessions of the module guide: from their plan, the chapters' words and measured cells, the table of minutes."""

import json
import math
import re
import sys
import tomllib

import nbformat
from notebook_environment import ROOT, set_environment

TEACHING = ROOT / "book" / "teaching"
PLAN = TEACHING / "sessions.toml"
CELL_TIMES = TEACHING / "cell_times.json"
PAGE = TEACHING / "minutes.md"
WORDS_A_MINUTE = 140
MINUTES = 90
INLINE, DISPLAY = 3, 12  # words for which a formula is spoken

FOLDED = re.compile(r"^(:{3,}|`{3,})\{(admonition|solution|exercise|margin)\}.*?^\1$", re.M | re.S)
NOT_SPOKEN = [
    (r"^\$\$.*?^\$\$.*?$", " word" * DISPLAY),
    (r"\$[^$]+\$", " word" * INLINE + " "),
    (r"^\([\w-]+\)=$|^:[\w-]+:.*$|^:{3,}$|^:::\{[\w:]+\}|`{3}.*$", ""),
    (r"\{[\w:]+\}`([^`<]+?)(?: ?<[^>]+>)?`", r"\1"),
    (r"\]\([^)]+\)", "]"),
]


def load():
    return tomllib.loads(PLAN.read_text(encoding="utf-8"))["session"]


def notebook(chapter):
    (path,) = (ROOT / "book").glob(f"{chapter:02}-*.ipynb")
    return nbformat.read(path, as_version=4)


def words(markdown):
    """How many words a teacher speaks who reads a text aloud, without what is folded away."""
    text = FOLDED.sub("", markdown)
    for pattern, spoken in NOT_SPOKEN:
        text = re.sub(pattern, spoken, text, flags=re.M | re.S if pattern.startswith(r"^\$\$") else re.M)
    return sum(bool(re.search(r"\w", word)) for word in text.split())


def section(cells, heading):
    """The text below a heading, up to the next one of any level, and the captions of the figures in it."""
    found, inside = [], False
    for cell in cells:
        if cell.cell_type == "code":
            if inside:
                found.append(cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", ""))
            continue
        for line in cell.source.split("\n"):
            if re.match(r"#+ ", line):
                inside = re.sub(r"^#+ ", "", line) == heading
            elif inside:
                found.append(line)
        found.append("")
    if not any(found):
        raise ValueError(f"No text below the heading {heading!r}.")
    return "\n".join(found)


def spoken(session):
    """The words of a session's sections."""
    total = 0
    for part in session["shown"]:
        cells = notebook(part["chapter"]).cells
        total += sum(words(section(cells, heading)) for heading in part["sections"])
    return total


def seconds(session, times):
    """How long the session's cells run."""
    return sum(times[f"{part['chapter']:02}"][name] for part in session["run"] for name in part["cells"])


def minutes(session, times):
    """The minutes of a session by what they go to."""
    return {
        "shown and spoken": math.ceil(spoken(session) / WORDS_A_MINUTE),
        "cells": math.ceil(seconds(session, times) / 60),
        "board": sum(item["minutes"] for item in session["board"]),
        "pauses and questions": session["pauses"],
    }


def table(sessions, times):
    """The minutes of all sessions, in Markdown."""
    parts = [minutes(session, times) for session in sessions]
    yield "| session | " + " | ".join(parts[0]) + " | together |"
    yield "| --- " * (len(parts[0]) + 2) + "|"
    for number, part in enumerate(parts, start=1):
        yield f"| {number} | " + " | ".join(map(str, part.values())) + f" | **{sum(part.values())}** of {MINUTES} |"


def first_line(cells, name):
    """What a reader recognizes a cell by."""
    (source,) = (cell.source for cell in cells if cell.id == name)
    return source.split("\n")[0]


def cell_table(sessions, times):
    """The cells to run, in Markdown."""
    yield "| session | chapter | the cell that begins with | seconds |"
    yield "| --- | --- | --- | --- |"
    for number, session in enumerate(sessions, start=1):
        for part in session["run"]:
            cells = notebook(part["chapter"]).cells
            for name in part["cells"]:
                taken = times[f"{part['chapter']:02}"][name]
                yield f"| {number} | {part['chapter']} | `{first_line(cells, name)}` | {taken} |"


def load_times():
    return json.loads(CELL_TIMES.read_text(encoding="utf-8"))


def write():
    """Written before the site is built."""
    sessions, times = load(), load_times()
    lines = [*table(sessions, times), "", ":::{dropdown} The cells to run in class", *cell_table(sessions, times), ":::"]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure():
    """Time the cells of the plan again, each in its chapter after all cells before it.

    In seconds of processor time, which is the time that a class waits on a machine with nothing else to do.
    """
    import psutil
    from nbclient import NotebookClient

    set_environment()
    asked, record = {}, {}
    for session in load():
        for part in session["run"]:
            asked.setdefault(part["chapter"], set()).update(part["cells"])
    for chapter, names in sorted(asked.items()):
        chosen = notebook(chapter)
        last = max(index for index, cell in enumerate(chosen.cells) if cell.id in names)
        chosen.cells = chosen.cells[: last + 1]
        spent = {}

        def processor_seconds():
            used = psutil.Process(client.km.provisioner.pid).cpu_times()
            return used.user + used.system

        client = NotebookClient(
            chosen,
            timeout=600,
            kernel_name="python3",
            on_cell_execute=lambda cell, cell_index: spent.update({cell.id: -processor_seconds()}),
            on_cell_executed=lambda cell, cell_index, execute_reply: spent.update(
                {cell.id: spent[cell.id] + processor_seconds()}
            ),
            extra_arguments=["--IPKernelApp.log_level=ERROR"],  # no note on TCP for each kernel
            resources={"metadata": {"path": str(ROOT / "book")}},
        )
        client.execute()
        record[f"{chapter:02}"] = {name: max(1, math.ceil(10 * spent[name])) / 10 for name in sorted(names)}
    CELL_TIMES.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["measure"]:
        measure()
    write()
    print(PAGE.read_text(encoding="utf-8"))
