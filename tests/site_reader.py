"""The built site in a browser without a network: what the tests of the site share."""

import functools
import http.server
import os
import threading
import urllib.parse
from contextlib import contextmanager
from pathlib import Path

import chromium
import pytest
from notebook_environment import ROOT

SITE = ROOT / "_build" / "html"
PAGES = sorted(path.relative_to(SITE).as_posix() for path in (SITE / "book").rglob("*.html")) + ["search.html"]
PATIENCE = 120_000  # milliseconds, for machines that are busy with other things
VIEWS = [(width, scheme) for width in (1280, 375) for scheme in ("light", "dark")]

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

    @contextmanager
    def opened(self, name, width=1280, scheme="light", **options):
        """A page of the site, in a window of its own."""
        context = self.browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.visit = Visit(page, self.base)
        try:
            page.goto(self.base + name)
            scripts = options.get("java_script_enabled", True)
            if scripts and page.evaluate("() => Boolean(document.querySelector('script[src*=mathjax]'))"):
                page.wait_for_function(READY)
            yield page
        finally:
            context.close()

    def look(self, name, width, scheme):
        """Open a page; return all that is wrong with it, and the files it loaded."""
        with self.opened(name, width, scheme) as page:
            visit = page.visit
            if (width, scheme) == VIEWS[0]:
                page.wait_for_load_state("networkidle")
            visit.findings += page.evaluate(FINDINGS)
            for text, contrast in page.evaluate(CONTRAST):
                if contrast < 4.5:
                    visit.findings.append(f"contrast of only {contrast:.1f}: {text}")
            visit.theme = page.evaluate("() => document.documentElement.dataset.theme")
            return visit

    def weight(self, files, kinds=None):
        chosen = [name for name in files if kinds is None or Path(name).suffix in kinds]
        return sum((self.folder / name).stat().st_size for name in chosen)


@pytest.fixture(scope="module")
def browser():
    if chromium.program() is None:
        unavailable("Chromium is not installed, so the site is not tested in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium.launch_options())
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
