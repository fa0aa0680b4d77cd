"""The module guide's plan: every session fits into 90 minutes, and the guide says what the plan says."""

import copy
import re

import pytest
import sessions
from nbformat.v4 import new_code_cell, new_markdown_cell

PLAN = sessions.load()
TIMES = sessions.load_times()
GUIDE = (sessions.TEACHING / "guide.md").read_text(encoding="utf-8")
PAUSES = r"(Welcome|Recall|Pause|Question|Three questions|What to read)"


def findings(plan, times, guide):
    """What is wrong with the plan or the guide, one sentence each."""
    chapters = re.findall(r"^\(sec-session-\d\)=\n(## .+?)\n(?=(?:\(sec-[\w-]+\)=\n)?## )", guide, re.M | re.S)
    if not len(chapters) == len(plan) == 4:
        yield f"{len(plan)} sessions in the plan, {len(chapters)} in the guide, not 4"
    for number, (session, text) in enumerate(zip(plan, chapters), start=1):
        used = sum(sessions.minutes(session, times).values())
        if used > sessions.MINUTES:
            yield f"session {number} takes {used} minutes"
        if f"## Session {number}: {session['title'].replace('*', chr(92) + '*')}\n" not in text:
            yield f"session {number} has another title in the guide"
        rows = [(int(n), what) for n, what in re.findall(r"^\| (\d+) \| (.+) \|$", text, re.M)]
        total, pauses = sum(n for n, what in rows), sum(n for n, what in rows if re.match(PAUSES, what))
        if total != sessions.MINUTES:
            yield f"the timetable of session {number} has {total} minutes"
        if pauses != session["pauses"]:
            yield f"the timetable of session {number} has {pauses} minutes of pauses"
        board = {what.removeprefix("Board: "): n for n, what in rows if what.startswith("Board: ")}
        written = {topic: int(n) for topic, n in re.findall(r"^\*\*(.+)\*\* \((\d+) minutes\)\.$", text, re.M)}
        planned = {item["topic"]: item["minutes"] for item in session["board"]}
        if not board == written == planned:
            yield f"board work of session {number}: planned {planned}, in the timetable {board}, written out {written}"
        for part in ("Read before.", "Shown.", "If time is short", "Afterwards."):
            if f"**{part}**" not in text:
                yield f"session {number}: no {part!r}"
        if text.count("\n- *\"") < 3 or text.count("*Step") + text.count("*A step") < len(planned):
            yield f"session {number}: misconceptions or missed steps are missing"


def test_the_sessions_fit_and_the_guide_says_what_the_plan_says():
    assert list(findings(PLAN, TIMES, GUIDE)) == []


def test_the_record_has_the_times_of_the_cells_and_of_no_others():
    named = {(f"{part['chapter']:02}", name) for session in PLAN for part in session["run"] for name in part["cells"]}
    assert named == {(chapter, name) for chapter, cells in TIMES.items() for name in cells}
    for chapter, name in named:
        assert sessions.first_line(sessions.notebook(int(chapter)).cells, name)


def test_the_page_shows_the_sums():
    rows = list(sessions.table(PLAN, TIMES))[2:]
    for session, row in zip(PLAN, rows, strict=True):
        numbers = [int(number) for number in re.findall(r"\d+", row)]
        assert sum(numbers[1:5]) == numbers[5] <= numbers[6] == sessions.MINUTES
        board = sum(item["minutes"] for item in session["board"])
        assert numbers[3:5] == [board, session["pauses"]]


def longer_board(plan, times, guide):
    plan[0]["board"][0]["minutes"] += 40
    return plan, times, guide


def slower_cell(plan, times, guide):
    times["01"]["descent"] += 1200
    return plan, times, guide


def more_to_show(plan, times, guide):
    plan[1]["shown"] = plan[1]["shown"] * 2
    return plan, times, guide


def in_the_guide(before, after):
    def change(plan, times, guide):
        assert before in guide
        return plan, times, guide.replace(before, after, 1)

    return change


FLAWS = {
    "session 1 takes": longer_board,
    "board work of session 1": longer_board,
    "session 1 takes 1": slower_cell,
    "session 2 takes": more_to_show,
    "has another title": in_the_guide("## Session 3: ", "## Session 3, "),
    "the timetable of session 1 has 100 minutes": in_the_guide("| 8 | Reserve |", "| 18 | Reserve |"),
    "minutes of pauses": in_the_guide("| 5 | Pause |", "| 5 | Board, again |"),
    "board work of session 4": in_the_guide("**The parabola** (12 minutes).", "**The parabola** (10 minutes)."),
    "no 'Afterwards.'": in_the_guide("**Afterwards.**", "After that."),
    "missed steps are missing": in_the_guide("*Steps that students miss.*", "Note."),
    "not 4": in_the_guide("(sec-session-2)=", "(sec-second)="),
}


@pytest.mark.parametrize("said", FLAWS)
def test_a_flaw_is_found(said):
    flawed = FLAWS[said](copy.deepcopy(PLAN), copy.deepcopy(TIMES), GUIDE)
    assert any(said in finding for finding in findings(*flawed))


TEXT = """\
(sec-x)=
Four words of prose. See {prf:ref}`Theorem 1 <thm-1>` and [chapter 4](ch-pl-star).
The ratio $r^\\top K r$ counts three.

$$
L(w) = 0 .
$$ (eq-x)

:::{admonition} Proof
:class: dropdown

Not read aloud at all, $x$.
:::

:::{prf:theorem} Its title
:label: thm-x
:nonumber:

If so.
:::
"""


def test_words_are_counted_as_they_are_spoken():
    spoken = 4 + len("See Theorem 1 and chapter 4".split()) + len("The ratio counts three".split()) + sessions.INLINE
    assert sessions.words(TEXT) == spoken + sessions.DISPLAY + len("Its title If so".split())
    assert sessions.words("") == 0 and sessions.words("word\n" * 7) == 7


def test_a_section_ends_at_the_next_heading_and_has_its_captions():
    figure = {"mystnb": {"figure": {"caption": "Two words."}}}
    cells = [
        new_markdown_cell("# Title\n\nBefore."),
        new_markdown_cell("Still before.\n\n## Wanted\n\nOne."),
        new_code_cell("draw()", metadata=figure),
        new_markdown_cell("More.\n\n### After\n\nNot this."),
        new_code_cell("draw()", metadata=figure),
    ]
    assert sessions.words(sessions.section(cells, "Wanted")) == 4
    assert sessions.words(sessions.section(cells, "After")) == 4
    with pytest.raises(ValueError, match="'Unheard'"):
        sessions.section(cells, "Unheard")
