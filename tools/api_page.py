"""The page of the package: every public name of plbook, from its signature and its docstring."""

import importlib
import inspect
import re
import textwrap
from dataclasses import dataclass

import plbook
from notebook_environment import ROOT

PAGE = ROOT / "book" / "api.md"

# In the order of the design: each module builds on those before it.
MODULES = [
    "systems",
    "toys",
    "networks",
    "datasets",
    "tangent_kernel",
    "hessian",
    "transforms",
    "charts",
    "verified",
    "bounds",
    "conditions",
    "descent",
    "acceleration",
    "constant_paths",
    "certificates",
    "diagnosis",
    "figures",
]
# Of these modules every public name belongs to the public face; of the others, what plbook itself exports.
OPEN = ("toys", "networks", "datasets", "charts", "verified", "figures")
CHAPTERS = re.compile(r"\bchapters? (\d+(?:, \d+)*(?: and \d+)?)")
CODE_WIDTH = 40  # of a phone

INTRODUCTION = """\
(ch-api)=
# The package

Every public function and class of `plbook`, by module.
A module belongs to a chapter: the chapter explains what the functions do, this page says how to call them.
`pl` is `plbook`, as in `import plbook as pl`.

In formulas, w is the point, F the system, y its targets, DF the Jacobian, K = DF DF^T the tangent kernel, L the loss,
H_i the Hessian of equation i, n the number of equations and p that of unknowns; see the [notation page](ch-notation).
Results are records: read their fields, print them.
"""


@dataclass(frozen=True)
class Entry:
    """A public name, as a reader writes it, and what it stands for."""

    name: str
    thing: object

    @property
    def label(self):
        return "api-" + self.name.removeprefix("pl.").replace(".", "-").replace("_", "-").lower()


def public_names(module):
    """A module's own list, or what it defines itself without a leading underscore."""
    if hasattr(module, "__all__"):
        return module.__all__
    return [
        name for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def entries(name):
    """The entries of one module of plbook. What plbook exports itself goes by that shorter name."""
    module = importlib.import_module(f"plbook.{name}")
    exported = {}
    for short in plbook.__all__:
        value = getattr(plbook, short)
        if not inspect.ismodule(value) and re.match(rf"plbook\.{name}\b", value.__module__):
            exported[short] = value
    found = [Entry(f"pl.{short}", value) for short, value in exported.items()]
    if name in OPEN:
        found += [Entry(f"pl.{name}.{own}", getattr(module, own)) for own in public_names(module) if own not in exported]
    # Functions first, then the records that they return.
    return sorted(found, key=lambda entry: (inspect.isclass(entry.thing), entry.name))


def escaped(text):
    """Plain text as Markdown that shows it unchanged; `code` stays code."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_\[\]<>|$#~{}])", r"\\\1", part) for part in parts)


def signature(entry):
    """How to call it, broken into lines that a phone shows."""
    thing = entry.thing
    if inspect.isclass(thing) and (issubclass(thing, Exception) or "__dataclass_fields__" in vars(thing)):
        return entry.name
    line = f"{entry.name}{inspect.signature(thing)}"
    if len(line) <= CODE_WIDTH:
        return line
    parameters = list(inspect.signature(thing).parameters.values())
    kinds = [parameter.kind for parameter in parameters]
    shown = [str(parameter) for parameter in parameters]
    if inspect.Parameter.KEYWORD_ONLY in kinds:
        shown.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    return "\n".join([f"{entry.name}(", *(f"    {part}," for part in shown), ")"])


def paragraphs(docstring):
    """A docstring in Markdown: paragraphs, lists, formulas set apart, and the sections Args, Returns and Raises."""
    for block in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        lines = block.split("\n")
        if re.fullmatch(r"(Args|Returns|Raises):", lines[0]):
            yield from section(lines[0][:-1], textwrap.dedent("\n".join(lines[1:])))
        elif lines[0].startswith("    "):
            yield from ["```text", *textwrap.dedent(block).split("\n"), "```", ""]
        elif re.match(r"- |1\. ", lines[0]):
            yield from [*listed(lines), ""]
        else:
            text = escaped(" ".join(lines))
            yield from [re.sub(r"^(Cost|Source|Accuracy): ", r"*\1:* ", text), ""]


def listed(lines):
    """A list whose items go over several lines."""
    indent = " " * lines[0].index(" ") + " "
    for line in lines:
        mark, text = re.match(r"((?:- |\d+\. )?)\s*(.*)", line).groups()
        yield mark + escaped(text) if mark else indent + escaped(text)


def section(title, text):
    """Args and Raises are lists of names with a text each, Returns is a text."""
    title = title.replace("Args", "Arguments")
    if title == "Returns":
        return [f"*Returns:* {escaped(' '.join(text.split()))}", ""]
    items = [item.split(":", 1) for item in re.split(r"\n(?! )", text)]
    shown = [f"`{name}`: {escaped(' '.join(meaning.split()))}" for name, meaning in items]
    return [f"*{title}:* {shown[0]}", ""] if len(shown) == 1 else [f"*{title}:*", "", *(f"- {item}" for item in shown), ""]


def members(thing):
    """(name, docstring) of the public methods and properties that a class of plbook defines."""
    for name, value in vars(thing).items():
        if name.startswith("_"):
            continue
        if isinstance(value, property):
            yield name, value.__doc__
        elif inspect.isfunction(value) and not hasattr(thing.__mro__[1], name):
            arguments = list(inspect.signature(value).parameters.values())[1:]
            yield f"{name}({', '.join(map(str, arguments))})", value.__doc__


def described(entry):
    """The lines of one entry."""
    yield from [f"({entry.label})=", f"### `{entry.name.removeprefix('pl.')}`", ""]
    yield from ["```python", signature(entry), "```", ""]
    yield from paragraphs(entry.thing.__doc__)
    if not inspect.isclass(entry.thing):
        return
    if fields := vars(entry.thing).get("__dataclass_fields__"):
        yield from [f"*Fields:* {', '.join(f'`{name}`' for name in fields)}.", ""]
    if own := list(members(entry.thing)):
        yield from ["*Properties and methods:*", ""]
        yield from [f"- `{name}`: {escaped(' '.join(inspect.cleandoc(docstring).split()))}" for name, docstring in own]
        yield ""


def linked_chapters(text):
    """"chapter 5" as a link to it, "chapters 4 and 6" as two."""
    pages = {int(path.name[:2]): path.name for path in (ROOT / "book").glob("[0-9]*.ipynb")}

    def link(match):
        numbers = re.sub(r"\d+", lambda number: f"[{number[0]}](./{pages[int(number[0])]})", match[1])
        return match[0].replace(match[1], numbers)

    return CHAPTERS.sub(link, text)


def lines():
    yield INTRODUCTION
    for name in MODULES:
        yield from [f"## plbook.{name}", ""]
        about = next(iter(re.split(r"\n\s*\n", inspect.cleandoc(importlib.import_module(f"plbook.{name}").__doc__))))
        yield from [linked_chapters(escaped(" ".join(about.split()))), ""]
        for entry in entries(name):
            yield from described(entry)


def write():
    PAGE.write_text("\n".join(lines()), encoding="utf-8")
