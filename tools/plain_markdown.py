"""MyST as plain Markdown, for Jupyter and Colab without extensions: directives become quotes or folded boxes, roles text or links."""

import html
import re
from functools import cache

import yaml
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser
from notebook_environment import ROOT
from places import statement_name, term_label
from pybtex.database import parse_file
from pybtex.richtext import Text

DIRECTIVE = re.compile(r"\{([\w:-]+)\} *(.*)")
OPTION = re.compile(r":([\w-]+):(?: +(.*))?")
INLINE = re.compile(
    r"(?P<escape>\\[^\w\s])"
    r"|\{(?P<role>[\w:-]+)\}(?P<ticks>`+)(?P<content>.+?)(?<!`)(?P=ticks)(?!`)"
    r"|(?P<fence>`+)(?P<code>.+?)(?<!`)(?P=fence)(?!`)"
    r"|(?P<dollars>\$\$?)(?P<math>(?:\\.|[^$\\])+)(?P=dollars)"
    r"|\{\{ *(?P<name>\w+) *\}\}"
    r"|(?P<image>!?)\[(?P<text>(?:\\.|[^\[\]\\])*)\]\((?P<target>[^)\s]*)\)",
    re.DOTALL,
)
TEXT_AND_TARGET = re.compile(r"(.*?)\s*<([^<>]+)>", re.DOTALL)
ADMONITIONS = {"admonition", "note", "tip", "hint", "warning", "caution", "attention", "important", "seealso", "danger", "error"}


class NoPlainForm(ValueError):
    """A construct that has no translation yet."""


@cache
def configuration():
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


@cache
def parser():
    """The book's own parser, so that both see the same blocks; addresses in the text stay as they are."""
    extensions = set(configuration()["parse"]["myst_enable_extensions"]) - {"linkify"}
    return create_md_parser(MdParserConfig(enable_extensions=extensions), RendererHTML)


@cache
def macros():
    """name -> (TeX, number of arguments)."""
    found = configuration()["sphinx"]["config"]["mathjax3_config"]["tex"]["macros"]
    return {name: (value, 0) if isinstance(value, str) else tuple(value) for name, value in found.items()}


@cache
def bibliography():
    return parse_file(str(ROOT / "book" / "references.bib")).entries


def argument(tex):
    """(first argument of a macro, what follows it)."""
    tex = tex.lstrip()
    if not tex.startswith("{"):
        end = re.match(r"\\(?:[A-Za-z]+|.)|.", tex, re.DOTALL).end()
        return tex[:end], tex[end:]
    depth = 0
    for brace in re.finditer(r"\\.|[{}]", tex, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return tex[1 : brace.start()], tex[brace.end() :]
    raise ValueError(f"a brace is not closed in {tex!r}.")


def expand(tex):
    """TeX without the book's macros, which plain Jupyter does not know."""
    names = "|".join(sorted(macros(), key=len, reverse=True))
    while found := re.search(rf"\\({names})(?![A-Za-z])", tex):
        body, count = macros()[found[1]]
        rest = tex[found.end() :]
        for number in range(1, count + 1):
            value, rest = argument(rest)
            body = body.replace(f"#{number}", value)
        # A macro counts as one symbol after _ or ^, its text may not.
        before = tex[: found.start()]
        tex = before + (f"{{{body}}}" if before.endswith(("_", "^")) else body) + rest
    return tex


def names_of(entry):
    last = [str(Text.from_latex(" ".join([*person.prelast_names, *person.last_names]))) for person in entry.persons["author"]]
    return last[0] if len(last) == 1 else f"{last[0]} and {last[1]}" if len(last) == 2 else f"{last[0]} et al."


def html_text(title):
    """A title as HTML: Markdown is not read inside of <summary>. Formulas are."""

    def replaced(match):
        if match["escape"]:
            return html.escape(match["escape"][1:])
        return f"<code>{html.escape(match['code'])}</code>" if match["code"] else match[0]

    return INLINE.sub(replaced, title)


def quoted(lines):
    return [f"> {line}".rstrip() for line in lines]


class Plain:
    """Turns the Markdown of one page into plain Markdown.

    `places` is what labels lead to; `site` the address of the site, "" for none: then links become text.
    Solutions of exercises can be left out.
    """

    def __init__(self, places, site="", *, solutions=True):
        self.places, self.site, self.solutions = places, site.rstrip("/"), solutions

    def text(self, source):
        """A cell or the body of a directive."""
        return "\n".join(self.lines(source))

    def lines(self, source, one_line=False):
        """`one_line`: formulas on a line of their own keep to one. In a quote its mark would get into them."""
        lines = source.splitlines()
        written, done = [], 0
        for token in parser().parse(source):
            if token.map is None or token.map[0] < done:
                continue
            begin, end = token.map
            indent = re.match(r"\s*", lines[begin])[0]
            new = self.block(token, [line.removeprefix(indent) for line in lines[begin:end]], one_line)
            if new is not None:
                written += lines[done:begin] + [(indent + line).rstrip() for line in new]
                done = end
        return written + lines[done:]

    def block(self, token, lines, one_line):
        """The lines of a block in plain Markdown, or None for a container, whose parts come as blocks of their own."""
        if token.type in ("fence", "colon_fence"):
            if directive := DIRECTIVE.fullmatch(token.info.strip()):
                return self.directive(directive[1], directive[2].strip(), token.content.splitlines(), one_line)
            return lines
        if token.type in ("code_block", "html_block", "amsmath"):
            return expand("\n".join(lines)).splitlines() if token.type == "amsmath" else lines
        if token.type in ("math_block", "math_block_label"):
            return self.formula(token.content, token.info, one_line)
        if token.type == "myst_target":
            return []
        if token.type in ("inline", "substitution_block"):
            return self.inline("\n".join(lines)).split("\n")
        return None

    def formula(self, tex, label, one_line):
        tex = expand(tex.strip())
        if label:
            tex += f" \\tag{{{self.place(label).text.strip('()')}}}"
        return [f"$${' '.join(tex.split())}$$"] if one_line else ["$$", *tex.splitlines(), "$$"]

    def directive(self, name, argument, lines, one_line):
        options, lines = options_and_body(lines)
        body = "\n".join(lines)
        if name == "math":
            return self.formula(f"{argument}\n{body}", options.get("label", ""), one_line)
        if name == "raw":
            return lines if argument == "html" else []
        if name == "code-block":
            return [f"```{argument}", *lines, "```"]
        if name == "figure":
            return [self.picture(options.get("alt", ""), argument), "", emphasized(self.inline(body))]
        if name == "margin":
            return quoted(self.titled(argument, body))
        if name == "exercise" or name.startswith("prf:"):
            return quoted(self.titled(statement_name(name, argument) + ".", body))
        if name == "solution":
            title = re.sub("^Exercise", "Solution", self.place(argument).text)
            return self.folded(title, body, one_line) if self.solutions else []
        if name in ADMONITIONS | {"dropdown"}:
            title = argument or name.title()
            if name == "dropdown" or "dropdown" in options.get("class", ""):
                return self.folded(title, body, one_line)
            return quoted(self.titled(title + ".", body))
        raise NoPlainForm(f"there is no plain form for the directive {name}; add one to tools/plain_markdown.py.")

    def titled(self, title, body):
        """A bold title, then the body, ready for a quote."""
        return ([f"**{self.inline(title)}**", ""] if title else []) + self.lines(body, one_line=True)

    def folded(self, title, body, one_line):
        """What opens on a click; the blank lines let Markdown be read inside."""
        summary = html_text(self.inline(title))
        return ["<details>", f"<summary><strong>{summary}</strong></summary>", "", *self.lines(body, one_line), "", "</details>"]

    def inline(self, source):
        """Roles, links and formulas within a paragraph."""
        return INLINE.sub(self.replaced, source)

    def replaced(self, match):
        if match["role"]:
            return self.role(match["role"], match["content"])
        if match["name"]:
            return str(configuration()["parse"].get("myst_substitutions", {})[match["name"]])
        if match["math"]:
            return f"{match['dollars']}{expand(' '.join(match['math'].split()))}{match['dollars']}"
        if match["target"] is not None:
            return self.link(match["image"], match["text"], match["target"])
        return match[0]

    def role(self, name, content):
        explicit = TEXT_AND_TARGET.fullmatch(content)
        text, target = explicit.groups() if explicit else ("", content)
        if name in ("cite", "cite:p", "cite:t"):
            return self.citation(content, in_text=name == "cite:t")
        if name in ("ref", "prf:ref", "numref", "eq", "doc"):
            return self.linked(self.inline(text) or self.inline(self.place(target).text), self.place(target))
        if name == "term":
            return self.linked(self.inline(text or target), self.place(term_label(target)))
        if name == "math":
            return f"${expand(content)}$"
        raise NoPlainForm(f"there is no plain form for the role {name}; add one to tools/plain_markdown.py.")

    def citation(self, keys, in_text):
        entries = [bibliography()[key.strip()] for key in keys.split(",")]
        pattern = "{} ({})" if in_text else "{}, {}"
        cited = "; ".join(pattern.format(names_of(entry), entry.fields["year"]) for entry in entries)
        return self.linked(cited if in_text else f"({cited})", self.place("bibliography"))

    def link(self, image, text, target):
        if "://" in target or target.startswith(("#", "mailto:")):
            return f"{image}[{self.inline(text)}]({target})"
        if image:
            return self.picture(text, target)
        place = self.place(re.sub(r"\.(md|ipynb)$", "", target))
        return self.linked(self.inline(text or place.text), place)

    def linked(self, text, place):
        if not self.site:
            return text
        anchor = f"#{place.anchor}" if place.anchor else ""
        return f"[{text}]({self.site}/book/{place.page}.html{anchor})"

    def picture(self, alt, path):
        """Sphinx gathers the pictures of the site in one folder; without a site there are words."""
        return f"![{alt}]({self.site}/_images/{path.rsplit('/', 1)[-1]})" if self.site else f"_{alt}_"

    def place(self, label):
        label = label.removeprefix("./")
        if label not in self.places:
            raise ValueError(f"no page of the book defines the label {label!r}.")
        return self.places[label]


def options_and_body(lines):
    """({name: value} of the leading :name: lines, the lines after them)."""
    options = {}
    while lines and (found := OPTION.fullmatch(lines[0].strip())):
        options[found[1]] = (found[2] or "").strip()
        lines = lines[1:]
    while lines and not lines[0].strip():
        lines = lines[1:]
    return options, lines


def emphasized(text):
    """One paragraph in italics."""
    return f"_{' '.join(text.split())}_"
