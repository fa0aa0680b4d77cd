"""The corrections page: it lists what the ledger calls imprecise or false, and its verdicts are those of the chapters."""

import re

import ledger
import pytest

PAGE = "corrections.ipynb"
NUMBERED = ("Theorem", "Proposition", "Remark", "Definition", "Lemma", "Assumption")
UNLISTED = {"PL* condition", "Definition 7"}  # without a number, and a slip of its indices
# Statements whose verdict stands in a chapter, and the section here that repeats it.
REPEATED = {
    "prop-2": "convexity", "thm-4": "wide", "thm-5": "wide", "rem-8": "kappa", "thm-6": "rate", "thm-7": "sgd",
    "thm-8": "wide-descent", "rem-9": "wide-descent", "thm-9": "relaxed", "thm-10": "relaxed", "prop-coordinates": "manifolds",
    "def-resnet": "conv-res", "thm-12": "conv-res", "thm-13": "conv-res", "thm-14": "general",
}


def named(text):
    """The statements that a cell of the table names: "Theorems 9, 10" are two."""
    word, names = None, set()
    for token in re.findall(r"[A-Za-z]+|\(?\d+", text):
        if token[0].isalpha():
            word = next((name for name in NUMBERED if token in (name, name + "s")), None)
        elif word and not token.startswith("("):
            names.add(f"{word} {token}")
    return names


def table(page):
    """What the overview says: statement -> first word of its verdict."""
    rows = re.findall(r"^\| \{ref\}`(.*?) <sec-correction-[\w-]+>`<br>(\w+)", page, re.MULTILINE)
    return {name: verdict for text, verdict in rows for name in named(text)}


def sections(page):
    """Label, without "sec-correction-", -> the text of the section."""
    parts = re.split(r"^\(sec-(?:correction-)?([\w-]+)\)=$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def chapter_verdict(label, texts):
    """The first words of the verdict below a statement in its chapter, without "Verdict: "."""
    (after,) = [text.split(f":label: {label}\n")[1] for text in texts if f":label: {label}\n" in text]
    return re.search(r"\*Verdict[^:]*: ([^*]+?)\.?\*", after)[1]


def findings(page, rows, texts):
    verdicts = {row["name"]: row["verdict"] for row in rows}
    listed = table(page)
    for name in sorted({name for name, verdict in verdicts.items() if verdict != "true"} - UNLISTED - set(listed)):
        yield f"{name}: not in the overview"
    yield from (f"{name}: {listed[name]} here, {verdicts[name]} in the ledger" for name in listed if listed[name] != verdicts[name])
    words = [verdict for name, verdict in verdicts.items() if name != "PL* condition"]
    counts = [words.count(word) for word in ("true", "imprecise", "false")]
    if "numbers {} {}, {} of them stand, {} are imprecise and {} are false".format(
        sum(counts), "definitions, assumptions and statements.\nAs printed", *counts
    ) not in page:
        yield f"the counts should be {counts}"
    text_of = sections(page)
    overview = text_of["corrections-overview"]
    for label, text in text_of.items():
        if f"(sec-correction-{label})=" in page and f"<sec-correction-{label}>" not in overview:
            yield f"{label}: not linked from the overview"
    for label, section in REPEATED.items():
        if (verdict := chapter_verdict(label, texts)) not in text_of[section]:
            yield f"{label}: the chapter says {verdict!r}"
        if f"<{label}>" not in text_of[section]:
            yield f"{label}: no link to the chapter"


def everything():
    pages = dict(ledger.pages())
    return pages.pop(PAGE), ledger.load()["statement"], list(pages.values())


def test_the_page_agrees_with_the_ledger_and_with_the_chapters():
    assert list(findings(*everything())) == []


def test_names_are_told_apart():
    assert named("Proposition 2, Remark 2") == {"Proposition 2", "Remark 2"} and named("Theorems 9, 10") == {"Theorem 9", "Theorem 10"}
    assert named("Appendix D, (48)") == named("PL\\*, equation (3)") == named("Section 7") == set()


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("{ref}`Remark 8 <sec", "{ref}`Remark <sec", "Remark 8: not in the overview"),
        ("<sec-correction-wide>`<br>imprecise", "<sec-correction-wide>`<br>false", "Theorem 4: false here, imprecise in the ledger"),
        ("26 of them stand", "27 of them stand", "the counts should be [26, 10, 4]"),
        ("(sec-correction-slips)=", "(sec-correction-new)=", "new: not linked from the overview"),
        ("*Verdict: true, with the rate", "*Verdict: almost true, with a rate", "thm-6: the chapter says"),
        ("{prf:ref}`Theorem 14 <thm-14>`", "Theorem 14", "thm-14: no link to the chapter"),
    ],
)
def test_a_disagreement_is_found(old, new, words):
    page, rows, texts = everything()
    assert page.count(old) >= 1
    assert any(words in finding for finding in findings(page.replace(old, new), rows, texts))
