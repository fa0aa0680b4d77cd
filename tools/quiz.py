"""The quizzes as plain text, from the pages of the site: python tools/quiz.py [session ...] > quiz.txt."""

import re
import sys
from dataclasses import dataclass

from notebook_environment import ROOT

MACROS = (
    r"Formulas are TeX with \newcommand{\norm}[1]{\lVert #1 \rVert}, \newcommand{\DF}{DF},"
    r" \newcommand{\E}{\mathbb{E}}, \newcommand{\R}{\mathbb{R}}"
)
QUESTION = re.compile(
    r"^## \d+\. (?P<title>.+)\n\n(?P<text>(?:.+\n)+)\n(?P<answers>(?:- .+\n)+)\n"
    r":::\{dropdown\} Answer and explanations\n(?P<explanations>(?:.*\n)+?):::$",
    re.M,
)
# Roles and links as words: what they point to is on the site only.
WORDS = [
    (r"\{numref\}`fig-([^`]+)`", r'Figure "\1" of the book'),
    (r"\{eq\}`eq-([^`]+)`", r'Equation "\1" of the book'),
    (r"\{[\w:]+\}`([^`<]+?) ?<[^`]+>`", r"\1"),
    (r"\[([^\]]+)\]\([^)]+\)", r"\1"),
    (r"\\([*_])", r"\1"),
]


@dataclass(frozen=True)
class Question:
    title: str
    text: str
    answers: dict  # letter -> answer
    right: str
    explanations: dict  # letter -> explanation


def pages():
    """The pages of the quizzes, in order."""
    return sorted((ROOT / "book" / "teaching").glob("quiz-*.md"))


def questions(page):
    """The questions of a page's text."""
    found = []
    for match in QUESTION.finditer(page):
        answers = dict(re.findall(r"^- \*\*([A-Z])\*\* (.+)$", match["answers"], re.M))
        right = re.findall(r"^\*\*([A-Z]) is right\.\*\* ", match["explanations"], re.M)
        explanations = dict(re.findall(r"^\*\*([A-Z])(?: is right\.)?\*\* (.+)$", match["explanations"], re.M))
        found.append(Question(match["title"], match["text"].strip(), answers, "".join(right), explanations))
    return found


def plain(text):
    """Markdown as a plain line; formulas stay in TeX."""
    for pattern, word in WORDS:
        text = re.sub(pattern, word, text)
    return text


def export(page):
    """A page as plain text: the questions, then the key with its explanations."""
    title = re.search(r"^# (.+)$", page, re.M)[1]
    lines, key = [title], [f"Key to {title}"]
    for number, question in enumerate(questions(page), start=1):
        lines += ["", f"{number}. {question.text}", *(f"   {x}) {text}" for x, text in question.answers.items())]
        key += ["", f"{number}. {question.right}", *(f"   {x}) {text}" for x, text in question.explanations.items())]
    return plain("\n".join([*lines, "", "", *key, "", ""]))


def main(sessions):
    print(f"{MACROS}\n")
    for path in pages():
        if not sessions or path.stem.removeprefix("quiz-") in sessions:
            print(export(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main(sys.argv[1:])
