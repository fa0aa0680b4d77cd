"""What a reader does with the site, in a browser without a network: search, fold, switch the theme, go by the keyboard."""

import pytest

pytestmark = pytest.mark.site

CHAPTER = "book/07-convnets-resnets.html"
EXPLORABLE = "book/landscape.html"


# Search

STATEMENTS = {
    "Theorem 6": "book/08-existence.html#thm-6",
    "theorem 1": "book/04-pl-star.html#thm-1",
    "Definition 3": "book/04-pl-star.html#def-3",
    "PL*-Kantorovich theorem": "book/12-certificates.html#thm-kantorovich",
    "PL*_eps": "book/10-relaxation.html#def-5",
    "Kantorovich": "book/12-certificates.html#thm-kantorovich",
}
RESULTS = "() => [...document.querySelectorAll('#search-results li > a')].map(a => [a.textContent, a.href])"


def results(page):
    """(title, place in the site) of what the search page lists, once it is done."""
    page.wait_for_function("() => /Search finished|did not match/.test(document.querySelector('.search-summary')?.innerText)")
    return [(title, href.removeprefix(page.visit.base)) for title, href in page.evaluate(RESULTS)]


@pytest.mark.parametrize("words", STATEMENTS)
def test_search_finds_a_statement_by_its_name(site, words):
    with site.opened("search.html?q=" + words.replace(" ", "+")) as page:
        found = results(page)
        place = STATEMENTS[words]
        assert place in [href for _, href in found[:5]], found
        if words[-1].isdigit():
            assert found[0][1] == place, "a name typed in full comes first"
        assert not any("\\" in title for title, _ in found)
        page.wait_for_selector("p.context mjx-container")
        assert page.visit.findings == []


def test_search_does_not_find_what_is_not_there(site):
    with site.opened("search.html?q=Theorem+99") as page:
        assert not any(title.startswith("Theorem") for title, _ in results(page)[:1])
    with site.opened("search.html?q=xyzzy") as page:
        assert results(page) == []


def test_search_from_a_page_by_the_keyboard(site):
    with site.opened(CHAPTER) as page:
        page.keyboard.press("Control+k")
        page.keyboard.type("Theorem 12")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html?q=Theorem+12")
        title, place = results(page)[0]
        assert title.startswith("Theorem 12 ") and place == CHAPTER + "#thm-12"
        page.click("#search-results li > a")
        page.wait_for_url("**/" + place)
        page.wait_for_function("() => { const y = document.getElementById('thm-12').getBoundingClientRect().y; return 0 <= y && y < 400; }")


# Proofs and solutions

FOLDS = {"proof": ".admonition.dropdown:not(.solution)", "solution": ".solution.dropdown"}


def fold_findings(page, selector):
    """What is wrong with the first box of this kind, opened and closed by click and by keyboard."""
    box = page.locator(selector).first
    title, button, inside = box.locator(".admonition-title").first, box.locator("button"), box.locator(".admonition-title ~ *").first
    steps = [
        ("at first", lambda: None),
        ("click", lambda: title.click(position={"x": 5, "y": 5})),
        ("second click", lambda: title.click(position={"x": 5, "y": 5})),
        ("Enter", lambda: button.press("Enter")),
        ("Space", lambda: button.press("Space")),
    ]
    for number, (name, act) in enumerate(steps):
        act()
        page.wait_for_timeout(400)  # until the transition is over
        opened = number in (1, 3)
        if inside.is_visible() != opened:
            yield f"{name}: the content is {'hidden' if opened else 'visible'}"
        if button.get_attribute("aria-expanded") != str(opened).lower():
            yield f"{name}: aria-expanded is {button.get_attribute('aria-expanded')}"


@pytest.fixture(scope="module")
def chapter(site):
    with site.opened(CHAPTER) as page:
        yield page


@pytest.mark.parametrize("kind", FOLDS)
def test_what_is_folded_opens(chapter, kind):
    assert list(fold_findings(chapter, FOLDS[kind])) == []


def test_a_fold_that_does_not_open_is_found(site):
    with site.opened(CHAPTER) as page:
        page.evaluate("toggleHidden = () => {}")
        found = list(fold_findings(page, FOLDS["proof"]))
        assert "click: the content is hidden" in found and "Enter: aria-expanded is false" in found


# Theme

THEME = "() => document.documentElement.dataset.theme"


def theme_findings(site, broken=""):
    """Whether the switch changes the theme, and the next page keeps it."""
    with site.opened("book/index.html") as page:
        page.evaluate(broken or "0")
        for _ in range(3):  # from the system's theme over both others
            page.click("button.theme-switch-button")
            if page.evaluate(THEME) == "dark":
                break
        else:
            yield "the switch does not lead to the dark theme"
        page.goto(site.base + CHAPTER)
        if page.evaluate(THEME) != "dark":
            yield "the next page forgets the theme"


def test_the_theme_is_kept(site):
    assert list(theme_findings(site)) == []


def test_a_forgotten_theme_is_found(site):
    assert list(theme_findings(site, "Storage.prototype.setItem = () => {}")) == ["the next page forgets the theme"]


def test_dark_pages_are_printed_light(site):
    with site.opened(CHAPTER, scheme="dark") as page:
        themes = [page.evaluate(THEME)]
        for event in ("beforeprint", "afterprint"):
            page.evaluate(f"() => dispatchEvent(new Event('{event}'))")
            themes.append(page.evaluate(THEME))
        assert themes == ["dark", "light", "dark"]


def test_on_paper_there_is_the_article_alone(chapter):
    furniture = ".bd-sidebar, .bd-header-article, .prev-next-footer, .headerlink, .toggle-button, .copybtn, #jb-print-docs-body"
    shown = f"() => [...document.querySelectorAll('{furniture}')].filter(part => part.checkVisibility()).map(part => part.className)"
    assert chapter.evaluate(shown)
    chapter.emulate_media(media="print")
    assert chapter.evaluate(shown) == []
    assert chapter.locator("article h1").is_visible()
    chapter.emulate_media(media="screen")


# Keyboard

# Goes on to the next place in the order of tabs, and tells what it is and whether one sees that one is there.
FOCUSED = """
() => {
  const here = document.activeElement, style = getComputedStyle(here), box = here.getBoundingClientRect();
  const last = window.lastFocused;
  window.lastFocused = here;
  return {
    name: here.outerHTML.slice(0, 150),
    ours: here.matches(".toggle-button, .bd-article summary, .explorable *, .bd-article [tabindex]"),
    back: Boolean(last && last.compareDocumentPosition(here) & Node.DOCUMENT_POSITION_PRECEDING),
    seen: (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none" || here.matches("[type=radio], [type=range]"),
    inside: box.width > 0 && box.bottom > 0 && box.top < innerHeight,
  };
}
"""


def tab_findings(page, count):
    """What is wrong on the way of `count` presses of the Tab key from the top of the page."""
    page.add_style_tag(content="* { transition: none !important; }")
    first = None
    for _ in range(count):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused["name"] == first or focused["name"].startswith("<body"):
            return  # once around
        if first is None:
            first = focused["name"]
            if "#main-content" not in first:
                yield f"the first stop is no way to the content: {first}"
        if focused["back"]:
            yield f"a step back: {focused['name']}"
        if not focused["inside"]:
            yield f"out of sight: {focused['name']}"
        if focused["ours"] and not focused["seen"]:
            yield f"no sign of the focus: {focused['name']}"


def ours(page, selector, count):
    """Focus each of our own interactive elements by the keyboard; those without a sign of it."""
    page.evaluate("() => { document.body.tabIndex = -1; document.body.focus(); }")
    for element in page.locator(selector).all()[:count]:
        element.focus()
        page.keyboard.press("Shift")  # the focus is shown for keyboards only
        focused = page.evaluate(FOCUSED)
        if not focused["seen"]:
            yield focused["name"]


@pytest.mark.parametrize("name", [CHAPTER, EXPLORABLE])
def test_the_keyboard_leads_through_the_page(site, name):
    with site.opened(name) as page:
        assert list(tab_findings(page, 60)) == []
        assert list(ours(page, ".toggle-button, .bd-article summary, .explorable :is(button, input), .bd-article [tabindex='0']", 12)) == []


def test_the_skip_link_leads_to_the_content(site):
    with site.opened(CHAPTER) as page:
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("() => document.getElementById('main-content').contains(document.activeElement)")


def test_a_bad_way_for_the_keyboard_is_found(site):
    with site.opened(CHAPTER) as page:
        page.add_style_tag(content=".toggle-button { outline: none !important; box-shadow: none !important; }")
        page.evaluate("() => { document.querySelector('article a.reference').tabIndex = 1; }")
        found = list(tab_findings(page, 3))
        assert found[0].startswith("the first stop is no way") and any(text.startswith("a step back") for text in found)
        assert len(list(ours(page, ".toggle-button", 2))) == 2


UNREACHABLE = """
() => [...document.querySelectorAll(".bd-article *")].filter(box =>
  box.scrollWidth > box.clientWidth + 1 && ["auto", "scroll"].includes(getComputedStyle(box).overflowX) && box.checkVisibility()
  && box.tabIndex < 0 && !box.querySelector("[tabindex='0'], a, button")).map(box => box.outerHTML.slice(0, 80))
"""


def test_the_keyboard_reaches_what_scrolls_sideways(site):
    with site.opened("book/12-certificates.html", 375) as page:
        assert page.evaluate(UNREACHABLE) == []
        marked = page.locator(".bd-article [tabindex='0']").count()
        page.evaluate("() => document.querySelectorAll('[tabindex]').forEach(box => box.removeAttribute('tabindex'))")
        assert marked and len(page.evaluate(UNREACHABLE)) >= 1


def test_the_side_bar_opens_on_a_phone(site):
    with site.opened(CHAPTER, 375) as page:
        link = page.locator(".bd-sidebar-primary nav a, #pst-primary-sidebar-modal nav a").first
        assert not link.is_visible()
        page.focus(".primary-toggle")
        page.keyboard.press("Enter")
        link.wait_for(state="visible")
        page.keyboard.press("Escape")
        link.wait_for(state="hidden")
        page.click(".primary-toggle")
        link.click()
        page.wait_for_url("**/book/index.html")


# First paint


def paints_without(site, name, pattern, seconds):
    """Whether a page is painted while those of its files that fit the pattern are held back, and how many there are."""
    context = site.browser.new_context()
    page, held = context.new_page(), []
    page.route(pattern, lambda route: held.append(route))
    page.goto(site.base + name, wait_until="commit")
    painted = page.evaluate(
        """seconds => new Promise(done => {
          new PerformanceObserver(() => done(true)).observe({ type: "paint", buffered: true });
          setTimeout(() => done(false), 1000 * seconds);
        })""",
        seconds,
    )
    for route in held:
        route.abort()
    context.close()
    return painted, len(held)


def test_the_first_paint_does_not_wait_for_explorables(site):
    painted, count = paints_without(site, EXPLORABLE, "**/explorables/*.js", 30)
    assert painted and count >= 2


def test_a_script_that_blocks_is_found(reader_of, tmp_path):
    (tmp_path / "slow.js").write_text("0")
    head = "<!doctype html><title>t</title><link rel='icon' href='data:,'>"
    (tmp_path / "blocked.html").write_text(f"{head}<script src='slow.js'></script><p>text</p>")
    assert paints_without(reader_of(tmp_path), "blocked.html", "**/slow.js", 2) == (False, 1)


# Marks at the head of a line, after a formula or code that ends the line before.
LOOSE = r"""
() => [...document.querySelectorAll("article :is(span.math, code)")]
  .filter(symbol => symbol.nextSibling?.nodeType === Node.TEXT_NODE && /^[.,;:?!)]/.test(symbol.nextSibling.data)
    && !symbol.closest(".together")).length
"""


def test_marks_stay_with_the_formula_before_them(site):
    with site.opened("book/05-techniques.html", width=375) as page:
        assert page.evaluate(LOOSE) == 0 and page.locator(".together").count() > 50
    with site.opened("book/05-techniques.html", width=375, java_script_enabled=False) as page:
        assert page.evaluate(LOOSE) > 50


@pytest.mark.parametrize("width, below", [(375, True), (1280, False)])
def test_the_number_of_a_formula_stands_below_it_on_a_phone_only(site, width, below):
    with site.opened("book/12-certificates.html", width=width) as page:
        formula = page.locator("[id='equation-eq-center']")
        number, drawn = formula.locator(".eqno").bounding_box(), formula.locator("mjx-math").bounding_box()
        assert (number["y"] >= drawn["y"] + drawn["height"]) == below
