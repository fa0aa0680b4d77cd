"""The site's Sphinx extension: what Jupyter Book does not do by itself."""

import importlib.util
import os
import re
import tomllib
from pathlib import Path

import chromium
import made_pages
import portable
import printed
from docutils import nodes
from sphinx.util import logging
from sphinx.util.fileutil import copy_asset
from sphinx_proof.domain import ProofDomain
from sphinx_proof.nodes import NODE_TYPES, unenumerable_node, visit_unenumerable_node

logger = logging.getLogger(__name__)

COPIES = "notebooks"  # folder of the site
MATHJAX_PARTS = ["tex-chtml-full.js", "output/chtml/fonts/woff-v2"]


def write_pages(app, config):
    """Written before the table of contents, which lists them, is read."""
    made_pages.write()


def set_theme_options(app, config):
    """Buttons that lead to a repository only where one is known."""
    options = config.html_theme_options
    options["navbar_persistent"] = []  # otherwise a second search bar
    options["launch_buttons"] = {}  # the theme's lead to the notebooks in the repository, which only the book can show
    config.html_search_scorer = str(Path(__file__).with_name("search_scorer.js"))
    url = os.environ.get("BOOK_REPOSITORY_URL", "")
    if url:
        options["repository_url"] = url
        options["repository_branch"] = os.environ.get("BOOK_REPOSITORY_BRANCH", "main")
        options["use_repository_button"] = True
        options["use_issues_button"] = True


def colab_url(name):
    """Where Colab opens the copy of a notebook on the branch of the published site, or None. It knows GitHub only."""
    url = os.environ.get("BOOK_REPOSITORY_URL", "").rstrip("/")
    if not url.startswith("https://github.com/"):
        return None
    branch = os.environ.get("BOOK_SITE_BRANCH", "gh-pages")
    return f"https://colab.research.google.com/github/{url.split('/', 3)[3]}/blob/{branch}/{COPIES}/{name}"


def offer_copies(app, pagename, templatename, context, doctree):
    """The buttons of a chapter lead to the copy of its notebook that runs by itself: to download, and on Colab."""
    name = f"{Path(pagename).name}.ipynb"
    if context.get("page_source_suffix") != ".ipynb":
        return
    for group in context["header_buttons"]:
        for button in group.get("buttons", []):
            if button["label"] == "download-source-button":
                button["url"] = context["pathto"](f"{COPIES}/{name}", 1)
                button["tooltip"] = "Download the notebook; it runs by itself"
    if url := colab_url(name):
        button = {"type": "link", "url": url, "text": "Colab", "icon": "_static/images/logo_colab.png", "label": "colab-button"}
        group = {"type": "group", "tooltip": "Run this chapter", "icon": "fas fa-rocket", "label": "launch-buttons"}
        context["header_buttons"].insert(0, group | {"buttons": [button]})


def write_copies(app, error):
    """The notebooks that the buttons lead to."""
    if error is None:
        portable.write(Path(app.outdir, COPIES))


def copy_mathjax(app):
    """MathJax from the site itself; the package's own extension would copy all 24 MB of it."""
    package = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent
    for part in MATHJAX_PARTS:
        source = package / "static" / "mathjax" / part
        target = Path(app.outdir, "_static", "mathjax", part)
        copy_asset(source, target if source.is_dir() else target.parent)


def empty_fontawesome(app, error):
    """The icon font draws the same icons without this 1.5 MB script."""
    scripts = Path(app.outdir, "_static", "scripts")
    for path in scripts.glob("fontawesome.js*"):
        path.write_text("") if path.suffix == ".js" else path.unlink()


class Statements(ProofDomain):
    """Statements under their titles, so that the search finds them, and other books by intersphinx."""

    def get_objects(self):
        for label, entry in self.env.proof_list.items():
            yield entry["title"], entry["title"], entry["realtype"], entry["docname"], label, 1


def words(text):
    """A title as one may type it into a search: \\(_\\epsilon\\) is _epsilon."""
    return re.sub(r"\\[()]|\\|<.*?>", "", text)


def title_statements(app, document):
    """Statements carry the paper's own numbers: "Theorem 1 (...)", or "Proposition (name)" for ours."""
    for node in document.findall(lambda node: isinstance(node, tuple(NODE_TYPES.values()))):
        logger.warning("a statement needs :nonumber:, its number is in its title", location=node)
    for node in document.findall(unenumerable_node):
        title, content = node[0], node[1]
        title["ids"], content["ids"] = [], [f"{node['label']}-content"]  # each id once on a page
        word = node["realtype"].title()
        if not title.astext():
            title += nodes.Text(word)
        elif not re.match(rf"{word}\b", title.astext()):
            title.insert(0, nodes.Text(f"{word} ("))
            title += nodes.Text(")")
        app.env.proof_list[node["label"]]["title"] = words(title.astext())


def name_contents(app, document):
    """sphinx-exercise gives the contents of all its boxes one id; each id may stand once on a page."""
    for section in document.findall(nodes.section):
        if section["ids"] in (["exercise-content"], ["solution-content"]):
            section["ids"] = [f"{section.parent['label']}-content"]


def depart_statement(self, node):
    self.body.append("</div>")


def number_by_chapter(app, env):
    """Figure 2 of chapter 4 is "4.2", whatever chapters come before it, and that of the corrections "C.2"; exercises alike."""
    for name, counters in env.toc_fignumbers.items():
        if chapter := re.match(r"book/(\d+)-", name):
            number = int(chapter[1])
        elif name == "book/corrections":
            number = "C"
        else:
            continue
        for figures in counters.values():
            for position, label in enumerate(figures, start=1):
                figures[label] = (number, position)
    return []


def say_why(app, page, template, context, doctree):
    """Below the titles of the next and of the previous page, one sentence on what is there."""
    path = Path(app.srcdir, "book", "path.toml")
    reasons = tomllib.loads(path.read_text(encoding="utf-8"))
    _, previous, following = app.builder.relations.get(page, (None, None, None))
    for side, name in (("prev", previous), ("next", following)):
        if name:
            context[f"{side}_title"] = f'{context[side]["title"]}<span class="why">{reasons[name]}</span>'


def name_page(app, page, template, context, document):
    """The title in the browser's tab is not drawn by MathJax."""
    context["title"] = words(context.get("title", ""))


def name_search_results(app):
    """Neither are those of the search's results."""
    titles = app.builder.indexer._titles
    titles.update({name: words(title) for name, title in titles.items()})
    return []


def in_order(env, page):
    """A page and all pages below it, in the order of the table of contents."""
    return [page, *(name for below in env.toctree_includes.get(page, []) for name in in_order(env, below))]


def print_book(app, error):
    """The PDF is a part of the site; without Chromium, no page has a link to it."""
    if error is None:
        printed.write(Path(app.outdir), in_order(app.env, app.config.root_doc), Path(app.srcdir, ".cache", "printed"))


def remove_thebe(app):
    """Live code is not offered; Jupyter Book loads its script all the same, and it fails on every page."""
    for listeners in app.events.listeners.values():
        for listener in list(listeners):
            if listener.handler.__module__ == "sphinx_thebe":
                app.disconnect(listener.id)
    app.registry.css_files = [file for file in app.registry.css_files if file[0] != "sphinx-thebe.css"]


def setup(app):
    app.setup_extension("sphinx_proof")
    app.setup_extension("sphinx_thebe")
    app.add_node(unenumerable_node, override=True, html=(visit_unenumerable_node, depart_statement))
    app.add_domain(Statements, override=True)
    app.add_css_file("plbook.css")
    app.add_js_file("previews.js", loading_method="defer")
    app.add_js_file("plbook.js", loading_method="defer")
    if chromium.program():
        app.tags.add("printed")
    app.set_html_assets_policy("always")  # the side bar has formulas on pages that have none
    remove_thebe(app)
    app.connect("config-inited", write_pages, priority=100)
    app.connect("config-inited", set_theme_options)
    app.connect("builder-inited", copy_mathjax)
    app.connect("doctree-read", title_statements)
    app.connect("doctree-read", name_contents)
    app.connect("env-get-updated", number_by_chapter, priority=900)  # after Sphinx has numbered
    app.connect("html-page-context", say_why)
    app.connect("html-page-context", name_page)
    app.connect("html-page-context", offer_copies, priority=502)  # after the theme has made its buttons
    app.connect("html-collect-pages", name_search_results)
    app.connect("build-finished", empty_fontawesome)
    app.connect("build-finished", write_copies)
    app.connect("build-finished", print_book, priority=900)  # after all files are in place
    return {"parallel_read_safe": True, "parallel_write_safe": True}
