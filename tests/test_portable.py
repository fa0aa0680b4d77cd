"""Copies of the notebooks that run by themselves: no MyST is left, nothing is lost, the first cell installs plbook."""

import re
import sys
import zipfile
from collections import Counter

import nbformat
import plain_markdown
import portable
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebook_environment import ROOT, notebooks
from places import Place, all_places

SITE = "https://book.example"
MYST_TOKENS = {"colon_fence", "myst_role", "myst_target", "myst_line_comment", "myst_block_break", "math_block_label", "amsmath"}
MYST_TEXT = re.compile(r"[`:~]{3,}\s*\{|\{[\w:+-]+\}`|^\([\w-]+\)=$|^:[\w-]+:(\s|$)|\{\{", re.MULTILINE)
LATIN = re.compile(r"\\(?:" + "|".join(plain_markdown.macros()) + r")(?![A-Za-z])")
FORMULAS = {"math_inline", "math_inline_double", "math_block", "math_block_label"}


def tokens(text):
    """All tokens of a text as the book reads it, the inline ones too; the text of directives is read in turn."""
    for token in plain_markdown.parser().parse(text):
        yield token
        if token.type in ("fence", "colon_fence") and token.info.lstrip().startswith("{"):
            yield from tokens(token.info.split("}", 1)[1])
            yield from tokens("\n".join(plain_markdown.options_and_body(token.content.splitlines())[1]))
        for child in token.children or []:
            yield child


def spaceless(tex):
    return re.sub(r"\\tag\{[^}]*\}|\s", "", tex)


def formulas_of_book(text):
    """How often each formula stands in a text of the book, as it reads without macros."""
    return Counter(spaceless(plain_markdown.expand(token.content)) for token in tokens(text) if token.type in FORMULAS)


def formulas_of_copy(text):
    """The same of a copy, with the parser of plain Markdown and dollars, and formulas within HTML."""
    found = Counter()
    for token in MarkdownIt().use(dollarmath_plugin).parse(text):
        for part in [token, *(token.children or [])]:
            if part.type in FORMULAS:
                found[spaceless(part.content)] += 1
            elif part.type == "html_block":
                found.update(map(spaceless, re.findall(r"\$([^$]+)\$", part.content)))
    return found


def markdown(notebook):
    return {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "markdown"}


def code(notebook):
    return {cell.id: (cell.source, cell.outputs, cell.execution_count) for cell in notebook.cells if cell.cell_type == "code"}


def captions(notebook):
    figures = (cell.metadata.get("mystnb", {}).get("figure", {}) for cell in notebook.cells)
    return [figure["caption"] for figure in figures if figure]


def findings(original, copy):
    """All that is wrong with a copy."""
    try:
        nbformat.validate(copy)
    except nbformat.ValidationError as error:
        yield f"not a valid notebook: {error.message}"
    if copy.cells[0].id != "install-plbook" or copy.cells[0].cell_type != "code":
        yield "the first cell does not install plbook"
    for cell in copy.cells:
        if "figure" in cell.metadata.get("mystnb", {}):
            yield f"{cell.id}: a caption in the metadata"
    kept, copied = code(original), code(copy)
    for name, content in kept.items():
        if copied.get(name) != content:
            yield f"{name}: code or outputs are not those of the book"
    for name, text in markdown(copy).items():
        if left := MYST_TEXT.search(text):
            yield f"{name}: MyST is left: {left[0]!r}"
        if macro := LATIN.search(text):
            yield f"{name}: a macro is left: {macro[0]}"
        for token in tokens(text):
            if token.type in MYST_TOKENS:
                yield f"{name}: MyST is left: {token.type}"
            elif token.type == "link_open" and not token.attrs["href"].startswith("https://"):
                yield f"{name}: a link to {token.attrs['href']!r} leads nowhere"
        if re.search(r"^>.*\$\$[^$]*$", re.sub(r"\$\$[^$\n]*\$\$", "", text), re.MULTILINE):
            yield f"{name}: a formula of several lines in a quote"
    wanted = sum(map(formulas_of_book, [*markdown(original).values(), *captions(original)]), Counter())
    lost = wanted - sum(map(formulas_of_copy, markdown(copy).values()), Counter())
    if lost:
        yield f"formulas are lost: {list(lost)}"


@pytest.fixture(scope="module")
def places():
    made = {name: Place(name, "", name) for name in ("status", "statements", "api", "ch-statements", "ch-api")}
    return made | all_places()


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.name)
def test_a_copy_is_plain_and_complete(path, places):
    original = nbformat.read(path, as_version=4)
    copy = portable.portable(original, plain_markdown.Plain(places, SITE))
    assert list(findings(original, copy)) == []
    assert f"]({SITE}" in "".join(markdown(copy).values())


def test_without_an_address_there_are_no_links(places):
    copy = portable.portable(nbformat.read(notebooks()[0], as_version=4), plain_markdown.Plain(places))
    assert "](" not in "".join(markdown(copy).values())


BOOK_TEXT = """\
(ch-one)=
# 1. One

Text with $\\norm{x}$.

$$
\\R^p
$$ (eq-one)

:::{prf:theorem} Theorem 1 (first)
:label: thm-one
:nonumber:

It says $x = 1$ and

$$
y =
2 .
$$
:::

:::{admonition} Proof
:class: dropdown

By {eq}`eq-one`.
:::
"""


def small_notebook():
    figure = {"figure": {"name": "fig-one", "caption": "The loss $L$ of PL\\*."}, "image": {"alt": "A line."}}
    cells = [
        new_markdown_cell(BOOK_TEXT, id="text"),
        new_code_cell("draw()", id="draw", metadata={"mystnb": figure}, outputs=[new_output("stream", text="1\n")]),
        new_code_cell("assert True", id="check", metadata={"tags": ["remove-cell"]}),
    ]
    return new_notebook(cells=cells)


SMALL_PLACES = {
    "ch-one": Place("01-one", "ch-one", "1. One"),
    "sec-two": Place("02-two", "sec-two", "PL\\* and $\\norm{x}$"),
    "eq-one": Place("01-one", "equation-eq-one", "(1.1)"),
    "fig-one": Place("01-one", "fig-one", "Figure 1.1"),
    "thm-one": Place("01-one", "thm-one", "Theorem 1 (first)"),
    "ex-one": Place("01-one", "ex-one", "Exercise (Pencil: $\\R$)"),
    "02-two": Place("02-two", "", "2. Two"),
    "term:pl* condition": Place("glossary", "term-PL-condition", "PL\\* condition"),
    "bibliography": Place("bibliography", "", "Bibliography"),
}


def small_copy(site=""):
    return portable.portable(small_notebook(), plain_markdown.Plain(SMALL_PLACES, site))


def cell_of(notebook, name):
    return next(cell for cell in notebook.cells if cell.id == name)


def rewritten(name, old, new):
    def change(copy):
        cell = cell_of(copy, name)
        assert old in cell.source
        cell.source = cell.source.replace(old, new)

    return change


def appended(text):
    return lambda copy: cell_of(copy, "text").update(source=cell_of(copy, "text").source + text)


FAULTS = {
    "not a valid notebook": lambda copy: cell_of(copy, "draw").pop("outputs"),
    "does not install": lambda copy: copy.cells.pop(0),
    "caption in the metadata": lambda copy: cell_of(copy, "draw").metadata.update(mystnb={"figure": {"name": "x"}}),
    "draw: code or outputs": lambda copy: cell_of(copy, "draw").outputs.clear(),
    "check: code or outputs": rewritten("check", "True", "False"),
    "MyST is left: '```{": appended("\n\n```{note}\n```\n"),
    "MyST is left: ':::{": appended("\n\n:::{note}\n:::\n"),
    "MyST is left: '{ref}`": appended("\n\n{ref}`thm-one`\n"),
    "MyST is left: '(ch-one)='": rewritten("text", "# 1. One", "(ch-one)=\n# 1. One"),
    "MyST is left: ':label:": appended("\n\n:label: thm\n"),
    "MyST is left: '{{": appended("\n\n{{ name }}\n"),
    "MyST is left: math_block_label": appended("\n\n$$\nx\n$$ (eq-x)\n"),
    "a macro is left: \\norm": appended("\n\n$\\norm x$\n"),
    "a link to 'ch-one'": appended("\n\n[one](ch-one)\n"),
    "several lines in a quote": appended("\n\n> $$\n> x\n> $$\n"),
    "formulas are lost": rewritten("text", "$x = 1$", "x = 1"),
    "formulas are lost: ['L']": rewritten("draw-caption", "$", ""),
}


def test_a_small_copy_has_no_findings():
    assert list(findings(small_notebook(), small_copy())) == []


@pytest.mark.parametrize("text", FAULTS)
def test_a_fault_is_found(text):
    copy = small_copy()
    FAULTS[text](copy)
    original = small_notebook()
    assert any(text in finding for finding in findings(original, copy)), list(findings(original, copy))


def test_a_caption_follows_its_figure_in_italics():
    copy = small_copy()
    names = [cell.id for cell in copy.cells]
    assert names[names.index("draw") + 1] == "draw-caption"
    assert cell_of(copy, "draw-caption").source == "_Figure 1.1. The loss $L$ of PL\\*._"


def test_checks_are_folded_and_nothing_else():
    copy = small_copy()
    folded = [cell.id for cell in copy.cells if cell.metadata.get("jupyter", {}).get("source_hidden")]
    assert folded == ["check"]


PLAIN = {
    "(sec)=\n## Title": "## Title",
    "{prf:ref}`Theorem 1 <thm-one>`": "Theorem 1",
    "{ref}`below <thm-one>` and {ref}`sec-two`": "below and PL\\* and $\\lVert x \\rVert$",
    "{numref}`fig-one` and {eq}`eq-one`": "Figure 1.1 and (1.1)",
    "[one](ch-one), [](./02-two.ipynb), {doc}`02-two`": "one, 2. Two, 2. Two",
    "<https://a.example> [b](https://b.example)": "<https://a.example> [b](https://b.example)",
    "{term}`PL\\* condition` {term}`it <PL* condition>`": "PL\\* condition it",
    "{cite:t}`liu2022loss` {cite}`polyak1963gradient,lojasiewicz1963`": "Liu et al. (2022) (Polyak, 1963; Łojasiewicz, 1963)",
    "{cite:p}`polyak1963gradient`": "(Polyak, 1963)",
    "$x$ {math}`\\R` $$\\R$$": "$x$ $\\mathbb{R}$ $$\\mathbb{R}$$",
    "`{ref}` and `$x$` and ``a`b`` and \\$5": "`{ref}` and `$x$` and ``a`b`` and \\$5",
    "```python\n# {ref}`x`\n```": "```python\n# {ref}`x`\n```",
    "```{code-block} python\nx = 1\n```": "```python\nx = 1\n```",
    "    {ref}`x`": "    {ref}`x`",
    "$$\n\\R\n$$ (eq-one)": "$$\n\\mathbb{R} \\tag{1.1}\n$$",
    "```{math}\n:label: eq-one\n\n\\R\n```": "$$\n\\mathbb{R} \\tag{1.1}\n$$",
    "\\begin{align}\n\\R\n\\end{align}": "\\begin{align}\n\\mathbb{R}\n\\end{align}",
    "- item\n\n  $$\n  \\R\n  $$\n- {ref}`two <sec-two>`": "- item\n\n  $$\n  \\mathbb{R}\n  $$\n- two",
    "| {eq}`eq-one` | [a](ch-one) |\n| --- | --- |\n| b | {eq}`eq-one` |": "| (1.1) | a |\n| --- | --- |\n| b | (1.1) |",
    ":::{prf:lemma} Short\n:label: l\n:nonumber:\n\nIf $a$\n\n$$\na =\nb\n$$\n:::": (
        "> **Lemma (Short).**\n>\n> If $a$\n>\n> $$a = b$$"
    ),
    "```{prf:theorem} Theorem 1 (first), corrected\n:label: t\n\nYes.\n```": "> **Theorem 1 (first), corrected.**\n>\n> Yes.",
    ":::{exercise} Pencil: it\n:label: ex-one\n:nonumber:\n\nShow.\n:::": "> **Exercise (Pencil: it).**\n>\n> Show.",
    ":::{solution} ex-one\n:class: dropdown\n\nDone.\n:::": (
        "<details>\n<summary><strong>Solution (Pencil: $\\mathbb{R}$)</strong></summary>\n\nDone.\n\n</details>"
    ),
    ":::{admonition} Proof of `f` and PL\\*, $a < b$\n:class: dropdown\n\n$$\na\n$$\n:::": (
        "<details>\n<summary><strong>Proof of <code>f</code> and PL*, $a < b$</strong></summary>\n\n$$\na\n$$\n\n</details>"
    ),
    "```{dropdown} More\nText.\n```": "<details>\n<summary><strong>More</strong></summary>\n\nText.\n\n</details>",
    "```{note}\nText.\n```": "> **Note.**\n>\n> Text.",
    "::::{admonition} Outer\n:::{prf:remark} Inner\n{eq}`eq-one`\n:::\n::::": (
        "> **Outer.**\n>\n> > **Remark (Inner).**\n> >\n> > (1.1)"
    ),
    "```{margin}\nAside.\n```": "> Aside.",
    "```{raw} html\n<b>x</b>\n```": "<b>x</b>",
    "```{raw} latex\n\\newpage\n```": "",
    "```{figure} _static/a.png\n:name: fig-one\n:alt: A line.\n\nIt falls, {eq}`eq-one`.\n```": (
        "_A line._\n\n_It falls, (1.1)._"
    ),
    "![a line](_static/a.png)": "_a line_",
}


@pytest.mark.parametrize("source", PLAIN)
def test_each_construct_has_its_plain_form(source):
    assert plain_markdown.Plain(SMALL_PLACES).text(source) == PLAIN[source]


LINKED = {
    "{prf:ref}`Theorem 1 <thm-one>`": f"[Theorem 1]({SITE}/book/01-one.html#thm-one)",
    "{eq}`eq-one`": f"[(1.1)]({SITE}/book/01-one.html#equation-eq-one)",
    "[two](02-two.ipynb)": f"[two]({SITE}/book/02-two.html)",
    "{term}`PL* condition`": f"[PL* condition]({SITE}/book/glossary.html#term-PL-condition)",
    "{cite:t}`liu2022loss`": f"[Liu et al. (2022)]({SITE}/book/bibliography.html)",
    "![a line](_static/a.png)": f"![a line]({SITE}/_images/a.png)",
}


@pytest.mark.parametrize("source", LINKED)
def test_with_an_address_references_are_links(source):
    assert plain_markdown.Plain(SMALL_PLACES, SITE + "/").text(source) == LINKED[source]


@pytest.mark.parametrize("source", ["```{video} a.mp4\n```", "{kbd}`Ctrl`"])
def test_what_has_no_plain_form_is_refused(source):
    with pytest.raises(plain_markdown.NoPlainForm, match="video|kbd"):
        plain_markdown.Plain(SMALL_PLACES).text(source)


@pytest.mark.parametrize("source", ["{ref}`x <sec-gone>`", "[x](ch-gone)", "{eq}`eq-gone`", "{term}`gone`"])
def test_a_label_that_leads_nowhere_is_refused(source):
    with pytest.raises(ValueError, match="gone"):
        plain_markdown.Plain(SMALL_PLACES).text(source)


@pytest.mark.parametrize(
    ("tex", "expanded"),
    [
        ("\\norm{a_{\\bm{x}}}^2", "\\lVert a_{\\boldsymbol{x}} \\rVert^2"),
        ("\\norm r + \\norm\\DF", "\\lVert r \\rVert + \\lVert DF \\rVert"),
        ("\\norm{\\{1\\}}", "\\lVert \\{1\\} \\rVert"),
        ("x_\\R \\Real \\trace", "x_{\\mathbb{R}} \\Real \\trace"),
    ],
)
def test_macros_are_expanded(tex, expanded):
    assert plain_markdown.expand(tex) == expanded


def run_install_cell(monkeypatch, repository="", plbook=None):
    """Run the first cell where `import plbook` gives `plbook`, None for an error; return the lines given to pip."""
    calls = []

    class Shell:
        def run_line_magic(self, name, line):
            calls.append((name, line))

    monkeypatch.setitem(sys.modules, "plbook", plbook)
    source = TransformerManager().transform_cell(portable.install_cell(repository).source)
    exec(source, {"get_ipython": Shell})
    return calls


def test_nothing_is_installed_where_plbook_is(monkeypatch):
    assert run_install_cell(monkeypatch, plbook=portable) == []


def test_the_first_cell_installs_from_the_repository(monkeypatch):
    calls = run_install_cell(monkeypatch, "https://github.com/me/plbook")
    assert calls == [("pip", 'install --quiet "plbook @ git+https://github.com/me/plbook"')]


def test_the_first_cell_installs_the_wheel_beside_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImportError, match=r"not beside this notebook.*pip install \."):
        run_install_cell(monkeypatch)
    (tmp_path / portable.wheel_name()).touch()
    assert run_install_cell(monkeypatch) == [("pip", f"install --quiet ./{portable.wheel_name()}")]


def test_the_archive_holds_the_notebooks_and_a_wheel_of_plbook_alone(tmp_path, monkeypatch, places):
    monkeypatch.setattr(portable, "all_places", lambda: places)
    monkeypatch.setattr(portable, "notebooks", lambda: notebooks()[:1])
    portable.write(tmp_path / "copies")
    names = {notebooks()[0].name, portable.wheel_name()}
    assert {path.name for path in (tmp_path / "copies").iterdir()} == names | {"copies.zip"}
    with zipfile.ZipFile(tmp_path / "copies" / "copies.zip") as archive:
        assert {name.removeprefix("plbook-copies/") for name in archive.namelist()} == names
    with zipfile.ZipFile(tmp_path / "copies" / portable.wheel_name()) as wheel:
        modules = {name for name in wheel.namelist() if ".dist-info/" not in name}
        assert modules == {path.relative_to(ROOT).as_posix() for path in (ROOT / "plbook").rglob("*.py")}
    assert not any((ROOT / name).exists() for name in ("build", "dist"))


def solution_lines(notebook):
    """The longer lines of the solutions that stand nowhere else in the notebook."""
    text = "\n".join(markdown(notebook).values())
    rest = re.sub(r"^(:{3,}|`{3,})\{solution\}.*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    rest += "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    # Lines without formulas and references, which stay as they are.
    return {line for line in map(str.strip, text.splitlines()) if len(line) > 30 and line not in rest and not set(line) & set("`{}[]$\\")}


def leaks(copy, lines):
    text = "\n".join(cell.source for cell in copy.cells)
    return {line for line in lines if line in text}


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.name)
def test_students_get_the_exercises_without_the_solutions(path, places):
    notebook = nbformat.read(path, as_version=4)
    lines, exercises = solution_lines(notebook), "\n".join(markdown(notebook).values()).count("{exercise}")
    copy = portable.portable(notebook, plain_markdown.Plain(places, solutions=False))
    text = "\n".join(cell.source for cell in copy.cells)
    assert leaks(copy, lines) == set() and "<strong>Solution" not in text
    assert text.count("**Exercise (") == exercises
    complete = portable.portable(notebook, plain_markdown.Plain(places))
    text = "\n".join(cell.source for cell in complete.cells)
    assert leaks(complete, lines) == lines and ("<strong>Solution" in text) == bool(exercises), "the copies with solutions have them"


def test_a_wheel_that_cannot_be_built_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(portable, "SOURCES", ("README.md",))
    with pytest.raises(RuntimeError, match="was not built"):
        portable.build_wheel(tmp_path)
