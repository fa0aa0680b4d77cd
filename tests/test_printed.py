"""The book as one PDF: its pages, outline, page numbers and links, and how it is made."""

import re
import urllib.parse
from unittest.mock import MagicMock

import chromium
import printed
import pytest
import sphinx_site
from notebook_environment import ROOT
from playwright.async_api import Error
from pypdf import PdfReader
from site_reader import SITE, unavailable

pytestmark = pytest.mark.site

MAX_SIZE = 40_000_000


def heading(name):
    """The first heading of a page of the site, up to its first formula."""
    text = (SITE / f"{name}.html").read_text(encoding="utf-8")
    return re.search(r"<h1>([^<]+)", text[text.index("<article") :])[1]


def page_names():
    """The pages in the order of the table of contents."""
    return re.findall(r"^(?:root:|\s*- file:) *(\S+)$", (ROOT / "_toc.yml").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def book():
    if chromium.program() is None:
        unavailable("Chromium is not installed, so the book is not printed")
    if not (SITE / printed.NAME).exists():
        unavailable("the site is not built; run `make book` first")
    return PdfReader(SITE / printed.NAME)


@pytest.fixture(scope="module")
def texts(book):
    return [page.extract_text() for page in book.pages]


def starts(pdf):
    """[title, number of its page from 0] of the outline's upper level."""
    return [[entry.title, pdf.get_destination_page_number(entry)] for entry in pdf.outline if not isinstance(entry, list)]


def text_findings(texts):
    """Pages that are empty, have raw TeX on them, or another number than their own at the end."""
    for number, text in enumerate(texts, start=1):
        if len(text.strip().removesuffix(str(number)).strip()) < 20:
            yield f"{number}: empty"
        if re.search(r"\\\(|\\\[", text):
            yield f"{number}: TeX source"
        if number > 1 and not re.search(rf"(?<!\d){number}$", text.strip()):
            yield f"{number}: another number"


def links(pdf):
    """(number of the page, number of the page to which the link leads, or its address)."""
    numbers = {page.indirect_reference.idnum: number for number, page in enumerate(pdf.pages)}
    for number, page in enumerate(pdf.pages):
        for reference in page["/Annots"] if "/Annots" in page else ():
            link = reference.get_object()
            yield number, numbers[link["/Dest"][0].idnum] if "/Dest" in link else link["/A"]["/URI"]


def chapters_linked(pdf, names):
    """name -> the pages of the site to which the links of this page lead."""
    first = [number for _, number in starts(pdf)]

    def owner(number):
        return names[sum(start <= number for start in first) - 1]

    found = {name: set() for name in names}
    for number, other in links(pdf):
        if number >= first[0] and isinstance(other, int):
            found[owner(number)].add(owner(other))
    return found


def chapters_linked_on_site(names):
    found = {}
    for name in names:
        text = (SITE / f"{name}.html").read_text(encoding="utf-8")
        article = text[text.index("<article") : text.index("</article>")]
        article = re.sub(r'<a class="(headerlink|sd-stretched-link)[^>]*>', "", article)  # not printed
        hrefs = [urllib.parse.urldefrag(href)[0] for href in re.findall(r'<a\b[^>]*?\bhref="([^"]+)"', article)]
        targets = [urllib.parse.urljoin(f"{name}.html", href) for href in hrefs if "://" not in href]
        found[name] = {target.removesuffix(".html") for target in targets if target.endswith(".html")}
    return found


def test_the_outline_has_the_chapters(book):
    names = page_names()
    titles = [title for title, _ in starts(book)]
    assert len(titles) == len(names)
    assert all(title.startswith(heading(name).replace("&#39;", "'")) for title, name in zip(titles, names))
    sections = [entry for entry in book.outline if isinstance(entry, list)]
    assert len(sections) > 13 and "The question" in [entry.title for entry in sections[4] if not isinstance(entry, list)]


def test_each_chapter_begins_where_the_outline_says(book, texts):
    pages = [number for _, number in starts(book)]
    assert pages == sorted(set(pages))
    for title, number in starts(book):
        assert title.split("_")[0] in texts[number].splitlines(), title


def test_the_table_of_contents_has_the_numbers_of_the_pages(book, texts):
    first = starts(book)[0][1]
    contents = "\n".join(texts[1:first])
    for title, number in starts(book):
        title = re.escape(re.split("_", title)[0])
        assert re.search(rf"{title}\D*\s*{number + 1}\b", contents), title


def test_every_page_has_its_number_and_drawn_formulas(texts):
    assert 150 < len(texts) < 600
    assert list(text_findings(texts)) == []


def test_the_first_and_the_last_chapter_are_there(texts):
    whole = re.sub(r"\s+", " ", " ".join(texts))
    for words in ("A real network on real digits", "What explains it", "Save it, load it", "Status of this build"):
        assert words in whole


def test_proofs_and_solutions_are_open(texts):
    whole = re.sub(r"\s+", " ", " ".join(texts))
    assert whole.count("Solution to Exercise") > 50
    assert "We follow the proof of Theorem 5, with its notation, and say what changes." in whole
    assert "Click to show" not in whole and "Search this book" not in whole


def test_the_explorables_are_pictures(texts):
    assert any("The start of the explorable, which needs scripts to be moved" in text for text in texts)


def test_links_lead_to_the_chapters_that_the_site_links(book):
    names = page_names()
    found, expected = chapters_linked(book, names), chapters_linked_on_site(names)
    assert {name: found[name] ^ expected[name] for name in names if found[name] != expected[name]} == {}
    addresses = {other for _, other in links(book) if not isinstance(other, int)}
    assert addresses and not any(address.startswith(printed.ADDRESS) for address in addresses)


def test_title_author_and_size(book):
    assert book.metadata.title.startswith("plbook") and book.metadata.author == "the plbook authors"
    assert (SITE / printed.NAME).stat().st_size < MAX_SIZE


def test_the_landing_page_leads_to_it(book):
    assert 'href="../plbook.pdf"' in (SITE / "book" / "index.html").read_text(encoding="utf-8")


def test_findings_in_texts_are_found():
    good = "A page with enough words on it "
    assert list(text_findings([good, good + "2"])) == []
    assert list(text_findings([good, "2"])) == ["2: empty"]
    assert list(text_findings([good, good + r"\(x\) 2"])) == ["2: TeX source"]
    assert list(text_findings([good, good + "12"])) == ["2: another number"]


# Making it, on a book of two pages

STUB = "<script>MathJax = {startup: {promise: Promise.resolve()}}</script>"
BODY = "<!doctype html><title>t</title>{head}<body><nav>Navigation</nav><article><section id='{name}'><h1>{name}</h1>{text}</section></article>"


@pytest.fixture
def toy(tmp_path):
    """Writes two pages and prints them; the PDF, or None."""
    if chromium.program() is None:
        unavailable("Chromium is not installed, so no book is printed")
    site = tmp_path / "site"

    def make(first, second="<p>end</p>"):
        site.mkdir(exist_ok=True)
        for name, text in {"one": first, "two": f"<section id='there'><h2>There</h2>{second}</section>"}.items():
            (site / f"{name}.html").write_text(BODY.format(head=STUB, name=name, text=text))
        printed.write(site, ["one", "two"], tmp_path / "cache")
        return PdfReader(site / printed.NAME) if (site / printed.NAME).exists() else None

    make.cache = tmp_path / "cache"
    return make


def test_a_toy_is_joined(toy):
    first = """<p>Go <a href="two.html#there">there</a>, or <a href="https://example.com/">out</a>, or
      <a href="picture.png">to a file</a>.</p><details><summary>Code</summary><p>The proof.</p></details>
      <div class="explorable"><p>Moving</p><noscript><p>Still</p></noscript></div>"""
    pdf = toy(first)
    assert starts(pdf) == [["one", 2], ["two", 3]] and pdf.outline[2][0].title == "There"
    text = pdf.pages[2].extract_text()
    assert "The proof." in text and "Still" in text and "Moving" not in text and text.endswith("one 3")
    assert [other for number, other in links(pdf) if number == 2] == [3, "https://example.com/"]
    assert [other for number, other in links(pdf) if number == 1] == [2, 3, 3]

    # Only a page that has changed is printed again.
    kept = {path.name: path.stat().st_mtime_ns for path in toy.cache.glob("*.json")}
    pdf = toy(first, "<p>Another end</p>")
    assert "Another end" in pdf.pages[3].extract_text()
    now = {path.name: path.stat().st_mtime_ns for path in toy.cache.glob("*.json")}
    assert len(now) == 2 and len(now.items() & kept.items()) == 1


@pytest.mark.parametrize("link", ["two.html#nowhere", "three.html"])
def test_a_link_without_a_place_is_reported(toy, link):
    with pytest.raises(printed.BrokenLinks, match=f"one: {link}"):
        toy(f'<p><a href="{link}">lost</a></p>')


@pytest.mark.parametrize("failures", [1, 3])
def test_a_page_is_tried_again_but_not_for_ever(toy, monkeypatch, failures):
    paper, calls = printed.paper, []

    async def failing(page, title=""):
        calls.append(title)
        if calls.count("one") <= failures and title == "one":
            raise Error("Printing failed")
        return await paper(page, title)

    monkeypatch.setattr(printed, "paper", failing)
    if failures == 1:
        assert len(toy("<p>text</p>").pages) == 4
    else:
        with pytest.raises(Error, match="Printing failed"):
            toy("<p>text</p>")
    assert calls.count("one") == failures + (failures == 1)


def test_without_chromium_there_is_a_notice(toy, monkeypatch, capsys):
    monkeypatch.setattr(chromium, "program", lambda: None)
    assert toy("<p>text</p>") is None
    assert "Chromium is not installed" in capsys.readouterr().out


@pytest.mark.parametrize("program", ["chromium", None])
def test_the_landing_page_has_a_link_only_where_there_is_chromium(monkeypatch, program):
    monkeypatch.setattr(chromium, "program", lambda: program)
    app = MagicMock()
    sphinx_site.setup(app)
    assert [call.args for call in app.tags.add.call_args_list] == [("printed",)] * bool(program)
    assert "```{only} printed\n" in (ROOT / "book" / "index.md").read_text(encoding="utf-8")
