"""The built site in a browser without a network: every page, narrow and wide, light and dark."""

import io
import re
import urllib.parse

import PIL.Image
import pytest
from notebook_environment import notebooks
from places import Place, all_places
from site_reader import PAGES, VIEWS

pytestmark = pytest.mark.site

CONTENT_BUDGET = 1_000_000  # bytes of a page and its pictures
TOTAL_BUDGET = 3_400_000  # bytes of all that it loads


def link_findings(folder, names):
    """Internal links that lead nowhere."""
    ids = {}

    def ids_of(path):
        if path not in ids:
            ids[path] = set(re.findall(r'\bid="([^"]+)"', path.read_text(encoding="utf-8")))
        return ids[path]

    for name in names:
        page = folder / name
        for href in set(re.findall(r'<a\b[^>]*?\bhref="([^"]+)"', page.read_text(encoding="utf-8"))):
            link = urllib.parse.urlsplit(href)
            if link.scheme or link.netloc:
                continue
            target = (page.parent / urllib.parse.unquote(link.path)).resolve() if link.path else page
            anchor = urllib.parse.unquote(link.fragment)
            if not target.exists():
                yield f"{name}: no file for {href}"
            elif anchor and target.suffix == ".html" and anchor not in ids_of(target):
                yield f"{name}: no place for {href}"


def is_opaque(data):
    image = PIL.Image.open(io.BytesIO(data))
    return "A" not in image.getbands() or image.getchannel("A").getextrema()[0] == 255


@pytest.mark.parametrize("name", PAGES)
def test_page(site, name):
    for width, scheme in VIEWS:
        visit = site.look(name, width, scheme)
        assert visit.findings == [], (width, scheme)
        assert visit.theme == scheme
        if (width, scheme) == VIEWS[0]:
            assert site.weight(visit.files, {".html", ".png", ".svg", ".jpg"}) <= CONTENT_BUDGET
            assert site.weight(visit.files) <= TOTAL_BUDGET


def test_links_resolve(site):
    assert list(link_findings(site.folder, PAGES)) == []


def copy_findings(folder, names):
    """Chapters whose page does not lead to the published copy of their notebook."""
    for name in names:
        page = (folder / "book" / name).with_suffix(".html").read_text(encoding="utf-8")
        if not (folder / "notebooks" / name).exists():
            yield f"{name}: no copy"
        if f'href="../notebooks/{name}"' not in page:
            yield f"{name}: no link to the copy"


def test_every_chapter_offers_its_copy(site):
    assert list(copy_findings(site.folder, [path.name for path in notebooks()])) == []


def place_findings(folder, places):
    """Links of the portable copies that lead nowhere on the site, or to another number than they say."""
    pages = {}
    for label, place in places.items():
        path = folder / "book" / f"{place.page}.html"
        if not path.exists():
            yield f"{label}: no page {place.page}"
            continue
        text = pages.setdefault(place.page, path.read_text(encoding="utf-8"))
        if place.anchor and f'id="{place.anchor}"' not in text:
            yield f"{label}: no anchor {place.anchor}"
        number = re.compile(
            rf'id="{re.escape(place.anchor)}">\s*(?:<span class="eqno">|(?:(?!</figure>).)*?<span class="caption-number">)([^<]+)',
            re.DOTALL,
        )
        if place.text.startswith(("(", "Figure ")):
            shown = number.search(text)
            if shown is None or shown[1].strip() != place.text:
                yield f"{label}: {place.text}, but the site says {shown and shown[1].strip()}"


def test_references_of_the_copies_agree_with_the_site(site):
    assert list(place_findings(site.folder, all_places())) == []


def test_the_front_door_leads_to_the_book(site):
    assert 'url=book/index.html"' in (site.folder / "index.html").read_text()


def test_figures_are_opaque(site):
    pictures = sorted((site.folder / "_images").glob("*.png"))
    assert pictures
    assert [path.name for path in pictures if not is_opaque(path.read_bytes())] == []


FAULTS = {
    "console error: broken": "<script>console.error('broken')</script>",
    "console warning: careful": "<script>console.warn('careful')</script>",
    "script error": "<script>undefinedFunction()</script>",
    "HTTP 404": "<img src='missing.png' alt='a picture'>",
    "image not shown": "<img src='missing.png' alt='a picture'>",
    "request to elsewhere": "<img src='http://example.com/a.png' alt='a picture'>",
    "request failed": "<img src='http://example.com/a.png' alt='a picture'>",
    "formula not drawn": "<span class='math'>\\(x\\)</span>",
    "formula with an error": "<mjx-merror>undefined control sequence</mjx-merror>",
    "TeX source": "<p>the value \\(x\\)</p>",
    "image without alt": "<img src='dot.png' alt=' '>",
    "file name for an alt": "<img src='dot.png' alt='../dot.png'>",
    "id used twice": "<article><p id='a'></p><p id='a'></p></article>",
    "scrolls sideways": "<div style='width: 500px'>wide</div>",
    "contrast of only": "<div class='proof'><p style='color: #888; background: #999'>faint</p></div>",
}


@pytest.fixture(scope="module")
def bad_site(reader_of, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    PIL.Image.new("RGB", (1, 1)).save(folder / "dot.png")
    head = "<!doctype html><title>t</title><link rel='icon' href='dot.png'>"
    (folder / "good.html").write_text(f"{head}<p id='a'>text <img src='dot.png' alt='a dot'><a href='#a'>a</a>")
    (folder / "links.html").write_text('<a href="gone.html">a</a><a href="good.html#b">b</a>')
    for number, markup in enumerate(FAULTS.values()):
        (folder / f"{number}.html").write_text(head + markup)
    return reader_of(folder)


def test_a_good_page_has_no_findings(bad_site):
    assert bad_site.look("good.html", 375, "dark").findings == []
    assert list(link_findings(bad_site.folder, ["good.html"])) == []


@pytest.mark.parametrize("text", FAULTS)
def test_a_fault_is_found(bad_site, text):
    visit = bad_site.look(f"{list(FAULTS).index(text)}.html", 375, "light")
    assert any(text in finding for finding in visit.findings), visit.findings


def test_a_dead_link_is_found(bad_site):
    found = sorted(link_findings(bad_site.folder, ["links.html"]))
    assert found == ["links.html: no file for gone.html", "links.html: no place for good.html#b"]


def test_a_chapter_without_a_copy_is_found(bad_site):
    (bad_site.folder / "book").mkdir(exist_ok=True)
    (bad_site.folder / "book" / "one.html").write_text('<a href="../_sources/book/one.ipynb">a</a>')
    assert list(copy_findings(bad_site.folder, ["one.ipynb"])) == ["one.ipynb: no copy", "one.ipynb: no link to the copy"]


def test_a_wrong_number_of_a_copy_is_found(bad_site):
    folder = bad_site.folder / "book"
    folder.mkdir(exist_ok=True)
    (folder / "two.html").write_text(
        '<div id="equation-eq-a">\n<span class="eqno">(2.1)<a></a></span></div>'
        '<figure id="fig-a"><img alt="a"><span class="caption-number">Figure 2.1 </span></figure>'
    )
    right = {"eq-a": Place("two", "equation-eq-a", "(2.1)"), "fig-a": Place("two", "fig-a", "Figure 2.1")}
    assert list(place_findings(bad_site.folder, right)) == []
    wrong = {
        "page": Place("three", "", "3. Three"),
        "anchor": Place("two", "sec-gone", "Gone"),
        "formula": Place("two", "equation-eq-a", "(2.2)"),
        "figure": Place("two", "fig-a", "Figure 2.2"),
    }
    assert [finding.split(":")[0] for finding in place_findings(bad_site.folder, wrong)] == list(wrong)


def test_weight_counts_what_was_loaded(bad_site):
    files = bad_site.look("good.html", 1280, "light").files
    assert bad_site.weight(files) == sum((bad_site.folder / n).stat().st_size for n in ("good.html", "dot.png"))


def test_a_transparent_figure_is_found():
    for alpha, opaque in ((255, True), (200, False)):
        data = io.BytesIO()
        PIL.Image.new("RGBA", (2, 2), (255, 255, 255, alpha)).save(data, "png")
        assert is_opaque(data.getvalue()) is opaque
