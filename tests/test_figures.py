import importlib
import math
import re
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from helpers import randn
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.path import Path

import plbook as pl
from plbook import figures
from plbook.figures import style

# The modules; a function of the same name hides the first.
landscape = importlib.import_module("plbook.figures.landscape")
relaxation = importlib.import_module("plbook.figures.relaxation")

SYSTEM = pl.toys.product()
RUN = pl.gradient_descent(SYSTEM, step_size=0.05, max_steps=40, record_every=5)
X = np.array([1.0, 10.0, 100.0])
STEPS = np.arange(11)
LABELS = torch.tensor([3, 1, 3, 1, 2])
WIDTHS = [16, 64, 256]
DRAWS = np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0], [3.0, 4.0, 9.0]])
CERTIFICATES = [SimpleNamespace(holds=True, radius=0.5), SimpleNamespace(holds=False, radius=math.nan)]
ASKED = {"ours": 0.5, "theirs": 0.005}
REPORT = pl.diagnose(torch.nn.Linear(4, 1), randn(3, 4), randn(3))
KERNEL = pl.tangent_kernel(pl.toys.linear(randn(5, 6), torch.zeros(5)))
BRACKETS = [pl.UniformConditioning(R, low, high, torch.zeros(1), "verified") for R, low, high in [(0.1, 1.8, 2.0), (1.0, 0.0, 1.0)]]
GUARANTEES = {"first": ([0.1, 0.4, 1.0], [1.5, 0.1, 0.0]), "second": ([0.1, 2.0], [1.8, 0.5])}
STALLED = 0.5 + 2.0 ** -np.arange(40.0)
PROMISED = [(2, 1.2), (10, 0.8), (1000, 0.51)]
OUTCOMES = [["slow", "converged", "diverged"], ["converged", "diverged", "diverged"]]
CURVE = pl.pl_star_curve(pl.toys.square(-1.0), [[2.0], [1.0], [0.0]])

FIGURES = {
    "descent": lambda: figures.descent(RUN, mu=0.5, linearized=pl.linearized_losses(SYSTEM, RUN.step_size, RUN.steps)),
    "segment": lambda: figures.segment(torch.linspace(0, 1, 21), torch.linspace(-1, 1, 21) ** 2),
    "eigenvalues_along_path": lambda: figures.eigenvalues_along_path([0, 5, 10], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]),
    "ratios": lambda: figures.ratios([1.0, 2.0], [1.5, 4.0]),
    "exponents": lambda: figures.exponents(X, {"a": 3 * X**2, "b": X**-1.0}, slopes={"a": 2, "b": -0.5}, xlabel="x", ylabel="y"),
    "against_bound": lambda: figures.against_bound(X, X / 2, X, xlabel="x", ylabel="y", log="xy"),
    "rates": lambda: figures.rates(STEPS, 2 * 0.9**STEPS, {"above": 0.95**STEPS, "below": 0.85**STEPS}),
    "compared": lambda: figures.compared(X, {"one": X / 2, "two": 3.0}, {"law": X, "_also": 2 * X}, xlabel="x", ylabel="y", log="xy", at={"one": (1.0, -12)}, mark=("here", 10.0), xticks=[1, 10]),
    "kernel_image": lambda: figures.kernel_image(KERNEL, LABELS),
    "kernels": lambda: figures.kernels([KERNEL, 2 * KERNEL], ["one", "two"], columns=2),
    "against_width": lambda: figures.against_width(WIDTHS, {"one": DRAWS, "two": 2 * DRAWS}, ylabel="y", laws={"one": 3 * X}, level=("level", 5.0)),
    "against_angle": lambda: figures.against_angle(X, {"one": X / 2}, {"one": X / 3}, {"one": X / 100}),
    "brackets": lambda: figures.brackets(BRACKETS, GUARANTEES, start=2.0),
    "bottlenecks": lambda: figures.bottlenecks(WIDTHS, DRAWS, DRAWS / 10),
    "shares": lambda: figures.shares([2, 3, 5], {"one": [0.9, 0.7, 0.4], "two": [1.0, 1.0, 0.9]}, {"promise": 0.95, "limit": 0.8}),
    "certified_balls": lambda: figures.certified_balls(SYSTEM, [(2.0, 1.0), (0.5, -1.0)], CERTIFICATES),
    "widths_needed": lambda: figures.widths_needed([100, 1600], [[4.0, 1.0], [2.0, 0.5], [1.6, 0.4]], ASKED, trained=4),
    "convexity": lambda: figures.convexity(
        [pl.toys.wells(), pl.toys.valley()], ["wells", "valley"], extents=[((-2, 2), (-1, 2))] * 2, minima=[[(-1, 0.5)], []]
    ),
    "profiles": lambda: figures.profiles(X, {"one": X / 2, "two": -X}, {"law": X[:2]}, xlabel="x", ylabel="y"),
    "diagnosis": lambda: figures.diagnosis(REPORT),
    "valley": lambda: figures.valley(pl.toys.bumpy_valley(), epsilon=0.4),
    "solution_balls": lambda: figures.solution_balls(SYSTEM, [((2.0, 1.0), 0.5)], mu=2.0, singular_points=[(0.0, 0.0)]),
    "domain": lambda: figures.domain(pl.toys.folds(), mu=0.2),
    "stall": lambda: figures.stall(STALLED, PROMISED, floor=0.5),
    "thresholds": lambda: figures.thresholds({"one": CURVE}, markers=[(0.5, "floor")]),
    "stragglers": lambda: figures.stragglers([1.0, 0.6, 0.2, 0.0], [2.0, 1.0, 0.5, 0.25]),
    "radii_around": lambda: figures.radii_around(SYSTEM, {"one": 0.3, "two": 0.6}, mu=1.0, extent=((1, 3), (0, 2)), trajectory=RUN),
    "radii_needed": lambda: figures.radii_needed(X, {"one": X + 1, "two": X / 2}, ylim=(0, 50)),
    "phases": lambda: figures.phases(
        [1, 2], [0.5, 1.0, 2.0], OUTCOMES, [[900, 50, 7], [400, 9, 9]], limits={"law": [0.7, 1.4], "other": [math.nan, 0.5]}, xlabel="step size"
    ),
    "landscape": lambda: figures.landscape(SYSTEM, mu=2.0, singular_points=[(0.0, 0.0)], trajectories=[RUN]),
}


def lines(figure, color):
    """The (x, y) of the lines in a color, in the order in which they were drawn."""
    return [np.asarray(line.get_xydata()).T for line in figure.axes[0].lines if to_hex(line.get_color()).upper() == color]


def close(a, b):
    return np.allclose(np.asarray(a), np.asarray(b), rtol=1e-12, atol=0)


def test_every_figure_is_tested_here():
    assert set(figures.__all__) == FIGURES.keys()


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_opaque_labelled_and_closed(name, tmp_path):
    before, settings = set(plt.get_fignums()), dict(plt.rcParams)
    figure = FIGURES[name]()
    assert isinstance(figure, Figure) and set(plt.get_fignums()) == before
    assert dict(plt.rcParams) == settings
    axes = figure.axes[0]
    assert axes.get_xlabel() and axes.get_ylabel()
    assert figure.get_facecolor() == axes.get_facecolor() == (1, 1, 1, 1)
    figure.savefig(tmp_path / "figure.png")
    corner = plt.imread(tmp_path / "figure.png")[0, 0]
    assert corner.tolist() == [1, 1, 1, 1]


def test_a_figure_that_fails_is_refused_before_it_is_drawn():
    with pytest.raises(ValueError, match="two unknowns, got 3"):
        figures.landscape(pl.toys.chain(), mu=1.0)
    assert not plt.get_fignums()


def test_descent_draws_losses_guarantee_and_linearization():
    linearized = pl.linearized_losses(SYSTEM, RUN.step_size, RUN.steps)
    figure = figures.descent(RUN, mu=0.5, linearized=linearized)
    steps = np.arange(41)
    ((x, losses),) = lines(figure, style.MEASURED)
    (_, guarantee), (_, prediction) = lines(figure, style.THEORY)
    assert close(x, steps) and close(losses, RUN.losses / RUN.losses[0])
    assert close(guarantee, (1 - 0.05 * 0.5) ** steps)
    assert close(prediction, linearized / linearized[0])
    assert figure.axes[0].get_yscale() == "log"
    assert len(lines(figures.descent(RUN, mu=0.5), style.THEORY)) == 1


def test_segment_draws_the_losses_and_their_chord():
    positions = torch.linspace(0, 1, 5)
    losses = torch.tensor([1.0, 4.0, 9.0, 2.0, 0.5])
    figure = figures.segment(positions, losses)
    assert close(lines(figure, style.MEASURED)[0], [positions, losses])
    assert close(lines(figure, style.THEORY)[0], [[0, 1], [1, 0.5]])


def test_exponents_draw_lines_of_the_predicted_slope_through_the_first_point():
    figure = FIGURES["exponents"]()
    measured = [lines(figure, color)[0][1] for color in style.SERIES[:2]]
    assert close(measured, [3 * X**2, 1 / X])
    for values, (x, predicted), slope in zip(measured, lines(figure, style.THEORY), (2, -0.5)):
        assert predicted[0] == pytest.approx(values[0])
        assert np.diff(np.log(predicted)) / np.diff(np.log(x)) == pytest.approx(slope)


def test_against_bound_draws_both_and_spreads_a_single_number():
    figure = FIGURES["against_bound"]()
    assert close(lines(figure, style.MEASURED)[0], [X, X / 2]) and close(lines(figure, style.THEORY)[0], [X, X])
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"
    flat = figures.against_bound(X, X / 2, 7.0, xlabel="x", ylabel="y")
    assert close(lines(flat, style.THEORY)[0], [X, [7, 7, 7]]) and flat.axes[0].get_xscale() == "linear"


def test_compared_draws_measurements_solid_and_theory_dashed():
    figure = FIGURES["compared"]()
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert close(lines(figure, style.MEASURED)[0], [X, X / 2])
    assert close(lines(figure, style.SERIES[1].upper())[0], [X, [3, 3, 3]])
    assert [y.tolist() for _, y in lines(figure, style.THEORY)] == [X.tolist(), (2 * X).tolist()]
    assert [line.get_linestyle() for line in axes.lines[:4]] == ["-", "-", "--", "--"]
    texts = {text.get_text(): text.xy[0] for text in axes.texts}
    assert texts == {"one": 100.0, "two": 10.0, "law": 10.0, "here": 10.0}
    assert list(axes.get_xticks()) == [1, 10]


def test_eigenvalues_and_ratios_are_drawn_as_given():
    path = FIGURES["eigenvalues_along_path"]()
    assert close(lines(path, style.MEASURED)[0][1], [4, 5, 6]) and close(lines(path, style.SERIES[1])[0][1], [1, 2, 3])
    scatter = FIGURES["ratios"]()
    assert close(lines(scatter, style.MEASURED)[0], [[1, 2], [1.5, 4]])
    x, y = lines(scatter, style.THEORY)[0]
    assert close(x, y) and x[0] < 1 and x[-1] > 2


def test_rates_draw_the_relative_loss_and_each_law():
    lines = FIGURES["rates"]().axes[0].lines
    assert [line.get_linestyle() for line in lines] == ["--", "--", "-"]
    for line, factor in zip(lines, (0.95, 0.85, 0.9)):
        assert line.get_ydata() == pytest.approx(factor**STEPS)


def test_kernel_image_sorts_inputs_by_label():
    image = FIGURES["kernel_image"]().axes[0].images[0]
    order = [1, 3, 4, 0, 2]
    assert close(image.get_array(), KERNEL[order][:, order])
    assert image.get_clim() == (-KERNEL.abs().max(), KERNEL.abs().max())


def test_kernels_share_one_scale():
    images = [axes.images[0] for axes in FIGURES["kernels"]().axes[:2]]
    assert close(images[0].get_array(), KERNEL) and close(images[1].get_array(), 2 * KERNEL)
    assert images[0].get_clim() == images[1].get_clim() == (-2 * KERNEL.abs().max(), 2 * KERNEL.abs().max())


def test_against_width_draws_dots_medians_laws_and_the_level():
    figure = FIGURES["against_width"]()
    one, two = lines(figure, style.SERIES[0]), lines(figure, style.SERIES[1])
    assert [close(dots, [WIDTHS, row]) for dots, row in zip(one, DRAWS)] == [True] * 3
    assert close(one[3], [WIDTHS, [2, 3, 4]]) and close(two[3], [WIDTHS, [4, 6, 8]])
    law, level = lines(figure, style.THEORY)
    assert close(law, [WIDTHS, 3 * X]) and close(level[1], [5, 5])
    assert len(lines(figures.against_width(WIDTHS, {"one": DRAWS}, ylabel="y"), style.THEORY)) == 0
    assert figure.axes[0].get_xlabel() == "width $m$"
    other = figures.against_width(WIDTHS, {"one": DRAWS}, xlabel="condition number", ylabel="y")
    assert other.axes[0].get_xlabel() == "condition number"
    named = figures.against_width(WIDTHS, {"one": DRAWS}, ylabel="y", laws={"one": X, "promise": np.array([1.0, 2.0, np.nan])})
    texts = {text.get_text(): text.xy for text in named.axes[0].texts}
    assert texts.keys() == {"one", "promise"} and texts["promise"] == (WIDTHS[1], 2.0)
    short = figures.against_width(WIDTHS, {"one": [[1.0, 2.0, np.nan]]}, ylabel="y")
    assert [text.xy for text in short.axes[0].texts] == [(WIDTHS[1], 2.0)]


@pytest.mark.parametrize("low, high", [(0.72, 1.0), (0.13, 0.9), (1.0, 20.0)])
def test_an_axis_with_few_powers_of_ten_has_three_labels_of_plain_numbers(low, high):
    axes = figures.against_width(WIDTHS, {"one": np.geomspace(low, high, 9).reshape(3, 3)}, ylabel="y").axes[0]
    low, high = axes.get_ylim()
    labels = [text.get_text() for text in axes.get_yticklabels() if low <= text.get_position()[1] <= high]
    assert len(labels) >= 3 and all(re.fullmatch(r"[0-9.]+", text) for text in labels)


def test_against_angle_draws_the_limit_and_the_bars():
    figure = FIGURES["against_angle"]()
    assert close(lines(figure, style.THEORY)[0], [X, X / 2])
    assert close(lines(figure, style.SERIES[0])[0], [X, X / 3])
    (bars,) = figure.axes[0].collections
    assert close([segment[:, 1] for segment in bars.get_segments()], np.stack([X / 3 - X / 100, X / 3 + X / 100], 1))


def test_brackets_are_drawn_as_multiples_of_the_start():
    figure = FIGURES["brackets"]()
    assert close(lines(figure, style.MEASURED)[0], [[0.1, 1.0], [1.0, 0.5]])
    lower, first, second = lines(figure, style.THEORY)
    assert close(lower, [[0.1, 1.0], [0.9, 0.0]])
    assert close(first, [[0.1, 0.4, 1.0], [0.75, 0.05, 0.0]]) and close(second, [[0.1, 2.0], [0.9, 0.25]])
    styles = [line.get_linestyle() for line in figure.axes[0].lines]
    assert styles == ["-", "None", "--", "--"]


def test_bottlenecks_draw_dots_medians_and_the_bound():
    figure = FIGURES["bottlenecks"]()
    *dots, medians = lines(figure, style.MEASURED)
    assert [close(row, [WIDTHS, values]) for row, values in zip(dots, DRAWS)] == [True] * 3
    assert close(medians, [WIDTHS, [2, 3, 4]]) and close(lines(figure, style.THEORY)[0], [WIDTHS, [0.2, 0.3, 0.4]])


def test_shares_are_drawn_beside_what_was_promised():
    figure = FIGURES["shares"]()
    assert [line.tolist() for line in lines(figure, style.SERIES[0])] == [[[2, 3, 5], [0.9, 0.7, 0.4]]]
    assert [line.tolist() for line in lines(figure, style.SERIES[1])] == [[[2, 3, 5], [1.0, 1.0, 0.9]]]
    promise, limit = lines(figure, style.THEORY)
    assert promise.tolist() == [[2, 3, 5], 3 * [0.95]] and limit.tolist() == [[2, 3, 5], 3 * [0.8]]
    assert {line.get_linestyle() for line in figure.axes[0].lines if line.get_color() == style.THEORY} == {"--"}


# Convexity


def test_convexity_shades_where_the_loss_curves_downward():
    """Around (2, 1) of the valley r sin w1 > 0, around (2, 0.5) it is < 0; the wells are convex at their minimum."""
    wells, valley = FIGURES["convexity"]().axes
    for axes, inside, outside in ((valley, (2, 0.5), (2, 1)), (wells, (0, 0.5), (-1, 0.5))):
        shaded = [path for path in axes.collections[0].get_paths()]
        assert any(path.contains_point(inside) for path in shaded) and not any(path.contains_point(outside) for path in shaded)
    # The curve of solutions is the sine, to within half a cell of the grid.
    x, y = np.concatenate([path.vertices for path in valley.collections[-1].get_paths()]).T
    assert len(x) > 100 and np.abs(y - np.sin(x)).max() < 0.02
    (minimum,) = wells.lines
    assert minimum.get_xydata().tolist() == [[-1, 0.5]] and not valley.lines
    with pytest.raises(ValueError, match="two unknowns, got 3"):
        figures.convexity([pl.toys.chain()], ["chain"], extents=[((0, 1), (0, 1))], minima=[[]])


def test_profiles_draw_curves_and_predictions_of_a_part():
    figure = FIGURES["profiles"]()
    assert close(lines(figure, style.SERIES[0])[0], [X, X / 2]) and close(lines(figure, style.SERIES[1])[0], [X, -X])
    assert close(lines(figure, style.THEORY)[0], [X[:2], X[:2]])
    assert [line.get_linestyle() for line in figure.axes[0].lines[1:]] == ["-", "-", "--"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["one", "two", "law"]
    same = figures.profiles(X, {"one": X}, {"one": X}, xlabel="x", ylabel="y")
    assert [text.get_text() for text in same.axes[0].texts] == ["one"]


# Radii


def test_radii_are_circles_around_the_start_with_their_names():
    axes = FIGURES["radii_around"]().axes[0]
    assert [(circle.center[0], circle.center[1], circle.radius) for circle in axes.patches] == [(2, 1, 0.3), (2, 1, 0.6)]
    assert {text.get_text(): text.xy for text in axes.texts} == {"one": (2, 1.3), "two": (2, 1.6)}


def test_a_radius_needed_is_drawn_beside_the_radius_that_there_is():
    figure = FIGURES["radii_needed"]()
    assert close(lines(figure, style.NOTE)[0], [X, X])
    assert close(lines(figure, style.THEORY)[0], [X, X + 1]) and close(lines(figure, style.THEORY)[1], [X, X / 2])
    (shaded,) = figure.axes[0].collections
    (outline,) = shaded.get_paths()
    assert outline.contains_point((5, 4)) and not outline.contains_point((5, 6))


# Certificates


def test_certified_balls_are_drawn_around_their_points_and_the_rest_crossed_out():
    figure = FIGURES["certified_balls"]()
    axes = figure.axes[0]
    (disc,) = axes.patches
    assert disc.center == (2.0, 1.0) and disc.radius == 0.5
    assert lines(figure, style.THEORY)[0].T.tolist() == [[2.0, 1.0]]
    assert lines(figure, style.NOTE)[0].T.tolist() == [[0.5, -1.0]]
    # The curve of solutions is the hyperbola w1 w2 = 1, to within half a cell of the grid.
    curve = np.concatenate([path.vertices for path in axes.collections[0].get_paths()])
    assert len(curve) > 100 and np.abs(curve.prod(axis=1) - 1).max() < 0.02
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["solutions, F(w) = y", "certified ball", "no certificate"]
    all_hold = figures.certified_balls(SYSTEM, [(2.0, 1.0)], CERTIFICATES[:1])
    assert [text.get_text() for text in all_hold.legends[0].get_texts()] == legend[:2]
    with pytest.raises(ValueError, match="one equation in two unknowns, got 2 in 3"):
        figures.certified_balls(pl.toys.chain(), [(0.0, 0.0, 0.0)], CERTIFICATES[:1])


def test_widths_needed_extrapolates_the_last_median_to_each_threshold():
    """Medians 2 and 0.5 at the widths 100 and 1600; with slope -1/2, 0.5 is met at 1600 and 0.005 at 1600 * 100^2."""
    figure = FIGURES["widths_needed"]()
    *networks, medians, (trained, _) = lines(figure, style.MEASURED)
    assert [row[1].tolist() for row in networks] == [[4.0, 1.0], [2.0, 0.5], [1.6, 0.4]]
    assert close(medians, [[100, 1600], [2.0, 0.5]])
    law, *levels = lines(figure, style.THEORY)
    assert close(law, [[1600, 1.6e7], [0.5, 0.005]])
    assert close(levels[0], [[4, 1600], [0.5, 0.5]]) and close(levels[1].ravel(), [1600, 0.5])
    assert close(levels[2], [[4, 1.6e7], [0.005, 0.005]]) and close(levels[3].ravel(), [1.6e7, 0.005])
    assert trained.tolist() == [4, 4]


def test_a_diagnosis_shows_the_spectrum_the_pl_ratio_and_the_step_size():
    figure = FIGURES["diagnosis"]()
    (eigenvalues,) = lines(figure, style.MEASURED)
    assert close(eigenvalues, [[1, 2, 3], REPORT.eigenvalues.flip(0)])
    (ratio,), (step,) = lines(figure, style.SERIES[1]), lines(figure, style.THEORY)
    assert close(ratio[1], REPORT.pl_ratio) and close(step[1], 1 / REPORT.step_size)
    assert figure.axes[0].get_yscale() == "log" and not figure.axes[0].patches


def test_a_diagnosis_shades_the_error_bar_over_eigenvalues_that_are_not_resolved():
    inputs, targets = randn(3, 4), randn(3)
    report = pl.diagnose(torch.nn.Linear(4, 1), torch.cat([inputs, inputs[:1]]), torch.cat([targets, targets[:1]]))
    figure = figures.diagnosis(report)
    assert close(lines(figure, style.MEASURED)[0], [[1, 2, 3], report.eigenvalues.flip(0)[:3]])
    (bar,) = figure.axes[0].patches
    assert bar.get_height() == report.spectrum.error
    assert "1 not told from 0" in [text.get_text() for text in figure.axes[0].texts]


def test_a_diagnosis_of_a_network_that_does_not_react():
    module = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        module[0].bias.fill_(-1e3)
    figure = figures.diagnosis(pl.diagnose(module, randn(3, 4), randn(3)))
    assert [text.get_text() for text in figure.axes[0].texts] == ["3 not told from 0"]


# The figures of chapter 10


def test_the_valley_is_the_loss_with_its_local_minima():
    figure = figures.valley(pl.toys.bumpy_valley(), highest=1.5)
    axes = figure.axes[0]
    (minima,) = axes.lines
    x, y, z = (np.asarray(part) for part in minima.get_data_3d())
    assert len(x) == 4
    for a, b, c in zip(x, y, z):
        assert pl.toys.bumpy_valley().loss([a, b]).item() == pytest.approx(c)
        # A local minimum lies where cos(5 w1) is near -1, on the bottom, to within the cells of the grid.
        assert math.cos(5 * a) < -0.95 and abs(b - a * a / 4) < 0.05
    assert axes.get_zlim() == (0, 1.5)
    legend = [text.get_text() for text in FIGURES["valley"]().legends[0].get_texts()]
    assert legend == ["local minima", "$L \\geq 0.4$", "$L < 0.4$"] and len(figure.legends[0].get_texts()) == 1
    with pytest.raises(ValueError, match="two unknowns, got 3"):
        figures.valley(pl.toys.chain())


def test_a_local_minimum_of_a_grid_is_below_all_eight_neighbors():
    values = np.array([[9.0, 9, 9, 9], [9, 2, 3, 9], [9, 3, 1, 9], [9, 9, 9, 0]])
    assert not relaxation._below_neighbors(values).any(), "2 and 1 are neighbors, and below 1 is the 0 of the border"
    values[3, 3] = 9
    assert np.argwhere(relaxation._below_neighbors(values)).tolist() == [[2, 2]]


def test_the_gray_part_of_the_valley_is_below_epsilon():
    surface = FIGURES["valley"]().axes[0].collections[0]
    share = (surface._facecolor3d[:, :3] == to_rgba(relaxation.BOTTOM)[:3]).all(axis=1).mean()
    x, y, points = relaxation._grid(((-3.0, 3.0), (-0.8, 3.6)), relaxation.SURFACE)
    losses = torch.func.vmap(pl.toys.bumpy_valley().loss)(points)
    expected = ((losses < 0.4).sum() / (losses <= 2.0).sum()).item()
    assert share == pytest.approx(expected, abs=0.01) and 0.1 < share < 0.6


def test_balls_are_drawn_where_they_are():
    figure = FIGURES["solution_balls"]()
    (ball,) = figure.axes[0].patches
    assert ball.center == (2.0, 1.0) and ball.radius == 0.5
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["PL* holds with μ = 2", "solutions, F(w) = y", "singular points", "ball of Theorem 6"]
    other = figures.solution_balls(SYSTEM, [((2.0, 1.0), 0.5)], mu=2.0, name="another ball")
    assert other.legends[0].get_texts()[-1].get_text() == "another ball"


def test_the_domain_is_where_the_kernel_is_conditioned_and_the_curves_where_it_is_singular():
    system = pl.toys.folds()
    axes = FIGURES["domain"]().axes[0]
    shaded, singular = axes.collections
    outlines = shaded.get_paths()[0].to_polygons()
    for w in 6 * torch.rand(200, 2, generator=torch.Generator().manual_seed(0)).double() - 3:
        smallest = pl.kernel_spectrum(system, w).smallest
        if not 0.6 < smallest / 0.2 < 1.6:
            inside = sum(Path(outline).contains_point(w.tolist()) for outline in outlines) % 2 == 1
            assert inside == (smallest >= 0.2)
    vertices = np.concatenate([path.vertices for path in singular.get_paths()])
    determinants = [torch.linalg.det(system.jacobian(w)).abs().item() for w in torch.as_tensor(vertices)]
    assert len(vertices) > 100 and max(determinants) < 0.02
    with pytest.raises(ValueError, match="two equations"):
        figures.domain(SYSTEM, mu=1.0)


def test_a_stall_draws_the_run_and_what_is_promised_within_it():
    figure = FIGURES["stall"]()
    assert close(lines(figure, style.MEASURED)[0], [np.arange(40), STALLED])
    assert close(lines(figure, style.THEORY)[0].T, PROMISED[:2])
    assert lines(figure, style.THEORY)[1][1].tolist() == [0.5, 0.5]
    assert len(lines(figures.stall(STALLED, PROMISED), style.THEORY)) == 1


def test_thresholds_draw_the_constants_that_are_positive():
    figure = FIGURES["thresholds"]()
    assert close(lines(figure, style.SERIES[0])[0], [[2.0, 12.5], [4.0, 16.0]])
    assert lines(figure, style.THEORY)[0][0].tolist() == [0.5, 0.5]
    name = figure.axes[0].texts[0]
    assert (name.get_text(), name.xy, name.get_ha()) == ("one", (2.0, 4.0), "right")
    moved = figures.thresholds({"one": CURVE}, offsets={"one": (8, -8)})
    assert moved.axes[0].texts[0].get_ha() == "left"


def test_stragglers_draw_shares_and_a_bound_of_at_most_one():
    figure = FIGURES["stragglers"]()
    assert lines(figure, style.MEASURED)[0][1].tolist() == [1.0, 0.6, 0.2, 0.0]
    assert lines(figure, style.THEORY)[0][1].tolist() == [1.0, 1.0, 0.5, 0.25]


def test_phases_draw_each_run_once_and_the_limits_row_by_row():
    axes = FIGURES["phases"]().axes[0]
    fields = {to_hex(patch.get_facecolor()).upper(): patch for patch in axes.patches}
    assert len(axes.patches) == 3 and fields.keys() == {style.MEASURED, style.FAINT}
    slow = fields[style.FAINT].get_bbox()
    assert close([slow.x0, slow.x1, slow.y0, slow.y1], [0.5 / 2**0.5, 0.5 * 2**0.5, -0.5, 0.5])
    fast, slower = (patch for patch in axes.patches if to_hex(patch.get_facecolor()).upper() == style.MEASURED)
    assert fast.get_alpha() == 1 > slower.get_alpha() > 0.3, "50 steps and 400"
    crosses = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "x"]
    assert crosses == [[[2.0, 0.0]], [[1.0, 1.0]], [[2.0, 1.0]]]
    laws = [line for line in axes.lines if to_hex(line.get_color()).upper() == style.THEORY]
    assert [line.get_linestyle() for line in laws] == ["--", "--"]
    assert laws[0].get_xydata().tolist() == [[0.7, -0.5], [0.7, 0.5], [1.4, 0.5], [1.4, 1.5]]
    assert laws[1].get_xydata().tolist() == [[0.5, 0.5], [0.5, 1.5]]


# The landscape


def test_the_landscape_has_as_many_contours_as_asked_for():
    shown = [figures.landscape(SYSTEM, mu=2.0, num_contours=number).axes[0].collections[1].levels for number in (3, 9)]
    assert [len(levels) for levels in shown] == [3, 9]


@pytest.mark.parametrize("build", [pl.toys.product, pl.toys.cubic, lambda: pl.toys.quadratics(2, 2)])
def test_the_landscape_is_computed_as_pl_ratio_and_loss(build):
    system = build()
    x, y, losses, ratios, residuals = landscape._on_grid(system, ((-3.0, 3.0), (-2.0, 2.0)))
    for i, j in torch.randint(landscape.GRID, (50, 2), generator=torch.Generator().manual_seed(0)).tolist():
        w = torch.stack([x[j], y[i]])
        assert losses[i, j].item() == pytest.approx(system.loss(w).item(), rel=1e-12)
        assert residuals[i, j].item() == pytest.approx(system.residual(w)[0].item(), rel=1e-12)
        assert ratios[i, j].item() == pytest.approx(pl.pl_ratio(system, w), rel=1e-10)


@pytest.mark.parametrize("build, mu", [(pl.toys.product, 2.0), (pl.toys.cubic, 1.0), (lambda: pl.toys.quadratics(2, 2), 3.0)])
def test_the_shaded_region_is_where_pl_star_holds(build, mu):
    system = build()
    outlines = figures.landscape(system, mu=mu).axes[0].collections[0].get_paths()[0].to_polygons()
    # Off the boundary by more than what a cell of the grid may move it.
    points = [w for w in 6 * torch.rand(300, 2, generator=torch.Generator().manual_seed(0)).double() - 3
              if not 0.85 < pl.pl_ratio(system, w) / mu < 1.15]
    # Inside an odd number of outlines: a hole has an outline, too.
    inside = [sum(Path(outline).contains_point(w.tolist()) for outline in outlines) % 2 == 1 for w in points]
    assert inside == [pl.pl_ratio(system, w) >= mu for w in points]
    assert True in inside and False in inside


def test_a_solution_on_the_grid_counts_as_shaded():
    x = torch.linspace(-3.0, 3.0, landscape.GRID, dtype=torch.float64)
    target = (x[7] * x[9]).item()
    ratios = landscape._on_grid(pl.toys.product(target), ((-3.0, 3.0), (-3.0, 3.0)))[3]
    assert ratios[9, 7] > 1e10 and math.isfinite(ratios.max())


def test_the_landscape_marks_runs_and_singular_points():
    figure = FIGURES["landscape"]()
    path, start = lines(figure, style.MEASURED)
    assert close(path, RUN.points.T) and close(start[:, 0], [2, 1])
    assert lines(figure, style.SINGULAR)[0].T.tolist() == [[0, 0]]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["PL* holds with μ = 2", "solutions, F(w) = y", "singular points", "gradient descent"]
    bare = figures.landscape(pl.toys.quadratics(2, 2), mu=2.0)
    assert [text.get_text() for text in bare.legends[0].get_texts()] == ["PL* holds with μ = 2"]
