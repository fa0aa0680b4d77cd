"""The ledger: every statement of the paper has a verdict, a place in the book, code, and tests of both kinds."""

import copy

import ledger
import pytest
import statements_page

import plbook as pl

VERDICTS = {"true", "imprecise", "false"}
NUMBERED = {"Definition": 7, "Remark": 10, "Theorem": 14, "Proposition": 7, "Lemma": 1, "Assumption": 1}
PAPERS = {"PL* condition", *(f"{word} {i}" for word, count in NUMBERED.items() for i in range(1, count + 1))}
HEADINGS = 39


def findings(rows, boxes, labels, marked):
    """What is wrong with the ledger, one sentence each."""
    names = [row["name"] for row in rows["statement"]]
    for name in sorted(PAPERS.symmetric_difference(names)):
        yield f"{name}: not the paper's, or missing"
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{name}: twice"
    for row in rows["statement"]:
        yield from findings_in_statement(row, {box.label: box.name for box in boxes}, marked)
    for row in rows["heading"]:
        if row["anchor"] not in labels:
            yield f"{row['title']}: no label {row['anchor']}"
    titles = {(row["section"], row["title"]) for row in rows["heading"]}
    if not len(titles) == len(rows["heading"]) == HEADINGS:
        yield f"{len(titles)} headings in {len(rows['heading'])} rows, the paper has {HEADINGS}"
    for name in sorted(set(marked) - PAPERS):
        if name not in {box.name for box in boxes}:
            yield f"{name}: a test carries the marker of no statement"
        yield from (f"{name}: no {kind} test" for kind in ledger.KINDS if not marked[name][kind])


def findings_in_statement(row, names, marked):
    name = row["name"]
    if row["verdict"] not in VERDICTS:
        yield f"{name}: no verdict {row['verdict']!r}"
    if row["verdict"] != "true" and "correction" not in row:
        yield f"{name}: {row['verdict']}, but nothing says what changes"
    if not row["functions"] or not all(resolved(function) for function in row["functions"]):
        yield f"{name}: no such function in plbook: {row['functions']}"
    if not names.get(row["anchor"], "").startswith(name):
        yield f"{name}: at {row['anchor']} stands {names.get(row['anchor'])!r}"
    for kind in ledger.KINDS:
        if not row[kind]:
            yield f"{name}: no {kind} test"
        if row[kind] != marked[name][kind]:
            yield f"{name}: {kind} should list {marked[name][kind]}"


def resolved(name):
    found = pl
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is not None


@pytest.fixture(scope="module")
def facts():
    return ledger.load(), ledger.boxes(), ledger.labels(), ledger.marked_tests()


def test_every_statement_has_its_row_its_place_and_both_kinds_of_tests(facts):
    assert list(findings(*facts)) == []


def theorem(rows, marked, **changes):
    """Theorem 1 with other entries; its tests as the markers would have them."""
    row = next(row for row in rows["statement"] if row["name"] == "Theorem 1")
    row.update(changes)
    for kind in set(changes) & set(ledger.KINDS):
        marked["Theorem 1"][kind] = changes[kind]


# name: what is done to the rows, the boxes, the labels and the markers
FLAWS = {
    "a statement is missing": lambda rows, boxes, labels, marked: rows["statement"].pop(),
    "a statement stands twice": lambda rows, boxes, labels, marked: rows["statement"].append(rows["statement"][5]),
    "a verdict is not one of three": lambda rows, boxes, labels, marked: theorem(rows, marked, verdict="perhaps"),
    "false, but not why": lambda rows, boxes, labels, marked: theorem(rows, marked, verdict="false"),
    "code that does not exist": lambda rows, boxes, labels, marked: theorem(rows, marked, functions=["pl_ration"]),
    "no code": lambda rows, boxes, labels, marked: theorem(rows, marked, functions=[]),
    "no positive test": lambda rows, boxes, labels, marked: theorem(rows, marked, positive=[]),
    "no negative test": lambda rows, boxes, labels, marked: theorem(rows, marked, negative=[]),
    "a label that no page has": lambda rows, boxes, labels, marked: theorem(rows, marked, anchor="thm-15"),
    "another statement's label": lambda rows, boxes, labels, marked: theorem(rows, marked, anchor="thm-2"),
    "a test that has gone": lambda rows, boxes, labels, marked: marked["Theorem 1"]["negative"].clear(),
    "a heading is missing": lambda rows, boxes, labels, marked: rows["heading"].pop(3),
    "a heading stands twice": lambda rows, boxes, labels, marked: rows["heading"].append(rows["heading"][3]),
    "a heading leads nowhere": lambda rows, boxes, labels, marked: rows["heading"][3].update(anchor="sec-nowhere"),
    "a marker of no statement": lambda rows, boxes, labels, marked: marked["Theorem 15"]["positive"].append("a test"),
    "our own statement, half tested": lambda rows, boxes, labels, marked: marked["The bend of the solutions"]["negative"].clear(),
}


@pytest.mark.parametrize("name", FLAWS)
def test_a_flaw_of_the_ledger_is_found(facts, name):
    changed = copy.deepcopy(facts)
    FLAWS[name](*changed)
    assert set(findings(*changed)) - set(findings(*facts))


def test_every_box_of_the_pages_is_read(facts):
    """A box that is written in another form would be overlooked."""
    directives = sum(line.lstrip(":`").startswith("{prf:") for _, text in ledger.pages() for line in text.splitlines() if line[:3] in (":::", "```"))
    assert len(facts[1]) == directives


def test_the_page_has_a_row_for_each(facts):
    rows, boxes = facts[:2]
    statements, headings = list(statements_page.statement_rows(rows["statement"])), list(statements_page.heading_rows(rows["heading"]))
    assert len(statements) == len(rows["statement"]) + 2 and len(headings) == len(rows["heading"]) + 2
    assert "{prf:ref}`Theorem 1 <thm-1>`" in "\n".join(statements)
    own = "\n".join(statements_page.own_rows(boxes, {row["anchor"] for row in rows["statement"]}))
    assert "<thm-kantorovich>`" in own and "<thm-1>`" not in own and "<def-kantorovich-number>`" not in own


def test_markers_are_read_from_the_tests(facts):
    assert "test_conditions.py::test_ratio_lies_in_the_spectrum_of_random_quadratics" in facts[3]["Theorem 1"]["positive"]
