"""The page of the package: every public name stands on it once, under its module, with what its docstring says."""

import inspect
import re
import types

import api_page
import plbook as pl
import pytest
from notebook_environment import ROOT
from plbook import figures, networks

# By another route than the page's own: what a user can reach without an underscore.
OPEN_MODULES = {"pl": pl, "pl.charts": pl.charts, "pl.datasets": pl.datasets, "pl.toys": pl.toys, "pl.verified": pl.verified}
OPEN_MODULES |= {"pl.figures": figures, "pl.networks": networks}


def reachable(modules):
    """name -> object: the shortest name of each function and class of plbook that the modules offer."""
    found = {}
    for prefix, module in sorted(modules.items()):
        for name in getattr(module, "__all__", [name for name in dir(module) if not name.startswith("_")]):
            value = getattr(module, name)
            own = getattr(value, "__module__", "").startswith("plbook") and not isinstance(value, types.ModuleType)
            if own and value.__module__.startswith(module.__name__) and all(value is not other for other in found.values()):
                found[f"{prefix}.{name}"] = value
    return found


def page():
    return "\n".join(api_page.lines())


def undocumented(things):
    """Names without a docstring of their own; of classes also the methods and properties."""
    for name, thing in things.items():
        if not (thing.__doc__ or "").strip():
            yield name
        elif inspect.isclass(thing):
            if thing.__doc__.startswith(f"{thing.__name__}("):  # what dataclass writes where there is none
                yield name
            yield from (f"{name}.{member}" for member, text in api_page.members(thing) if not (text or "").strip())


def missing(text, names):
    """Names without exactly one heading and one call on the page."""
    for name in names:
        heading = rf"^### `{re.escape(name.removeprefix('pl.'))}`$"
        call = rf"^```python\n{re.escape(name)}(\(|$)"
        if len(re.findall(heading, text, re.M)) != 1 or len(re.findall(call, text, re.M)) != 1:
            yield name


def test_every_public_name_is_on_the_page():
    names = reachable(OPEN_MODULES)
    assert {"pl.System", "pl.MLP", "pl.toys.product", "pl.networks.Antisymmetric", "pl.figures.descent"} <= set(names)
    assert list(missing(page(), names)) == []


def test_a_missing_name_is_found():
    assert list(missing(page(), ["pl.System", "pl.no_such_thing"])) == ["pl.no_such_thing"]
    assert list(missing(page().replace("### `pl_ratio`\n", ""), ["pl.pl_ratio"])) == ["pl.pl_ratio"]


def test_every_public_name_has_a_docstring():
    assert list(undocumented(reachable(OPEN_MODULES))) == []


def test_a_missing_docstring_is_found():
    class Good:
        """A thing."""

        @property
        def size(self):
            return 0

    @api_page.dataclass
    class Record:
        x: int

    def silent():
        pass

    things = {"Good": Good, "silent": silent, "Record": Record}
    assert list(undocumented(things)) == ["Good.size", "silent", "Record"]


def test_anchors_are_unique():
    labels = re.findall(r"^\(([\w-]+)\)=$", page(), re.M)
    assert len(labels) == len(set(labels)) == len(reachable(OPEN_MODULES)) + 1


def test_every_module_names_its_chapter():
    parts = re.split(r"^## (plbook\.\w+)$", page(), flags=re.M)[1:]
    for name, text in zip(parts[::2], parts[1::2]):
        about = text.split("###")[0]
        for file in re.findall(r"\]\(\./([\w.-]+)\)", about):
            assert (ROOT / "book" / file).exists(), (name, file)
        assert "](./" in about or name in ("plbook.toys", "plbook.datasets", "plbook.figures"), name


def test_chapters_become_links():
    assert api_page.linked_chapters("Curves: chapters 4 and 6.") == (
        "Curves: chapters [4](./04-pl-star.ipynb) and [6](./06-wide-networks.ipynb)."
    )
    assert api_page.linked_chapters("the examples of the chapters") == "the examples of the chapters"


DOCSTRING = """A claim with w_1 * w_2 and `w_1`.

    |x|_2 <= 1

- first of
  two lines
- second

Args:
    w: the point,
        or None.
    seed: a number.

Returns:
    A tensor.

Raises:
    ValueError: for NaN.

Cost: one evaluation.
"""

SHOWN = r"""A claim with w\_1 \* w\_2 and `w_1`.

```text
|x|_2 <= 1
```

- first of
  two lines
- second

*Arguments:*

- `w`: the point, or None.
- `seed`: a number.

*Returns:* A tensor.

*Raises:* `ValueError`: for NaN.

*Cost:* one evaluation.
"""


def test_a_docstring_becomes_markdown():
    assert "\n".join(api_page.paragraphs(DOCSTRING)) == SHOWN


def test_a_record_shows_its_fields_and_properties():
    lines = list(api_page.described(api_page.Entry("pl.StepConstants", pl.StepConstants)))
    assert "*Fields:* `jacobian_norm`, `hessian_bound`, `residual_norm`." in lines
    assert "- `step_size`: 1 / (L\\_F^2 + beta\\_F r0)." in lines


@pytest.mark.parametrize(
    ("name", "thing", "shown"),
    [
        ("pl.pl_ratio", pl.pl_ratio, "pl.pl_ratio(system, w=None)"),
        ("pl.Trajectory", pl.Trajectory, "pl.Trajectory"),
        (
            "pl.hessian_norms",
            pl.hessian_norms,
            "pl.hessian_norms(\n    system,\n    w=None,\n    *,\n    rtol=0.01,\n)",
        ),
    ],
)
def test_signatures_fit_a_phone(name, thing, shown):
    assert api_page.signature(api_page.Entry(name, thing)) == shown
