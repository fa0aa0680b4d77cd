"""The explorable landscape: its numbers against plbook's, and what a reader does with it, in a browser without a network."""

import random
from contextlib import contextmanager
from math import sqrt

import numpy as np
import pytest
import refresh
import torch
from plbook.figures import style
from site_reader import VIEWS
from torch.func import hessian, vmap

import plbook as pl

pytestmark = pytest.mark.site

PAGE = "book/landscape.html"
# Wells without a solution: the targets of the script, which plbook's own toy does not have.
SYSTEMS = {
    "wells": lambda: pl.System(pl.toys.wells().value, [0.0, 0.0, 0.3], [0.0, 0.0]),
    "product": pl.toys.product,
    "bumpyValley": pl.toys.bumpy_valley,
    "folds": pl.toys.folds,
}
# The largest difference, relative to max(1, |number|): both sides round some ten operations on numbers up to 1e3.
TOLERANCE = 1e-9
STEPS = 60

NUMBERS = """
([name, points]) => {
  const system = Landscape.SYSTEMS[name];
  return {
    value: points.map(system.value),
    jacobian: points.map(w => system.jacobian(w).flat()),
    loss: points.map(w => Landscape.loss(system, w)),
    gradient: points.map(w => Landscape.gradient(system, w)),
    ratio: points.map(w => Landscape.plRatio(system, w)),
    smallest: points.map(w => Landscape.smallestEigenvalue(system, w)),
    largest: points.map(w => Landscape.largestEigenvalue(system, w)),
    curvature: points.map(w => Landscape.curvature(system, w)),
  };
}
"""
RUNS = """
([name, points, stepSize, steps]) =>
  points.map(w => Landscape.descend(Landscape.SYSTEMS[name], w, stepSize, steps))
"""
JUDGE = "([name, settings]) => settings.map(one => Landscape.judge(Landscape.SYSTEMS[name], one))"


@contextmanager
def opened(site, *view, at=PAGE, **options):
    with site.opened(at, *view, **options) as page:
        yield page
        # Without scripts, those that the page asks for early are cancelled.
        assert page.visit.findings == [] or not options.get("java_script_enabled", True)


@pytest.fixture(scope="module")
def page(site):
    with opened(site) as page:
        yield page


def vector(w):
    return torch.tensor(w, dtype=torch.float64)


def points_of(page, name, count, seed=0):
    """Points of the view and some way beyond it."""
    view = page.evaluate("name => Landscape.SYSTEMS[name].view", name)
    draw = np.random.default_rng(seed).uniform(-1.3, 1.3, (count, 2))
    return (np.array(view["center"]) + view["half"] * draw).tolist()


def numbers_of(system, points):
    """What plbook says at the points, under the names of NUMBERS."""
    points = vector(points)
    spectra = [pl.kernel_spectrum(system, w) for w in points]
    hessians = vmap(hessian(system.value))(points)
    return {
        "value": vmap(system.value)(points),
        "jacobian": vmap(system.jacobian)(points).flatten(1),
        "loss": vmap(system.loss)(points),
        "gradient": vmap(system.gradient)(points),
        "ratio": [pl.pl_ratio(system, w) for w in points],
        "smallest": [spectrum.smallest for spectrum in spectra],
        "largest": [spectrum.largest for spectrum in spectra],
        "curvature": torch.linalg.matrix_norm(hessians, 2).norm(dim=1),
    }


def differences(found, expected):
    """The names of the numbers that differ by more than TOLERANCE."""
    pairs = {name: (np.asarray(found[name]), np.asarray(expected[name])) for name in expected}
    return {name for name, (a, b) in pairs.items() if not (abs(a - b) <= TOLERANCE * np.maximum(1, abs(b))).all()}


@pytest.mark.parametrize("name", SYSTEMS)
def test_its_numbers_are_those_of_plbook(page, name):
    system = SYSTEMS[name]()
    points = points_of(page, name, 1000)
    found = page.evaluate(NUMBERS, [name, points])
    assert page.evaluate("name => Landscape.SYSTEMS[name].targets", name) == system.targets.tolist()
    assert differences(found, numbers_of(system, points)) == set()


@pytest.mark.parametrize("name", SYSTEMS)
def test_its_descents_are_those_of_plbook(page, name):
    """A small step, where neighboring runs do not part, so that rounding errors stay small."""
    system, points = SYSTEMS[name](), points_of(page, name, 20, seed=1)
    for w, run in zip(points, page.evaluate(RUNS, [name, points, 0.003, STEPS])):
        expected = pl.gradient_descent(system, vector(w), step_size=0.003, max_steps=STEPS, record_every=1)
        assert differences(run, {"losses": expected.losses, "points": expected.points}) == set()


def test_a_number_that_is_slightly_wrong_is_found(page):
    """With a coupling that is 1 + 1e-6 times as large every number differs; so does a run with another step size."""
    point = [0.3, -0.2]
    found = page.evaluate(NUMBERS, ["folds", [point]])
    assert differences(found, numbers_of(pl.toys.folds(), [point])) == set()
    assert differences(found, numbers_of(pl.toys.folds(0.25 * (1 + 1e-6)), [point])) == set(found)
    (run,) = page.evaluate(RUNS, ["folds", [point], 0.01, STEPS])
    expected = pl.gradient_descent(pl.toys.folds(), vector(point), step_size=0.01 * (1 + 1e-6), max_steps=STEPS)
    assert differences(run, {"losses": expected.losses}) == {"losses"}


def random_settings(page, name, count):
    """Some anywhere, some near the first view; mu is still to be chosen."""
    draw = random.Random(0)
    first = page.evaluate("name => Landscape.SYSTEMS[name].initial", name)
    for w in points_of(page, name, count, seed=2):
        near = [x + draw.uniform(-0.15, 0.15) for x in first["start"]]
        start, radius = draw.choice([(w, draw.uniform(0.05, 4)), (near, first["radius"] * draw.uniform(0.9, 1.1))])
        epsilon = max(0, draw.uniform(-1, 1))
        yield {"start": start, "multiple": draw.uniform(0.1, 1), "mu": 1, "epsilon": epsilon, "radius": radius}


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_it_promises_comes_true(page, name):
    """Where all hypotheses hold, the loss stays on or below the line and the path in the ball, until the loss is below epsilon."""
    settings = list(random_settings(page, name, 120))
    for one, verdict in zip(settings, page.evaluate(JUDGE, [name, settings])):
        # The largest constant that this ball allows, or one that it does not allow where there is none or any.
        one["mu"] = verdict["survey"]["smallest"] or 10.0
    kept = [(one, v) for one, v in zip(settings, page.evaluate(JUDGE, [name, settings])) if v["promised"] and v["below"] != 0]
    for one, verdict in kept:
        end = verdict["below"] if verdict["below"] >= 0 else None
        way = np.linalg.norm(np.array(verdict["run"]["points"])[:end] - one["start"], axis=1)
        assert verdict["above"] == -1, one
        assert way.max() <= verdict["radii"]["descent"] * (1 + 1e-9), one
        assert one["epsilon"] > 0 or name in ("product", "folds"), "these systems have no solution"
    assert kept or name == "wells"


def test_what_it_computes_is_what_the_theorems_ask_for(page):
    """For w1 w2 = 1 all constants of the ball are known: |DF| = |w|, the PL ratio |w|^2, beta_F = 1."""
    one = {"start": [2.4, 0.2], "multiple": 0.5, "mu": 1.5, "epsilon": 0, "radius": 1}
    (verdict,) = page.evaluate(JUDGE, ["product", [one]])
    size, r0 = sqrt(2.4**2 + 0.2**2), 1 - 2.4 * 0.2
    # Neither the walk downhill nor the grid ends exactly at the points of the rim next to and farthest from the origin.
    assert verdict["survey"]["smallest"] == pytest.approx((size - 1) ** 2, rel=1e-3)
    steepest = verdict["survey"]["jacobianNorm"]
    assert steepest == pytest.approx(size + 1, rel=1e-3) and verdict["survey"]["curvature"] == pytest.approx(1)
    assert verdict["allowed"] == pytest.approx(1 / (steepest**2 + r0))
    radii = {"theorem": 2 * steepest * r0 / 1.5, "flow": r0 / sqrt(1.5), "descent": 4 / 3 * r0 / sqrt(1.5)}
    assert verdict["radii"] == pytest.approx(radii)
    assert verdict["promised"] and verdict["holds"] == {"plStar": True, "ball": True, "stepSize": True}


@pytest.mark.parametrize("change, broken", [({"mu": 2.1}, "plStar"), ({"start": [1.8, 0.2]}, "plStar"),
                                            ({"radius": 0.5}, "ball"), ({"multiple": 1.1}, "stepSize")])
def test_it_says_which_hypothesis_fails(page, change, broken):
    one = {"start": [2.4, 0.2], "multiple": 1, "mu": 1.9, "epsilon": 0, "radius": 1, **change}
    (verdict,) = page.evaluate(JUDGE, ["product", [one]])
    assert not verdict["promised"] and not verdict["holds"][broken]


def test_the_search_finds_a_dip_between_the_points_of_the_grid(page):
    """In a ball of radius 4 the grid alone misses the critical points of the valley, where the ratio is 0."""
    one = {"start": [0.3, 0.4], "multiple": 1, "mu": 0.1, "epsilon": 0, "radius": 4}
    (verdict,) = page.evaluate(JUDGE, ["bumpyValley", [one]])
    points = page.evaluate("one => Landscape.ballPoints(one.start, one.radius)", one)
    grid = min(page.evaluate(NUMBERS, ["bumpyValley", points])["ratio"])
    assert verdict["survey"]["smallest"] < 1e-6 < 1e-4 < grid


def test_the_solutions_that_it_marks_are_solutions(page):
    system = SYSTEMS["folds"]()
    marked = page.evaluate("Landscape.isolatedSolutions(Landscape.SYSTEMS.folds)")
    assert len(marked) == 5 and max(system.loss(w).item() for w in marked) < 1e-20
    assert page.evaluate("Landscape.isolatedSolutions(Landscape.SYSTEMS.bumpyValley)") == []


def first_view(page, name, **changes):
    """What the page computes for its first view of a system, with some settings changed."""
    first = page.evaluate("name => Landscape.SYSTEMS[name].initial", name)
    return page.evaluate(JUDGE, [name, [{**first, **changes}]])[0]


def test_the_text_says_what_there_is_to_see(page):
    """The experiments of book/landscape.md, in its order."""
    verdict = first_view(page, "product")
    assert verdict["promised"] and verdict["radii"]["theorem"] > 1
    nearer = first_view(page, "product", start=[2.4, 0.45])
    assert nearer["promised"] and nearer["radii"]["theorem"] < 0.7

    assert first_view(page, "product", start=[1, -1])["run"]["losses"][-1] == pytest.approx(0.5)
    for start in ([1, -0.95], [1.05, -1], [1, -1.05], [0.95, -1]):
        losses = first_view(page, "product", start=start)["run"]["losses"]
        assert losses[10] < 0.7 and losses[20] > 0.6 * losses[10] and losses[-1] < 1e-6

    losses, distances = {}, {}
    for multiple in (1, 2, 5):
        run = first_view(page, "product", multiple=multiple)["run"]
        losses[multiple], distances[multiple] = run["losses"], np.linalg.norm(run["points"][-1])
    assert losses[2][5] < 1e-10 < losses[1][5] and losses[5][0] < losses[5][1] < losses[5][2]
    assert losses[5][-1] < 1e-10 and distances[5] < distances[1] - 0.2, "|w|^2 is the curvature of the valley"

    assert first_view(page, "bumpyValley")["promised"]
    smallest = {e: first_view(page, "bumpyValley", epsilon=e)["survey"]["smallest"] for e in (0, 0.3, 0.35, 0.5)}
    assert smallest[0] < 1e-6 and smallest[0.3] < 1e-6 and smallest[0.35] > 0.04 and 0.35 < smallest[0.5] < 0.5

    assert first_view(page, "folds")["promised"]
    for radius in np.geomspace(0.01, 4, 12):
        mu = first_view(page, "folds", start=[1.5, 1.4], radius=radius)["survey"]["smallest"]
        assert not first_view(page, "folds", start=[1.5, 1.4], radius=radius, mu=mu, multiple=0.1)["promised"]
    end = first_view(page, "folds", start=[-1, 1])["run"]
    assert abs(end["losses"][-1] - 0.0134) < 2e-4
    assert abs(torch.linalg.det(pl.toys.folds().jacobian(end["points"][-1]))) < 0.02

    for start, loss in {(0.5, 1): 0.1436, (1.5, 1): 0.1436, (-0.5, 1): 0.043}.items():
        w = first_view(page, "wells", start=start)["run"]["points"][-1]
        (run,) = page.evaluate(RUNS, ["wells", [w], 0.05, 1000])
        assert abs(run["losses"][-1] - loss) < 1e-3


# What a reader does with it


def shown(page):
    """The start as it is named, the path, the balls, the curve of the loss and the words."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.evaluate("""() => ({
      start: document.querySelector(".start").ariaLabel,
      path: document.querySelector(".map .track").getAttribute("d"),
      ball: document.querySelector(".map circle.theorem").getAttribute("r"),
      fall: document.querySelector("svg svg .measured").getAttribute("d"),
      words: document.querySelector(".verdicts").innerText,
    })""")


def test_the_arrow_keys_move_the_start(site):
    with opened(site) as page:
        before = shown(page)
        page.keyboard.press("Tab")
        page.focus(".start")
        page.keyboard.press("ArrowUp")
        after = shown(page)
        assert "(2.40, 0.60)" in before["start"] and "(2.40, 0.65)" in after["start"]
        assert [key for key in before if before[key] == after[key]] == []
        page.keyboard.press("Shift+ArrowLeft")
        assert "(1.90, 0.65)" in shown(page)["start"]
        # Read aloud after a pause; the edge of the view is the end.
        page.wait_for_function("() => document.querySelector('[role=status]').textContent.includes('(1.90, 0.65)')")
        for _ in range(9):
            page.keyboard.press("Shift+ArrowUp")
        assert "(1.90, 3.00)" in shown(page)["start"]
        assert page.evaluate("scrollY") == 0, "the arrows move the point, not the page"


@pytest.mark.parametrize("width, touch", [(1280, False), (375, True)])
def test_a_pointer_moves_the_start(site, width, touch):
    with opened(site, width, has_touch=touch) as page:
        page.locator(".start").scroll_into_view_if_needed()
        before, box = shown(page), page.locator(".start").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x - 40, y - 30, steps=3)
        page.mouse.up()
        dragged = shown(page)
        assert [key for key in before if before[key] == dragged[key]] == []
        middle = page.locator(".map").bounding_box()
        at = (middle["x"] + 0.3 * middle["width"], middle["y"] + 0.7 * middle["height"])
        (page.touchscreen.tap if touch else page.mouse.click)(*at)
        assert shown(page)["start"] != dragged["start"]


def test_sliders_and_systems_change_what_is_shown(site):
    with opened(site) as page:
        for slider in ("multiple", "mu", "radius", "epsilon"):
            before = shown(page)
            page.focus(f"[name={slider}]")
            page.keyboard.press("ArrowRight")
            assert shown(page)["words"] != before["words"]
        for name, count in {"wells": 0, "folds": 5, "bumpyValley": 0, "product": 0}.items():
            page.check(f"[value={name}]")
            assert page.locator(".map .solutionPoints").get_attribute("d").count("M") == count
            assert bool(page.locator(".map .solutionCurve").get_attribute("d")) == (name == "product")
            assert bool(page.locator(".map .singularCurve").get_attribute("d")) == (name in ("folds", "bumpyValley"))


def test_the_first_view_comes_back(site):
    with opened(site) as page:
        before = shown(page)
        page.focus("[name=mu]")
        page.keyboard.press("Home")
        page.focus(".start")
        page.keyboard.press("ArrowDown")
        assert shown(page) != before
        page.get_by_role("button", name="Start again").click()
        assert shown(page) == before


def test_a_start_that_is_a_solution_is_drawn(site):
    """Its loss is 0, which has no logarithm and by which nothing can be divided."""
    with opened(site) as page:
        page.focus(".start")
        for key in ["ArrowLeft"] * 8 + ["ArrowDown"] * 2:
            page.keyboard.press(key)
        seen = shown(page)
        assert "(2.00, 0.50)" in seen["start"] and "After 100 steps it is 0" in seen["words"]
        assert "NaN" not in str(seen) and "Infinity" not in str(seen)


def test_nothing_moves_by_itself(site):
    with opened(site, reduced_motion="reduce") as page:
        page.check("[value=folds]")
        assert page.evaluate("document.querySelector('.explorable').getAnimations({subtree: true}).length") == 0


def test_steps_that_are_too_long_are_shown_to_diverge(site):
    with opened(site) as page:
        page.check("[value=wells]")
        page.focus("[name=multiple]")
        page.keyboard.press("End")
        page.focus(".start")
        for _ in range(5):
            page.keyboard.press("Shift+ArrowLeft")
        assert "Step size allowed: no" in shown(page)["words"]
        assert "NaN" not in shown(page)["path"] + shown(page)["fall"]


def test_every_control_has_a_name_and_the_colors_are_those_of_the_house(page):
    names = page.evaluate("""() => [...document.querySelectorAll(".explorable input, .explorable button")]
        .map(control => control.ariaLabel ?? (control.closest("label") ?? control).innerText.trim())""")
    assert len(names) == 10 and all(names)
    colors = {"measured": style.MEASURED, "theory": style.THEORY, "pl-region": style.PL_REGION,
              "singular": style.SINGULAR, "solutions": style.SOLUTIONS, "faint": style.FAINT}
    root = "getComputedStyle(document.querySelector('.explorable'))"
    assert {name: page.evaluate(f"{root}.getPropertyValue('--{name}').trim()") for name in colors} == colors
    dashes = page.evaluate("""() => ["theorem", "flow", "guarantee", "singularCurve", "measured", "track", "solutionCurve"]
        .map(name => getComputedStyle(document.querySelector(`.explorable .${name}`)).strokeDasharray !== "none")""")
    assert dashes == [True] * 3 + [False] * 4


def test_it_follows_the_theme(page):
    color = "() => getComputedStyle(document.querySelector('.measured')).stroke"
    light = page.evaluate(color)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert page.evaluate(color) != light
    page.evaluate("document.documentElement.dataset.theme = 'light'")


@pytest.mark.parametrize("width, scheme", VIEWS)
def test_without_scripts_there_is_a_picture(site, width, scheme):
    with opened(site, width, scheme, java_script_enabled=False) as page:
        picture = page.locator(".explorable img")
        assert picture.is_visible() and len(picture.get_attribute("alt")) > 100
        assert 0.5 * width > 150 and picture.bounding_box()["width"] <= width
        assert page.locator(".explorable figcaption").is_visible() and not page.locator(".start").count()


def test_with_scripts_the_picture_is_not_loaded(site):
    files = site.look(PAGE, 375, "light").files
    assert "_static/explorables/landscape.js" in files and "_static/explorables/landscape.png" not in files
    assert site.weight([name for name in files if "explorables" in name]) < 40_000


def test_the_picture_is_the_first_view(page):
    first = page.evaluate("Landscape.SYSTEMS.product.initial")
    assert first == {
        "start": list(refresh.EXPLORABLE_START), "mu": pytest.approx(refresh.EXPLORABLE_MU),
        "radius": refresh.EXPLORABLE_RADIUS, "multiple": 1, "epsilon": 0,
    }
