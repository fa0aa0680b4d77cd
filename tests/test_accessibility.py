"""axe-core on every page, in the light and in the dark theme."""

from collections import namedtuple

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from site_reader import PAGES

pytestmark = pytest.mark.site

# What is not ours, by rule and place.
KNOWN = [
    ("region", ".sidebar-primary-item", "the theme's side bar is no landmark; the navigation in it is one"),
    ("aria-allowed-role", "div.citation", "docutils gives each entry of the bibliography this role"),
    ("aria-deprecated-role", "div.citation", "the same"),
    ("aria-required-children", "div.citation-list", "docutils puts the links back beside the entries of the list"),
]
COLORS = ["color-contrast", "link-in-text-block"]
THEMES = ("light", "dark")
# A formula counts as its text.
SIMPLIFY = """
() => {
  for (const math of document.querySelectorAll("mjx-container")) math.replaceWith(math.querySelector("mjx-assistive-mml").textContent);
  document.body.normalize();
  document.head.insertAdjacentHTML("beforeend", "<style>* { transition: none !important; }</style>");
}
"""
# The themes differ in colors only; of all places that look alike, the colors of the first are judged: else it takes minutes.
AUDIT = """
async ([theme, colors, known]) => {
  document.documentElement.dataset.theme = theme;
  const look = (node) => node === document.body ? "" : [look(node.parentElement), node.localName, node.className,
    node.getAttribute("style"), node.localName === "tr" && node.matches(":nth-child(even)")].join();
  const places = new Map();
  for (const node of document.body.querySelectorAll("*"))
    if ([...node.childNodes].some(child => child.nodeType === Node.TEXT_NODE && child.data.trim()) && !places.has(look(node)))
      places.set(look(node), node);

  const results = [await axe.run({ include: [...places.values()] }, { resultTypes: ["violations"], runOnly: colors })];
  const others = Object.fromEntries(colors.map(rule => [rule, { enabled: false }]));
  if (theme === "light") results.push(await axe.run({ resultTypes: ["violations"], rules: others }));
  return results.flatMap(result => result.violations).flatMap(({ id, nodes }) => nodes.map(({ target, html }) => {
    const element = document.querySelector(target[0]);
    return [theme, id, html.slice(0, 150), known.findIndex(([rule, place]) => rule === id && element.matches(place))];
  }));
}
"""

Finding = namedtuple("Finding", "theme rule html known")


def audit(reader, name):
    """What axe finds on a page; `known` is the place in KNOWN, or -1."""
    with reader.opened(name) as page:
        page.evaluate(SIMPLIFY)
        page.evaluate(AXE_SCRIPT)
        return [Finding(*found) for theme in THEMES for found in page.evaluate(AUDIT, [theme, COLORS, KNOWN])]


def news(findings):
    return [finding for finding in findings if finding.known < 0]


def stale(findings):
    """The entries of KNOWN that did not occur."""
    return [entry for number, entry in enumerate(KNOWN) if number not in {finding.known for finding in findings}]


@pytest.fixture(scope="module")
def audited(site):
    """The findings of a page, looked for once."""
    found = {}

    def findings(name):
        if name not in found:
            found[name] = audit(site, name)
        return found[name]

    return findings


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible(audited, name):
    assert news(audited(name)) == []


def test_all_that_is_known_still_occurs(audited):
    assert stale([finding for name in PAGES for finding in audited(name)]) == []


PAGE = """<!doctype html><html lang="en"><title>t</title><link rel="icon" href="data:,">
<style>[data-theme=dark] { background: #111; color: #eee; }</style><main><h1>t</h1>"""
FAULTS = {
    ("light", "image-alt"): "<img src='data:,'>",
    ("light", "button-name"): "<button></button>",
    ("light", "heading-order"): "<h4>too deep</h4>",
    ("light", "color-contrast"): "<p style='color: #999; background: #fff'>faint</p>",
    ("dark", "color-contrast"): "<p style='color: #444'>clear in the light alone</p>",
}


@pytest.fixture(scope="module")
def planted(reader_of, tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    (folder / "good.html").write_text(PAGE + "<p>text</p>")
    (folder / "known.html").write_text(PAGE + "<div class='citation' role='doc-biblioentry'>[1]</div>")
    for number, markup in enumerate(FAULTS.values()):
        (folder / f"{number}.html").write_text(PAGE + markup)
    return reader_of(folder)


@pytest.mark.parametrize("theme, rule", FAULTS)
def test_a_fault_is_found(planted, theme, rule):
    found = news(audit(planted, f"{list(FAULTS).index((theme, rule))}.html"))
    assert [(finding.theme, finding.rule) for finding in found][:1] == [(theme, rule)]


def test_a_good_page_has_no_findings_and_needs_no_excuse(planted):
    assert audit(planted, "good.html") == [] and stale([]) == KNOWN


def test_what_is_known_is_excused_where_it_stands(planted):
    found = audit(planted, "known.html")
    assert {finding.rule for finding in found} == {"aria-allowed-role", "aria-deprecated-role"}
    assert news(found) == [] and len(stale(found)) == len(KNOWN) - 2
