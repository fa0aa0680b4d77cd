"""The quizzes: ten questions a session, one right answer each and reasons for all; the text says what the pages say."""

import re
import subprocess
import sys

import pytest
import quiz
from notebook_environment import ROOT

PAGES = {path.stem: path.read_text(encoding="utf-8") for path in quiz.pages()}


def findings(page):
    """What is wrong with a page, one sentence each."""
    questions = quiz.questions(page)
    headings = re.findall(r"^## (\d+)\. ", page, re.M)
    if headings != [str(n) for n in range(1, 11)] or len(questions) != 10:
        yield f"{len(headings)} headings and {len(questions)} complete questions, not 10"
    for question in questions:
        if list(question.answers) != list("ABCD") or len(set(question.answers.values())) != 4:
            yield f"{question.title}: not four different answers A to D"
        if len(question.right) != 1 or question.right not in question.answers:
            yield f"{question.title}: {len(question.right)} right answers"
        if sorted(question.explanations) != list("ABCD"):
            yield f"{question.title}: explanations for {sorted(question.explanations)}"
        if any(len(why.split()) < 4 for why in question.explanations.values()):
            yield f"{question.title}: an explanation of fewer than four words"
    places = [question.right for question in questions]
    if any(places.count(letter) not in (2, 3) for letter in "ABCD"):
        yield f"the right answers stand at {''.join(places)}"
    longest = sum(max(q.answers, key=lambda x: len(q.answers[x])) == q.right for q in questions)
    if longest > 6:
        yield f"{longest} right answers are the longest"


@pytest.mark.parametrize("name", PAGES)
def test_a_quiz_is_complete(name):
    assert list(findings(PAGES[name])) == []


def test_there_is_a_quiz_for_each_session():
    assert list(PAGES) == ["quiz-1", "quiz-2", "quiz-3", "quiz-4"]
    titles = [question.title for page in PAGES.values() for question in quiz.questions(page)]
    assert len(set(titles)) == 40


# what is said: what the first quiz has, and what a worse one has instead
FLAWS = {
    "9 headings": ("## 10. ", "### 10. "),
    "9 complete questions": ("## 3. The size of K\n\n", "## 3. The size of K\n"),
    "not four different answers": ("- **D** $64 \\times 64$", "- **D** $50 \\times 50$"),
    "2 right answers": ("**A** That is $p - n$", "**A is right.** That is $p - n$"),
    "0 right answers": ("**A is right.** $K = ", "**A** $K = "),
    "explanations for ['A', 'B', 'D']": ("**C** That is the Jacobian", "That is the Jacobian"),
    "fewer than four words": ("**C** That is the Jacobian $\\DF$ itself.", "**C** No."),
}


@pytest.mark.parametrize("said", FLAWS)
def test_a_flaw_is_found(said):
    page, (before, after) = PAGES["quiz-1"], FLAWS[said]
    assert page.count(before) == 1
    assert any(said in finding for finding in findings(page.replace(before, after)))


def with_right_answers_at(page, letter):
    """The page with the right answer of each question moved to one letter."""
    def moved(match):
        text, right = match[0], re.search(r"\*\*([A-D]) is right", match[0])[1]
        swap = {right: letter, letter: right}
        return re.sub(r"\*\*([A-D])(?=\*\*| is)", lambda m: f"**{swap.get(m[1], m[1])}", text)

    return quiz.QUESTION.sub(moved, page)


def test_right_answers_at_one_place_are_found():
    assert any("BBBBBBBBBB" in finding for finding in findings(with_right_answers_at(PAGES["quiz-1"], "B")))


def test_the_export_says_what_the_pages_say():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "quiz.py"], capture_output=True, text=True, encoding="utf-8", check=True
    )
    lines = done.stdout.splitlines()
    assert re.search(r"\{[\w:]+\}`|\]\(|\\\*", done.stdout) is None
    for page in PAGES.values():
        questions = quiz.questions(page)
        for number, question in enumerate(questions, start=1):
            at = lines.index(f"{number}. {quiz.plain(question.text)}")
            answers = [f"   {letter}) {quiz.plain(text)}" for letter, text in question.answers.items()]
            assert lines[at + 1 : at + 5] == answers
            for letter, why in question.explanations.items():
                assert f"   {letter}) {quiz.plain(why)}" in lines
    keys = "".join(re.findall(r"^\d+\. ([A-D])$", done.stdout, re.M))
    assert keys == "".join(question.right for page in PAGES.values() for question in quiz.questions(page))


def test_nothing_of_a_page_is_lost_in_the_export():
    """Word for word: what stands on a page and not in the export is headings, introduction and the dropdown's title."""
    for name, page in PAGES.items():
        exported = set(quiz.export(page).split())
        body = re.sub(r"^(## .+|:::.*)$", "", page[page.index("## 1.") :], flags=re.M)
        words = quiz.plain(re.sub(r"\*\*([A-D])(?: is right\.)?\*\*|^- ", "", body, flags=re.M)).split()
        assert [word for word in words if word not in exported] == [], name


def test_one_session_can_be_exported():
    text = quiz.export(PAGES["quiz-2"])
    assert text.startswith("Quiz 2: ") and "Key to Quiz 2" in text and "Quiz 3" not in text


def test_the_built_page_shows_the_answers_without_scripts():
    """A details element opens by itself; the class that hides an admonition needs a script."""
    built = ROOT / "_build" / "html" / "book" / "teaching"
    if not built.exists():
        pytest.skip("the site is not built; run `make book` first")
    for name in PAGES:
        text = (built / f"{name}.html").read_text(encoding="utf-8")
        assert len(re.findall(r"<details\b[^>]*sd-dropdown", text)) == 10
        assert len(re.findall(r"is right\.", text)) == 10
