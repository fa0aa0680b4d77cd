"""The reading path: why to turn each page, and what a link leads to, shown beside it."""

import tomllib

import pytest
import yaml
from notebook_environment import ROOT
from site_reader import Visit

PAGE = "book/01-introduction.html"
TO_STATEMENT = "article a.internal[href$='#thm-6']"


def pages_of(contents):
    chapters = contents["chapters"]
    return [contents["root"], *(page["file"] for chapter in chapters for page in (chapter, *chapter.get("sections", [])))]


def differences(contents, reasons):
    """Pages without a reason, and reasons without a page."""
    return set(pages_of(contents)) ^ {name for name, text in reasons.items() if text.strip()}


def test_every_page_has_a_reason():
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    reasons = tomllib.loads((ROOT / "book" / "path.toml").read_text())
    assert differences(contents, reasons) == set()
    some = pages_of(contents)[3]
    assert differences(contents, {**reasons, some: " "}) == {some}
    assert differences(contents, {**reasons, "book/gone": "Why."}) == {"book/gone"}


@pytest.mark.site
def test_the_foot_of_a_page_says_why_to_go_on(site):
    reasons = tomllib.loads((ROOT / "book" / "path.toml").read_text())
    text = (site.folder / "book" / "05-techniques.html").read_text()
    foot = text[text.index('class="prev-next-area"'):]
    assert foot.index(reasons["book/04-pl-star"]) < foot.index(reasons["book/06-wide-networks"])


@pytest.fixture
def opened(site):
    contexts = []

    def open_page(name=PAGE, **options):
        context = site.browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.visit = Visit(page, site.base)
        page.goto(site.base + name)
        page.wait_for_function("() => window.MathJax && MathJax.startup && MathJax.startup.promise.then(() => true)")
        return page

    yield open_page
    for context in contexts:
        context.close()


def preview(page):
    page.wait_for_selector(".preview mjx-container")
    return page.locator(".preview")


@pytest.mark.site
def test_a_pointer_that_rests_on_a_link_shows_the_statement(opened):
    page = opened()
    link = page.locator(TO_STATEMENT).first
    link.hover()
    shown = preview(page)
    assert "Theorem 6 (PL* in a ball)" in shown.inner_text() and "There is a solution" in shown.inner_text()
    assert link.get_attribute("aria-describedby") == shown.get_attribute("id")
    page.wait_for_timeout(300)
    box, at = shown.bounding_box(), link.bounding_box()
    assert 0 <= box["x"] and box["x"] + box["width"] <= 1280 and 0 <= box["y"] and box["y"] + box["height"] <= 900
    assert box["y"] >= at["y"] + at["height"] - 1 or box["y"] + box["height"] <= at["y"] + 1, "the link stays readable"
    # The pointer may go into it, and leaves it at last.
    shown.hover()
    page.wait_for_timeout(400)
    assert shown.is_visible()
    page.mouse.move(5, 5)
    page.wait_for_selector(".preview", state="detached")
    assert link.get_attribute("aria-describedby") is None
    assert page.evaluate("[...document.querySelectorAll('article [id]')].map(e => e.id)").count("thm-6") == 0
    assert page.visit.findings == []


@pytest.mark.site
@pytest.mark.parametrize("name, target, words", [
    (PAGE, "glossary.html#term-tangent-kernel", "how a step for one equation moves the others"),
    ("book/06-wide-networks.html", "05-techniques.html#refresher-weyl", "each of its eigenvalues"),
    ("book/05-techniques.html", "#equation-eq-thm-2", ""),
])
def test_the_keyboard_shows_words_refreshers_and_formulas(opened, name, target, words):
    page = opened(name)
    page.keyboard.press("Tab")
    page.locator(f"article a.internal[href='{target}']:visible").first.focus()
    assert words in preview(page).inner_text()
    page.keyboard.press("Escape")
    page.wait_for_selector(".preview", state="detached")


@pytest.mark.site
def test_nothing_is_shown_where_there_is_nothing_to_show(opened):
    """A link to a whole chapter; a touch, which follows a link instead."""
    page = opened()
    page.locator("article a.internal[href='landscape.html#ch-landscape']").first.hover()
    page.wait_for_timeout(800)
    assert page.locator(".preview").count() == 0
    page = opened(has_touch=True)
    page.locator(TO_STATEMENT).first.tap()
    page.wait_for_url("**/08-existence.html#thm-6")
    assert page.locator(".preview").count() == 0


@pytest.mark.site
@pytest.mark.parametrize("width", [1000, 1100, 1199, 1200])
def test_refreshers_fit_beside_the_text_or_into_it(site, width):
    """Between a phone and a wide screen the theme's margins would push the page sideways."""
    context = site.browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    page.goto(site.base + "book/06-wide-networks.html")
    text = page.locator("article h1").bounding_box()
    notes = [note.bounding_box() for note in page.locator("aside.margin").all()]
    assert len(notes) == 3 and page.evaluate("document.documentElement.scrollWidth") <= width
    beside = [note["x"] > text["x"] + 400 for note in notes]
    assert beside == [width >= 1200] * 3
    context.close()
