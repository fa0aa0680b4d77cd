"""Where the labels of the book lead: page, anchor and text, read from the pages themselves."""

import re
from dataclasses import dataclass

import nbformat
from notebook_environment import ROOT

# A label before a heading or a note in the margin, a box with its label, a numbered formula.
SECTION = re.compile(r"^\((?P<section>[\w-]+)\)=$(?:\n+#+ +(?P<heading>.+)$)?", re.MULTILINE)
BOX = re.compile(r"^[:`]{3,}\{(?P<kind>prf:\w+|exercise)\} *(?P<title>.*)\n(?::\w+:.*\n)*?:label: (?P<box>[\w-]+)$", re.MULTILINE)
FORMULA = re.compile(r"\$\$ *\((?P<formula>[\w-]+)\)$", re.MULTILINE)
DEFINED = (SECTION, BOX, FORMULA)
GLOSSARY = re.compile(r"^```\{glossary\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TERM = re.compile(r"^(?! |:)(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Place:
    """What a label stands for: a page of the book, an anchor on it ("" for its top), and the words of a link to it."""

    page: str
    anchor: str
    text: str


def prefix(page):
    """What numbers of a page's figures and formulas begin with: "4." in chapter 4, "C." in the corrections."""
    if chapter := re.match(r"(\d+)-", page):
        return f"{int(chapter[1])}."
    return "C." if page == "corrections" else ""


def statement_name(kind, title):
    """"Theorem 1 (...)", or "Proposition (name)" for a statement that has no number in the paper."""
    word = kind.removeprefix("prf:").title()
    if not title:
        return word
    return title if re.match(rf"{word}\b", title) else f"{word} ({title})"


def page_texts(path):
    """The Markdown of a page and the names of its figures, in order."""
    if path.suffix == ".md":
        return [path.read_text(encoding="utf-8")], []
    cells = nbformat.read(path, as_version=4).cells
    figures = [cell.metadata["mystnb"]["figure"]["name"] for cell in cells if "figure" in cell.metadata.get("mystnb", {})]
    return [cell.source for cell in cells if cell.cell_type == "markdown"], figures


def term_label(word):
    """The label of a word of the glossary: references to it may differ in case and escapes."""
    return "term:" + word.replace("\\", "").lower()


def terms_of(page, text):
    """label -> Place for each word of a glossary. Its anchors are made by Sphinx from the words."""
    found = {}
    for entries in GLOSSARY.findall(text):
        for word in TERM.findall(entries):
            found[term_label(word)] = Place(page, re.sub(r"[^a-zA-Z0-9._]+", "-", f"term-{word}").rstrip("-"), word)
    return found


def places_of(page, texts, figures):
    """label -> Place, for one page."""
    found = {}
    formulas = 0
    for text in texts:
        found |= terms_of(page, text)
        matches = sorted((match for pattern in DEFINED for match in pattern.finditer(text)), key=lambda match: match.start())
        for match in matches:
            parts = match.groupdict()
            if "section" in parts:
                found[parts["section"]] = Place(page, parts["section"], parts["heading"] or "")
            elif "box" in parts:
                found[parts["box"]] = Place(page, parts["box"], statement_name(parts["kind"], parts["title"].strip()))
            else:
                formulas += 1
                label = parts["formula"]
                found[label] = Place(page, f"equation-{label}", f"({prefix(page)}{formulas})")
    for number, name in enumerate(figures, start=1):
        found[name] = Place(page, name, f"Figure {prefix(page)}{number}")
    return found


def pages():
    """Name and file of every page of the book, in its order: "teaching/guide" and book/teaching/guide.md."""
    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    for name in re.findall(r"(?:root|file): book/(\S+)", contents):
        yield name, next(path for ending in (".ipynb", ".md") if (path := ROOT / "book" / f"{name}{ending}").exists())


def all_places():
    """label or page name -> Place, for the whole book."""
    found = {}
    for name, path in pages():
        texts, figures = page_texts(path)
        title = re.search(r"^# +(.+)$", "\n".join(texts), re.MULTILINE)
        found[name] = Place(name, "", title[1])
        found |= places_of(name, texts, figures)
    return found
