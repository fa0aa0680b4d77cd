"""The second explorable: its stored runs against plbook, its text against the runs, and what a reader does with it in a browser."""

import json
import math
import random
from decimal import ROUND_CEILING, ROUND_FLOOR

import numpy as np
import phases
import pytest
import torch
from plbook.figures import style
from site_reader import VIEWS
from test_explorables import opened

import plbook as pl

PAGE = "book/phases.html"
DATA = phases.read()
ROWS = {row["width"]: row for row in DATA["rows"]}
MULTIPLES = DATA["multiples"]
# Another machine may round the third digit of a number to the other side.
DIGIT = 0.011


def column(multiple):
    return MULTIPLES.index(multiple)


def cell(width, multiple):
    return ROWS[width]["cells"][column(multiple)]


def numbers(data):
    """All numbers of nested lists and dictionaries."""
    if isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from numbers(value)
    elif isinstance(data, float):
        yield data


def too_long(data):
    return [x for x in numbers(data) if x != float(f"{x:.3g}")]


def differences(found, stored):
    """The names under which two records differ, by more than the last stored digit."""
    def same(a, b):
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
        if isinstance(a, list):
            return len(a) == len(b) and all(map(same, a, b))
        if isinstance(a, float):
            return b is not None and math.isclose(a, b, rel_tol=DIGIT)
        return a == b

    return {name for name in found.keys() | stored.keys() if not same(found.get(name), stored.get(name))}


def above_the_guarantee(guarantee, multiple, run):
    """The steps at which a stored loss is above the guaranteed line."""
    if guarantee is None or multiple > guarantee["multiple"]:
        return []
    steps = [*DATA["times"][: len(run["curve"])], run["steps"]]
    return [t for t, loss in zip(steps, [*run["curve"], run["last"]]) if loss > (1 - guarantee["rate"] * multiple) ** t]


# The data


def test_the_data_are_small_and_every_number_has_three_digits():
    assert phases.DATA.stat().st_size < 150_000
    assert too_long(DATA) == [] and too_long([{"a": 0.1234}, 0.5]) == [0.1234]
    assert tuple(ROWS) == phases.WIDTHS and tuple(MULTIPLES) == phases.MULTIPLES and DATA["times"] == list(phases.TIMES)
    assert len(phases.DATA.read_text().splitlines()) == 1 + len(ROWS) * len(MULTIPLES)
    assert max(np.diff(np.log(MULTIPLES))) - min(np.diff(np.log(MULTIPLES))) < 0.02, "a constant factor"
    assert max(c for c in MULTIPLES if c < 2) < 2 / 1.1 and min(c for c in MULTIPLES if c > 2) > 2 * 1.1


def sampled():
    """One run of every width but the largest, whose runs take seconds; seeded."""
    return [(width, random.Random(width).choice(MULTIPLES)) for width in phases.WIDTHS[:-1]]


@pytest.mark.parametrize("width, multiple", [*sampled(), (16384, 1.35), (2, 2.96)])
def test_stored_runs_are_those_of_plbook(width, multiple):
    system = phases.system_of(width)
    assert differences(phases.cell_of(system, multiple), cell(width, multiple)) == set()


def test_a_run_with_another_step_size_is_found():
    found = phases.cell_of(phases.system_of(8), 1.04 * 1.03)
    assert differences(found, cell(8, 1.04)) >= {"curve", "steps"}


@pytest.mark.parametrize("width", phases.WIDTHS)
def test_what_is_stored_of_the_start_is_what_plbook_says(width):
    system, row = phases.system_of(width), ROWS[width]
    kernel = torch.linalg.eigvalsh(system.jacobian(system.start) @ system.jacobian(system.start).T)
    smallest, largest = kernel[0].item(), kernel[-1].item()
    assert row["parameters"] == system.num_parameters == 9 * width
    assert row["largest"] == pytest.approx(largest, rel=DIGIT)
    assert row["residual"] == pytest.approx(0.5 * 10**0.5, rel=DIGIT), "the outputs are counted from those of the start"
    if width == 1:
        assert row["smallest"] is None and row["modes"][0][0] == 0 and 9 < DATA["equations"]
    else:
        assert row["smallest"] == pytest.approx(smallest, rel=DIGIT)
    constants = pl.step_constants(system)
    theorem = largest / (constants.jacobian_norm**2 + constants.hessian_bound * constants.residual_norm)
    assert row["theorem"] == pytest.approx(theorem, rel=DIGIT)


@pytest.mark.parametrize("width", [1, 128, 4096, 16384])
def test_what_is_promised_is_certified_by_plbook(width):
    system, row = phases.system_of(width), ROWS[width]
    certificate, largest = pl.certify_solution(system), pl.kernel_spectrum(system).largest
    assert row["certified"] == certificate.holds == (width == 16384)
    if not certificate.holds:
        assert row["guarantee"] is row["distance"] is None
        return
    assert certificate.rigour == "verified" and row["kantorovich"] >= certificate.kantorovich_number
    step_size, fall = certificate.descent.step_size * largest, 1 - certificate.descent.factor
    assert 0.98 * step_size < row["guarantee"]["multiple"] <= step_size
    assert 0.98 * fall < row["guarantee"]["rate"] * row["guarantee"]["multiple"] <= fall


def test_no_run_is_above_its_guarantee():
    found = {
        (width, multiple): above_the_guarantee(row["guarantee"], multiple, run)
        for width, row in ROWS.items() for multiple, run in zip(MULTIPLES, row["cells"])
    }
    assert [key for key, steps in found.items() if steps] == []
    guarantee = ROWS[16384]["guarantee"]
    kept = [multiple for multiple in MULTIPLES if multiple <= guarantee["multiple"]]
    assert len(kept) == 6 and all(row["guarantee"] is None for width, row in ROWS.items() if width < 16384)
    # A rate that is too good is found.
    bold = {**guarantee, "rate": 100 * guarantee["rate"]}
    assert all(above_the_guarantee(bold, multiple, cell(16384, multiple)) for multiple in kept)


@pytest.mark.parametrize("width", [1, 4, 1024])
def test_the_modes_are_those_of_the_linearized_run(width):
    system, row = phases.system_of(width), ROWS[width]
    for multiple in (0.363, 1.75):
        exact = pl.linearized_losses(system, multiple / pl.kernel_spectrum(system).largest, 100)
        sums = [sum(part * (1 - multiple * value) ** (2 * t) for value, part in row["modes"]) for t in range(101)]
        assert np.allclose(sums, exact / exact[0], rtol=0.02, atol=1e-4)


def steps_of(width, multiple):
    run = cell(width, multiple)
    return run["steps"] if run["phase"] == "converged" else math.inf


def linearized(width, multiple, steps):
    return sum(part * (1 - multiple * value) ** (2 * steps) for value, part in ROWS[width]["modes"])


def test_the_text_says_what_there_is_to_see():
    """The experiments of book/phases.md, in its order, and then its conclusion."""
    runs = [(row["width"], multiple, run) for row in DATA["rows"] for multiple, run in zip(MULTIPLES, row["cells"])]
    phase = {(width, multiple): run["phase"] for width, multiple, run in runs}
    left = [multiple for multiple in MULTIPLES if multiple < 2]
    assert len(runs) == 240 and len(ROWS) == 12 and 1.29 < MULTIPLES[1] / MULTIPLES[0] < 1.31

    assert ROWS[1]["parameters"] == 9 and ROWS[1]["smallest"] is None and ROWS[2]["parameters"] == 18
    assert all(phase[1, c] == "slow" and cell(1, c)["last"] > 0.1 for c in left)
    assert f"{ROWS[2]['largest'] / ROWS[2]['smallest']:.0f}" == "643"
    assert "converged" not in {phase[width, c] for width in (1, 2) for c in MULTIPLES}
    assert all("converged" in {phase[width, c] for c in MULTIPLES} for width in ROWS if width >= 4)

    column = {width: steps_of(width, 1.04) for width in ROWS}
    assert (column[4], column[32]) == (333, 137) and column[4] > column[8] > column[16] > column[32]
    wide = [width for width in ROWS if width >= 32]
    assert (min(column[width] for width in wide), max(column[width] for width in wide)) == (132, 139)
    assert all(f"{ROWS[width]['largest'] / ROWS[width]['smallest']:.0f}" in ("26", "27") for width in (128, 256, 1024, 4096, 16384))
    for width in (64, 128, 256, 1024, 4096, 16384):  # 0.2 is 6 of the 336 units of the plot's width
        relative = [math.log(loss / linearized(width, 1.04, t)) for t, loss in zip(DATA["times"], cell(width, 1.04)["curve"])]
        assert max(map(abs, relative)) < 1.2, (width, relative)

    fastest = {c: steps_of(64, c) for c in MULTIPLES}
    assert min(fastest.values()) == fastest[1.75] == 79 and fastest[2.28] == 81
    assert linearized(64, 2.28, 100) > 1e6 and 2 < max(cell(64, 2.28)["curve"]) < 4
    assert all(run["top"] < 2 for width, multiple, run in runs if run["phase"] == "converged")
    climbs = {width: max(cell(width, 2.28)["curve"]) for width in ROWS if width >= 8}
    assert list(climbs.values()) == sorted(climbs.values()) and 300 < climbs[16384] < 400
    assert {width for width in ROWS if phase[width, 3.85] == "converged"} == {256, 4096, 16384}
    assert MULTIPLES.index(3.85) - MULTIPLES.index(2.28) == 2

    row = ROWS[16384]
    assert 0.215 < row["guarantee"]["multiple"] < 0.28 and MULTIPLES.index(0.28) - MULTIPLES.index(0.215) == 1
    assert math.ceil(math.log(1e-6) / math.log1p(-0.215 * row["guarantee"]["rate"])) == 5630
    assert steps_of(16384, 0.215) == 681 and ROWS[4096]["kantorovich"] == 0.685 and ROWS[4096]["guarantee"] is None
    for multiple in (0.215, 0.28):
        assert abs(steps_of(4096, multiple) / steps_of(16384, multiple) - 1) < 0.02

    assert (ROWS[1]["theorem"], row["theorem"]) == (0.536, 0.981)
    assert ROWS[1]["hessian"] == 1.23 and f"{row['hessian']:.2g}" == "0.0097"
    below = [(width, multiple, run) for width, multiple, run in runs if multiple <= ROWS[width]["theorem"]]
    assert all(max(np.diff(run["curve"])) <= 0 for _, _, run in below)
    assert "diverged" not in {phase[width, c] for width in ROWS for c in left}

    assert sum(value == "converged" for value in phase.values()) == 113 and len(below) == 121
    promised = [c for c in MULTIPLES if c <= row["guarantee"]["multiple"]]
    assert [phase[16384, c] for c in promised] == 4 * ["slow"] + 2 * ["converged"]
    assert sum(value == "converged" and c > 2 for (_, c), value in phase.items()) == 21
    assert (ROWS[256]["kantorovich"], row["kantorovich"]) == (2.86, 0.345)
    assert all("converged" == phase[width, c] for width in ROWS if width >= 8 for c in left if c >= 0.363)


# How they are computed


def test_numbers_are_rounded_to_three_digits():
    assert [phases.digits(x) for x in (0.123456, 987654.0, 0.0)] == [0.123, 988000.0, 0.0]
    assert phases.digits(0.12399, ROUND_FLOOR) == 0.123 < phases.digits(0.12301, ROUND_CEILING) == 0.124


def test_the_three_phases():
    """On a line with slope 1, where a step of size c multiplies the loss by (1 - c)^2."""
    line = pl.toys.linear(torch.eye(1), [0.0], [1.0])
    ends = {c: phases.relative_losses(line, line.start, c)[0] for c in (0.001, 0.5, 2.0, 3.0)}
    assert {c: phases.phase_of(losses) for c, losses in ends.items()} == {0.001: "slow", 0.5: "converged", 2.0: "slow", 3.0: "diverged"}
    assert len(ends[0.5]) - 1 == 10 and ends[0.5][-1] == 0.25**10, "the first power of 1/4 below 1e-6"
    assert len(ends[3.0]) - 1 == 10 and ends[3.0][-1] == 4.0**10, "the first power of 4 above 1e6"


def test_curves_are_stored_as_far_as_a_start_beside_gives_the_same():
    losses = torch.tensor([1.0, 0.5, 0.25, 0.125])
    assert phases.same_until(losses, losses) == 3
    assert phases.same_until(losses, losses * torch.tensor([1.0, 1.0, 1.01, 2.0])) == 1
    assert phases.same_until(losses, losses[:2]) == 1
    system = phases.system_of(2)
    assert (phases.moved_start(system) - system.start).norm() == pytest.approx(1e-9 * system.start.norm())


def test_a_run_about_which_rounding_decides_is_refused(monkeypatch):
    monkeypatch.setattr(phases, "MOVED", 0.5)
    with pytest.raises(ValueError, match="rounding decides about 2.96"):
        phases.cell_of(phases.system_of(8), 2.96)


# What a reader does with them


def shown(page):
    """The field that is looked at, the curves and the words."""
    return page.evaluate("""() => ({
      field: document.querySelector(".field").ariaLabel,
      place: document.querySelector(".field").style.cssText,
      where: document.querySelector(".where").innerText,
      curve: document.querySelector("svg svg .measured").getAttribute("d"),
      linearized: document.querySelector("svg svg .linearized").getAttribute("d"),
      words: document.querySelector(".verdicts").innerText,
    })""")


def changed(before, after):
    return {name for name in before if before[name] != after[name]}


@pytest.fixture(scope="module")
def page(site):
    with opened(site, at=PAGE) as page:
        yield page


@pytest.mark.site
def test_the_arrow_keys_go_from_field_to_field(site):
    with opened(site, at=PAGE) as page:
        before = shown(page)
        assert "Width 64, step size 1.04" in before["field"]
        page.focus(".field")
        page.keyboard.press("ArrowRight")
        after = shown(page)
        assert "Width 64, step size 1.35" in after["field"] and changed(before, after) == set(before)
        page.keyboard.press("ArrowUp")
        assert "Width 128, step size 1.35" in shown(page)["field"]
        page.wait_for_function("() => document.querySelector('[role=status]').textContent.includes('Width 128, step size 1.35')")
        for key in ["ArrowLeft", "ArrowDown"] * 15:
            page.keyboard.press(key)
        edge = shown(page)
        assert "Width 1, step size 0.0579" in edge["field"] and "singular everywhere" in edge["words"]
        page.keyboard.press("ArrowLeft")
        assert shown(page) == edge, "the edge is the end"
        assert page.evaluate("scrollY") == 0, "the arrows go through the fields and do not scroll"


@pytest.mark.site
def test_one_tab_stop_leads_to_all_fields(page):
    assert page.evaluate("document.querySelectorAll('.explorable :is(button, a, input, [tabindex])').length") == 1


@pytest.mark.site
@pytest.mark.parametrize("width, touch", [(1280, False), (375, True)])
def test_a_pointer_chooses_a_field(site, width, touch):
    with opened(site, width, at=PAGE, has_touch=touch) as page:
        page.locator(".map").scroll_into_view_if_needed()
        before, box = shown(page), page.locator(".map svg rect.frame").bounding_box()
        at = (box["x"] + 0.975 * box["width"], box["y"] + 0.04 * box["height"])
        (page.touchscreen.tap if touch else page.mouse.click)(*at)
        tapped = shown(page)
        assert "Width 16,384, step size 8.47" in tapped["field"] and changed(before, tapped) == set(before)
        page.mouse.move(*at)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.5, box["y"] + 0.54 * box["height"], steps=4)
        page.mouse.up()
        assert "Width 32, step size 0.0579" in shown(page)["field"]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


WALK = """
() => {
  const [field, seen] = [document.querySelector(".field"), []];
  const press = (key) => field.dispatchEvent(new KeyboardEvent("keydown", { key }));
  for (let k = 0; k < 30; k++) { press("ArrowLeft"); press("ArrowDown"); }
  for (let row = 0; row < PHASES.rows.length; row++) {
    for (let column = 0; column < PHASES.multiples.length; column++) {
      const d = (name) => document.querySelector(`svg svg .${name}`).getAttribute("d");
      seen.push({ label: field.ariaLabel, measured: d("measured"), guarantee: d("guarantee"), linearized: d("linearized"),
        words: document.querySelector(".verdicts").innerText, summary: document.querySelector(".summary").innerText });
      press("ArrowRight");
    }
    for (let k = 0; k < 30; k++) press("ArrowLeft");
    press("ArrowUp");
  }
  return seen;
}
"""


@pytest.mark.site
def test_every_field_shows_its_run(page):
    seen = page.evaluate(WALK)
    fields = [(row, multiple, run) for row in DATA["rows"] for multiple, run in zip(MULTIPLES, row["cells"])]
    assert len(seen) == len(fields) == 240
    for view, (row, multiple, run) in zip(seen, fields):
        assert f"Width {row['width']:,}, step size {multiple:g} " in view["label"]
        assert view["summary"].lower().startswith(run["phase"])
        assert not any(word in str(view) for word in ("NaN", "Infinity", "undefined", "null"))
        assert bool(view["guarantee"]) == bool(row["guarantee"] and multiple <= row["guarantee"]["multiple"]) == ("guaranteed: yes" in view["words"])
        assert ("linearized run: yes" in view["words"]) == (multiple < 2)
        # From the path back to steps and losses: the frame is 336 wide for a factor of 1,000.
        points = [tuple(map(float, point.split())) for point in view["measured"][1:].split("L")]
        steps = [10 ** ((x - 52) / 336 * 3) for x, _ in points]
        times = DATA["times"][1 : len(run["curve"])]
        assert np.allclose(steps[: len(times)], times, rtol=2e-3)


@pytest.mark.site
def test_the_map_shows_the_phases_and_the_limits(page):
    counts = page.evaluate("['converged', 'slow', 'diverged'].map(name => document.querySelectorAll(`.map svg svg .${name}`).length)")
    runs = [run["phase"] for row in DATA["rows"] for run in row["cells"]]
    assert counts == [runs.count("converged"), runs.count("slow"), runs.count("diverged")]
    paths = page.evaluate("[...document.querySelectorAll('.map .theorem')].map(path => path.getAttribute('d'))")
    ends = [float(path[1:].split("L")[-1].split()[0]) for path in paths]
    across = lambda c: 58 + (math.log(c / MULTIPLES[0]) / math.log(MULTIPLES[-1] / MULTIPLES[0]) * 19 + 0.5) * 336 / 20
    limits = [ROWS[16384]["guarantee"]["multiple"], ROWS[16384]["theorem"], 2]
    assert ends == pytest.approx([across(c) for c in limits], abs=0.06)


@pytest.mark.site
def test_the_data_of_the_page_are_the_stored_ones(page):
    assert json.loads(page.evaluate("JSON.stringify(PHASES)")) == DATA


@pytest.mark.site
def test_it_is_read_from_a_file_too(site):
    """A page that is opened without a server may load scripts, though not fetch data."""
    context = site.browser.new_context()
    page = context.new_page()
    page.goto((site.folder / PAGE).as_uri())
    assert "Width 64" in page.locator(".where").inner_text()
    context.close()


@pytest.mark.site
def test_it_follows_the_theme_in_the_colors_of_the_house(site):
    colors = {"measured": style.MEASURED, "theory": style.THEORY, "faint": style.FAINT}
    root = "getComputedStyle(document.querySelector('.explorable'))"
    seen = {}
    for scheme in ("light", "dark"):
        with opened(site, 1280, scheme, at=PAGE) as page:
            seen[scheme] = {name: page.evaluate(f"{root}.getPropertyValue('--{name}').trim()") for name in colors}
            dashes = page.evaluate("""() => ["theorem", "guarantee", "linearized", "measured"]
                .map(name => getComputedStyle(document.querySelector(`svg svg .${name}`)).strokeDasharray !== "none")""")
            assert dashes == [True] * 3 + [False]
            assert page.evaluate("document.querySelector('.explorable').getAnimations({subtree: true}).length") == 0
    assert seen["light"] == colors and all(seen["dark"][name] != colors[name] for name in ("measured", "theory"))


@pytest.mark.site
@pytest.mark.parametrize("width, scheme", VIEWS)
def test_without_scripts_there_is_a_picture(site, width, scheme):
    with opened(site, width, scheme, at=PAGE, java_script_enabled=False) as page:
        picture = page.locator(".explorable img")
        assert picture.is_visible() and len(picture.get_attribute("alt")) > 100
        assert picture.bounding_box()["width"] <= width and picture.evaluate("image => image.naturalWidth") > 500
        assert page.locator(".explorable figcaption").is_visible() and not page.locator(".field").count()


@pytest.mark.site
def test_with_scripts_the_picture_is_not_loaded(site):
    files = site.look(PAGE, 375, "light").files
    assert "_static/explorables/phases-data.js" in files and "_static/explorables/phases.png" not in files
    assert site.weight([name for name in files if "explorables" in name]) < 150_000
