"""The chapters' exercises: enough of each kind, solved or hinted at, with expected output and checks that tell why."""

import ast
import functools
import re
from dataclasses import dataclass

import nbformat
import pytest
from exercise_mistakes import CASES
from notebook_environment import ROOT

CHAPTERS = sorted((ROOT / "book").glob("[0-9][0-9]-*.ipynb"))
AT_LEAST = {"Pencil": 2, "Computer": 2, "Open": 1}
MAX_CHECK_LINES = 10
DIRECTIVE = r":::\{%s\} (.+)\n(?::.+\n)*\n((?:.*\n)*?):::(?:\n|$)"
CODE = re.compile(r"```python\n(.*?)\n```", re.S)


@dataclass
class Exercise:
    kind: str
    label: str
    text: str
    solution: str  # "" where there is none

    @property
    def check(self):
        """The code that a reader pastes below an own cell."""
        return "\n".join(CODE.findall(self.text))

    @property
    def answer(self):
        return "\n".join(CODE.findall(self.solution))


def exercises(markdown):
    """The exercises of a chapter's text, in order."""
    solutions = {name.strip(): body for name, body in re.findall(DIRECTIVE % "solution", markdown)}
    found = []
    for match in re.finditer(DIRECTIVE % "exercise", markdown):
        label = re.search(r"^:label: (\S+)$", match[0], re.M)[1]
        found.append(Exercise(match[1].split(":")[0], label, match[2], solutions.get(label, "")))
    return found


@functools.cache
def cells(path):
    return nbformat.read(path, as_version=4).cells


@functools.cache
def exercises_of(path):
    return exercises("\n\n".join(cell.source for cell in cells(path) if cell.cell_type == "markdown"))


def messages(check):
    """The messages of a check's assertions; None for one without."""
    asserts = [node for node in ast.walk(ast.parse(check)) if isinstance(node, ast.Assert)]
    return [node.msg and ast.literal_eval(node.msg) for node in asserts]


def findings(found):
    """What a chapter's exercises lack, one sentence each."""
    kinds = [exercise.kind for exercise in found]
    for kind in sorted(set(kinds) - set(AT_LEAST)):
        yield f"{kind} is no kind of exercise"
    for kind, least in AT_LEAST.items():
        if kinds.count(kind) < least:
            yield f"{kinds.count(kind)} of the kind {kind}, at least {least} are asked for"
    for exercise in found:
        if exercise.kind == "Open":
            if exercise.solution:
                yield f"{exercise.label}: an open exercise has no solution"
            if "*Hints.* " not in exercise.text:
                yield f"{exercise.label}: no hints"
        elif not exercise.solution:
            yield f"{exercise.label}: no solution"
        if exercise.kind == "Computer":
            yield from findings_in_computer(exercise)


def findings_in_computer(exercise):
    if not re.search(r"^Expected: .*(\d|yes|holds|True)", exercise.text, re.M):
        yield f"{exercise.label}: no expected output"
    if not exercise.answer:
        yield f"{exercise.label}: no code in the solution"
    if not messages(exercise.check) or None in messages(exercise.check):
        yield f"{exercise.label}: no check whose assertions all say what is wrong"
    if exercise.check.count("\n") >= MAX_CHECK_LINES:
        yield f"{exercise.label}: the check is longer than {MAX_CHECK_LINES} lines"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_has_its_exercises(path):
    assert list(findings(exercises_of(path))) == []


def test_every_chapter_is_looked_at():
    assert [int(path.stem[:2]) for path in CHAPTERS] == list(range(1, 14))


GOOD = """
:::{exercise} Pencil: one
:label: ex-a
:nonumber:

Show it.
:::

:::{solution} ex-a
:class: dropdown

So.
:::

:::{exercise} Pencil: two
:label: ex-b
:nonumber:

Show that, too.
:::

:::{solution} ex-b
:class: dropdown

Like this.
:::

:::{exercise} Computer: three
:label: ex-c
:nonumber:

Compute `mu`.
Expected: 2.

```python
assert mu < 3, "twice too large"
```
:::

:::{solution} ex-c
:class: dropdown

```python
mu = 2
```
:::

:::{exercise} Computer: four
:label: ex-d
:nonumber:

Compute `nu`.
Expected: 3.

```python
assert nu < 4, "too large"
```
:::

:::{solution} ex-d
:class: dropdown

```python
nu = 3
```
:::

:::{exercise} Open: five
:label: ex-e
:nonumber:

Who knows?

*Hints.* Begin small.
:::
"""

# what is said: what is replaced, and by what
FLAWS = {
    "1 of the kind Pencil": ("Pencil: two", "Computer: two"),
    "Oral is no kind": ("Pencil: two", "Oral: two"),
    "0 of the kind Open": ("Open: five", "Pencil: five"),
    "ex-a: no solution": ("{solution} ex-a", "{solution} ex-x"),
    "ex-c: no expected output": ("Expected: 2.", "You will see."),
    "ex-c: no code in the solution": ("```python\nmu = 2\n```", "Two."),
    "ex-c: no check": ('assert mu < 3, "twice too large"', "assert mu < 3"),
    "ex-d: no check": ('```python\nassert nu < 4, "too large"\n```', ""),
    "ex-d: the check is longer": ("assert nu < 4", "nu = nu\n" * 10 + "assert nu < 4"),
    "ex-e: no hints": ("*Hints.* ", ""),
    "ex-a: an open exercise has no solution": ("Pencil: one", "Open: one"),
}


def test_good_exercises_pass():
    assert list(findings(exercises(GOOD))) == []


@pytest.mark.parametrize("said", FLAWS)
def test_a_flaw_is_found(said):
    before, after = FLAWS[said]
    assert GOOD.count(before) == 1
    assert any(said in finding for finding in findings(exercises(GOOD.replace(before, after))))


def computer_exercises():
    return {e.label: (path, e) for path in CHAPTERS for e in exercises_of(path) if e.kind == "Computer"}


@functools.cache
def names_after(path, ids):
    """What the cells with these ids define."""
    names = {}
    sources = {cell.id: cell.source for cell in cells(path)}
    for name in ids.split():
        exec(sources[name], names)
    return names


def complaint(check, names):
    """What the check says, None if it is content."""
    try:
        exec(check, names)
    except AssertionError as error:
        return str(error)


def unmade(check, said):
    """The messages of a check that no mistake has brought up."""
    return set(messages(check)) - set(said)


def test_every_check_has_its_mistakes():
    assert sorted(computer_exercises()) == sorted(CASES)


@pytest.mark.parametrize("label", CASES)
def test_a_check_accepts_the_answer_and_names_each_mistake(label):
    path, exercise = computer_exercises()[label]
    case = CASES[label]
    names = dict(names_after(path, case["cells"]))
    exec(exercise.answer, names)
    assert complaint(exercise.check, dict(names)) is None
    assert eval(case.get("expected", "True"), names)
    said = []
    for piece, mistake in case["mistakes"].items():
        wrong = dict(names)
        exec(mistake, wrong)
        said.append(complaint(exercise.check, wrong))
        assert said[-1] and piece in said[-1], (piece, said[-1])
    assert unmade(exercise.check, said) == set()


def test_a_silent_check_and_a_message_that_nobody_sees_are_noticed():
    check = 'assert mu < 3, "twice too large"\nassert mu > 1, "half is missing"'
    assert complaint(check, {"mu": 2}) is None
    assert complaint(check, {"mu": 4}) == "twice too large"
    assert unmade(check, [complaint(check, {"mu": 4})]) == {"half is missing"}
