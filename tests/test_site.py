"""The built site in a browser without a network: every page, narrow and wide, light and dark."""

import functools
import http.server
import io
import os
import re
import shutil
import threading
import urllib.parse
from pathlib import Path

import PIL.Image
import pytest
from notebook_environment import ROOT, notebooks
from places import Place, all_places

pytestmark = pytest.mark.site

SITE = ROOT / "_build" / "html"
PAGES = sorted(path.relative_to(SITE).as_posix() for path in (SITE / "book").rglob("*.html")) + ["search.html"]
VIEWS = [(width, scheme) for width in (1280, 375) for scheme in ("light", "dark")]
CONTENT_BUDGET = 1_000_000  # bytes of a page and its pictures
TOTAL_BUDGET = 3_400_000  # bytes of all that it loads

READY = "() => window.MathJax && MathJax.startup && MathJax.startup.promise.then(() => true)"
FINDINGS = r"""
() => {
  const found = [];
  const body = document.body;
  for (const math of document.querySelectorAll(".math"))
    if (!math.querySelector("mjx-container")) found.push("formula not drawn: " + math.textContent);
  for (const error of document.querySelectorAll("mjx-merror"))
    found.push("formula with an error: " + error.textContent);
  if (/\\\(|\\\[|\$\$/.test(body.innerText)) found.push("TeX source in the text");
  for (const image of document.images) {
    const alt = image.getAttribute("alt");
    if (!alt || !alt.trim()) found.push("image without alt text: " + image.src);
    else if (/\.(png|svg|jpe?g)$/.test(alt)) found.push("file name for an alt text: " + alt);
    if (image.complete && !image.naturalWidth) found.push("image not shown: " + image.src);
  }
  const ids = [...document.querySelectorAll("article [id]")].map(element => element.id);
  for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) found.push("id used twice: " + id);
  const wide = document.documentElement.scrollWidth - window.innerWidth;
  if (wide > 0) found.push(`page scrolls sideways by ${wide} px`);
  return found;
}
"""
# The contrast of a statement's title and text with what is painted behind them.
CONTRAST = r"""
() => {
  const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const over = (colors) => {
    colors.forEach(color => { paint.fillStyle = color; paint.fillRect(0, 0, 1, 1); });
    const linear = [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3)
      .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  return [...document.querySelectorAll("div.proof p, figcaption p, figcaption span")].map(element => {
    const grounds = ["#fff"];
    const up = [];
    for (let node = element; node; node = node.parentElement) up.unshift(getComputedStyle(node).backgroundColor);
    const ground = over([...grounds, ...up]);
    const text = over([...grounds, ...up, getComputedStyle(element).color]);
    return [element.textContent.slice(0, 40), (Math.max(ground, text) + 0.05) / (Math.min(ground, text) + 0.05)];
  });
}
"""


def unavailable(reason):
    """Skip with a notice, or fail where the browser tests are a must."""
    if os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class Visit:
    """What happened on the network and the console while a page was opened."""

    def __init__(self, page, base):
        self.base = base
        self.findings = []
        self.files = set()
        page.on("console", self.on_console)
        page.on("pageerror", lambda error: self.findings.append(f"script error: {error}"))
        page.on("request", self.on_request)
        page.on("requestfailed", lambda request: self.findings.append(f"request failed: {request.url}"))
        page.on("response", self.on_response)

    def on_console(self, message):
        if message.type in ("error", "warning"):
            self.findings.append(f"console {message.type}: {message.text}")

    def on_request(self, request):
        if request.url.startswith(self.base):
            self.files.add(urllib.parse.unquote(urllib.parse.urlsplit(request.url).path.lstrip("/")))
        elif not request.url.startswith("data:"):
            self.findings.append(f"request to elsewhere: {request.url}")

    def on_response(self, response):
        if response.status >= 400:
            self.findings.append(f"HTTP {response.status}: {response.url}")


class Reader:
    """A browser without a network, and a server of one folder."""

    def __init__(self, browser, folder, base):
        self.browser, self.folder, self.base = browser, folder, base

    def look(self, name, width, scheme):
        """Open a page; return all that is wrong with it, and the files it loaded."""
        context = self.browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        visit = Visit(page, self.base)
        page.goto(self.base + name)
        if page.evaluate("() => Boolean(document.querySelector('script[src*=mathjax]'))"):
            page.wait_for_function(READY)
        if (width, scheme) == VIEWS[0]:
            page.wait_for_load_state("networkidle")
        visit.findings += page.evaluate(FINDINGS)
        for text, contrast in page.evaluate(CONTRAST):
            if contrast < 4.5:
                visit.findings.append(f"contrast of only {contrast:.1f}: {text}")
        visit.theme = page.evaluate("() => document.documentElement.dataset.theme")
        context.close()
        return visit

    def weight(self, files, kinds=None):
        chosen = [name for name in files if kinds is None or Path(name).suffix in kinds]
        return sum((self.folder / name).stat().st_size for name in chosen)


@pytest.fixture(scope="module")
def browser():
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        unavailable("Chromium is not installed, so the site is not tested in a browser")
    from playwright.sync_api import sync_playwright

    arguments = ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reader_of(browser):
    servers = []

    def make(folder):
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return Reader(browser, folder, f"http://127.0.0.1:{server.server_address[1]}/")

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def site(reader_of):
    if not SITE.exists():
        unavailable("the site is not built; run `make book` first")
    return reader_of(SITE)


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
