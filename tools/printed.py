"""The whole book as one PDF: Chromium prints each page of the site, pypdf joins them behind a table of contents."""

import asyncio
import hashlib
import html
import io
import itertools
import json
import mimetypes
import re
import shutil
import urllib.parse
from dataclasses import dataclass, field

import chromium
from notebook_environment import ROOT
from playwright.async_api import Error, async_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DecodedStreamObject, DictionaryObject, Fit, NameObject, NullObject, NumberObject, TextStringObject

NAME = "plbook.pdf"
SOURCES = [ROOT / "CITATION.cff", ROOT / "_config.yml", ROOT / "tools" / "printed.py"]

# Requests to this address are answered from the site's folder, so that it is the same in every PDF.
ADDRESS = "http://book/"
FRONT = "front.html"
SCALE = 0.75
MARGIN, FOOT = 20, 22  # mm
CONTENT_WIDTH = round((210 - 2 * MARGIN) / 25.4 * 96 / SCALE)  # CSS pixels
AT_ONCE = 2
TRIES = 3  # of some hundred pages, Chromium fails to print one when the machine is busy
PATIENCE = 300_000  # milliseconds, for machines that are busy with other things
POINTS_PER_MM = 72 / 25.4
DIGIT_WIDTH = 0.556  # of Helvetica's size

# Makes a page ready, and returns its headings as [level, text, id].
PREPARE = r"""
async () => {
  document.documentElement.dataset.theme = "light";
  await MathJax.startup.promise;
  for (const box of document.querySelectorAll("details")) box.open = true;
  for (const box of document.querySelectorAll(".explorable")) box.innerHTML = box.querySelector("noscript").textContent;
  await Promise.all([...document.images].map(image => image.decode()));
  await document.fonts.ready;

  // What is too wide for the paper is drawn smaller.
  for (const wide of document.querySelectorAll("article table, article mjx-container[display=true]")) {
    const room = wide.parentElement.clientWidth - (wide.parentElement.querySelector(".eqno")?.offsetWidth ?? 0);
    const width = Math.max(wide.scrollWidth, wide.querySelector("mjx-math")?.getBoundingClientRect().width ?? 0);
    if (width > room) wide.style.zoom = room / width;
  }

  // Chromium keeps the places of those ids to which some link of the page leads.
  const links = document.body.appendChild(document.createElement("div"));
  for (const {id} of document.querySelectorAll("article [id]")) links.append(Object.assign(document.createElement("a"), {href: "#" + id}));

  const words = (node) => {
    if (node.nodeType === Node.TEXT_NODE) return node.data;
    if (node.nodeType !== Node.ELEMENT_NODE || node.matches(".headerlink, mjx-math")) return "";
    const parts = [...node.childNodes].map(words);
    if (node.localName === "msub") return parts.join("_");
    return (node.localName === "msqrt" ? "√" : "") + parts.join("");
  };
  return [...document.querySelectorAll("article section > :is(h1, h2, h3)")]
    .map(heading => [Number(heading.localName[1]), words(heading).trim(), heading.parentElement.id]);
}
"""

FRONT_STYLE = """
body { font: 13px/1.5 system-ui, sans-serif; font-variant-ligatures: none; color: #222; }
.cover { height: 900px; display: flex; flex-direction: column; justify-content: center; break-after: page; }
.cover h1 { font-size: 56px; margin: 0; }
.cover p { font-size: 18px; max-width: 34em; margin: 0.6em 0; }
h2 { font-size: 26px; }
a { display: flex; gap: 0.5em; align-items: baseline; color: inherit; text-decoration: none; break-inside: avoid; }
a i { flex: 1; border-bottom: 1px dotted #888; }
.chapter { font-weight: 600; margin-top: 0.7em; break-after: avoid; }
.section { margin-left: 1.6em; }
"""


class BrokenLinks(Exception):
    """Links of the book that lead to no place in it."""


@dataclass(frozen=True)
class Part:
    """A printed page of the site: its name, its headings as [level, text, id], and its PDF."""

    name: str
    headings: list
    pdf: PdfReader = field(repr=False)

    @property
    def title(self):
        return self.headings[0][1]

    def places(self):
        """id -> (number of the page within this part, left, top)."""
        numbers = {page.indirect_reference.idnum: number for number, page in enumerate(self.pdf.pages)}
        found = {}
        for name, place in self.pdf.named_destinations.items():
            page, _, left, top, *_ = place.dest_array
            found[urllib.parse.unquote(str(name).removeprefix("/"))] = (numbers[page.idnum], left, top)
        return found


def digest(*parts):
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


def styles(site):
    """A digest of what shapes every page."""
    return digest(*(path.read_bytes() for path in [*sorted(site.rglob("*.css")), *SOURCES])).encode()


def content_key(site, name):
    """A digest of what is printed of a page: its head, its article and the pictures in it, not its navigation."""
    text = (site / f"{name}.html").read_text(encoding="utf-8")
    article = text[text.index("<article") : text.index("</article>")]
    pictures = [(site / name).parent / source for source in re.findall(r'<img\b[^>]*?\bsrc="([^"]+)"', article)]
    return digest(text[: text.index("<body")].encode(), article.encode(), *(path.read_bytes() for path in pictures))


# Printing


async def answer(route, site, front=""):
    """A file of the site; of the scripts MathJax alone, so that nothing folds away and explorables stay pictures."""
    name = urllib.parse.unquote(urllib.parse.urlsplit(route.request.url).path.lstrip("/"))
    path = site / name
    if name == FRONT:
        await route.fulfill(body=front, content_type="text/html; charset=utf-8")
    elif not path.is_file() or (path.suffix == ".js" and "mathjax" not in path.parts):
        await route.abort()
    else:
        await route.fulfill(body=path.read_bytes(), content_type=mimetypes.guess_type(name)[0] or "application/octet-stream")


async def opened(context, site, name, front=""):
    page = await context.new_page()
    await page.route(ADDRESS + "**", lambda route: answer(route, site, front))
    await page.emulate_media(media="print")
    await page.goto(ADDRESS + name)
    return page


async def paper(page, title=""):
    """The page as a PDF, with a title at the foot."""
    style = f"font: 10px system-ui, sans-serif; font-variant-ligatures: none; color: #555; margin: 0 {MARGIN}mm 5.2mm"
    return await page.pdf(
        format="A4",
        scale=SCALE,
        print_background=True,
        margin={"top": f"{MARGIN}mm", "bottom": f"{FOOT}mm", "left": f"{MARGIN}mm", "right": f"{MARGIN}mm"},
        display_header_footer=True,
        header_template="<span></span>",
        footer_template=f'<span style="{style}">{html.escape(title)}</span>',
    )


async def print_page(context, site, name):
    """The headings and the PDF of a page."""
    for left in reversed(range(TRIES)):
        page = await opened(context, site, f"{name}.html")
        try:
            headings = await page.evaluate(PREPARE)
            return headings, await paper(page, headings[0][1])
        except Error:
            if left == 0:
                raise
        finally:
            await page.close()


async def print_part(context, site, name, stem):
    """A part, printed unless the cache has it."""
    pdf, headings = stem.with_suffix(".pdf"), stem.with_suffix(".json")
    if not headings.exists():
        found, data = await print_page(context, site, name)
        pdf.write_bytes(data)
        headings.write_text(json.dumps(found), encoding="utf-8")  # written last: it says that the part is complete
    return Part(name, json.loads(headings.read_text(encoding="utf-8")), PdfReader(pdf))


async def print_front(context, site, parts):
    """The front matter, whose own length moves the numbers that it lists."""
    length = 0
    while True:
        lengths = [length, *(len(part.pdf.pages) for part in parts)]
        page = await opened(context, site, FRONT, front_page(parts, [n + 1 for n in itertools.accumulate(lengths)]))
        front = PdfReader(io.BytesIO(await paper(page)))
        await page.close()
        if len(front.pages) == length:
            return front
        length = len(front.pages)


async def print_book(site, stems):
    """The book as bytes; `stems` has the place in the cache of each page."""
    busy = asyncio.Semaphore(AT_ONCE)
    async with async_playwright() as playwright, await playwright.chromium.launch(**chromium.launch_options()) as browser:
        context = await browser.new_context(viewport={"width": CONTENT_WIDTH, "height": 1100})
        context.set_default_timeout(PATIENCE)

        async def one(name, stem):
            async with busy:
                return await print_part(context, site, name, stem)

        parts = await asyncio.gather(*(one(name, stem) for name, stem in stems.items()))
        return join(parts, await print_front(context, site, parts))


# Joining


def citation(key):
    """A field of the citation file."""
    return re.search(rf'^{key}: "?(.*?)"?$', (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)[1]


def author():
    return re.search(r"^author: (.*)$", (ROOT / "_config.yml").read_text(encoding="utf-8"), re.MULTILINE)[1]


def front_page(parts, first_pages):
    """The title page and the table of contents as HTML; `first_pages` has the number of each part's first page."""
    name, subject = citation("title").split(": ")
    rows = []
    for part, first in zip(parts, first_pages):
        places = part.places()
        for level, text, anchor in part.headings:
            if level <= 2:
                kind = "chapter" if level == 1 else "section"
                number = first + places[anchor][0]
                link = f"{ADDRESS}{part.name}.html#{anchor}"
                rows.append(f'<a class="{kind}" href="{link}">{html.escape(text)}<i></i>{number}</a>')
    return (
        f'<!doctype html><html lang="en"><title>Contents</title><style>{FRONT_STYLE}</style>'
        f'<div class="cover"><h1>{name}</h1><p>{subject.capitalize()}</p><p>{author()}</p>'
        f"<p>Version {citation('version')}</p></div><h2>Contents</h2>" + "\n".join(rows)
    )


def stamp(writer, page, number, font):
    """Write the page's number at the foot, at the right margin."""
    size = 8
    x = float(page.mediabox.width) - MARGIN * POINTS_PER_MM - DIGIT_WIDTH * size * len(str(number))
    ink = DecodedStreamObject()
    ink.set_data(f"Q q BT /Number {size} Tf 0.33 g {x:.1f} {FOOT / 2 * POINTS_PER_MM:.1f} Td ({number}) Tj ET Q".encode())
    saved = DecodedStreamObject()
    saved.set_data(b"q")
    contents = page.raw_get("/Contents")
    page[NameObject("/Contents")] = ArrayObject([writer._add_object(saved), contents, writer._add_object(ink)])
    page["/Resources"]["/Font"][NameObject("/Number")] = font


def place(page, left, top):
    return ArrayObject([page.indirect_reference, NameObject("/XYZ"), left, top, NullObject()])


def target(link, name):
    """(file of the site, id or "") to which a link on the page of this name leads, or None where it leads out of the book."""
    if "/Dest" in link:
        return f"{name}.html", urllib.parse.unquote(str(link["/Dest"]).removeprefix("/"))
    if not link["/A"]["/URI"].startswith(ADDRESS):
        return None
    url = urllib.parse.urlsplit(link["/A"]["/URI"])
    return urllib.parse.unquote(url.path.lstrip("/")), urllib.parse.unquote(url.fragment)


def join(parts, front):
    """The book as bytes: the front matter, then the parts, with outline, page numbers and links."""
    writer = PdfWriter()
    font = writer._add_object(DictionaryObject({
        NameObject("/Type"): NameObject("/Font"),
        NameObject("/Subtype"): NameObject("/Type1"),
        NameObject("/BaseFont"): NameObject("/Helvetica"),
    }))
    pages = [(FRONT.removesuffix(".html"), writer.add_page(page)) for page in front.pages]
    places = {}
    for part in parts:
        own = [writer.add_page(page) for page in part.pdf.pages]
        pages += [(part.name, page) for page in own]
        file = f"{part.name}.html"
        places[file, ""] = own[0], NullObject(), NullObject()
        places |= {(file, anchor): (own[number], left, top) for anchor, (number, left, top) in part.places().items()}
        parents = [None]
        for level, text, anchor in part.headings:
            page, left, top = places[file, anchor]
            fit = Fit.xyz(left, top)
            del parents[level:]
            parents.append(writer.add_outline_item(title=text, page_number=page, parent=parents[-1], is_open=False, fit=fit))
    missing = []
    for number, (name, page) in enumerate(pages, start=1):
        kept = ArrayObject()
        for reference in page["/Annots"] if "/Annots" in page else ():
            link = reference.get_object()
            if found := target(link, name):
                if not found[0].endswith(".html"):
                    continue  # a file beside the pages
                if found not in places:
                    missing.append(f"{name}: {'#'.join(found)}")
                    continue
                link.pop("/A", None)
                link[NameObject("/Dest")] = place(*places[found])
            kept.append(reference)
        page[NameObject("/Annots")] = kept
        if number > 1:  # not on the title page
            stamp(writer, page, number, font)
    if missing:
        raise BrokenLinks("; ".join(missing))
    writer.add_metadata({"/Title": citation("title"), "/Author": author()})
    writer.root_object[NameObject("/Lang")] = TextStringObject("en")
    writer.page_mode = "/UseOutlines"
    data = io.BytesIO()
    writer.write(data)
    return data.getvalue()


def write(site, names, cache):
    """Write the book's PDF into the folder of the site; what has not changed since the last call is not printed again."""
    if chromium.program() is None:
        print("Chromium is not installed, so there is no PDF of the book.")
        return
    cache.mkdir(parents=True, exist_ok=True)
    style = styles(site)
    keys = [digest(style, content_key(site, name).encode()) for name in names]
    stems = {name: cache / f"{name.replace('/', '-')}-{key}" for name, key in zip(names, keys)}
    book = cache / f"{digest(*map(str.encode, keys))}.pdf"
    if not book.exists():
        book.write_bytes(asyncio.run(print_book(site, stems)))
    for path in cache.iterdir():
        if path != book and path.with_suffix("") not in stems.values():
            path.unlink()
    shutil.copyfile(book, site / NAME)
