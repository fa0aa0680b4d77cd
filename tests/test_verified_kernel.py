"""Bounds for certificates against 50 digits, against closed forms, and where no solution exists."""

import functools
import importlib
import math
from fractions import Fraction

import mpmath
import near_duplicates
import numpy as np
import pytest
import torch
from exact_functions import MATRIX, objects, outside
from helpers import EXAMPLES, network, randn
from torch import nn

import plbook as pl
from plbook.verified import kernel_bounds, kernel_enclosure
from plbook.verified.rounding import SLACK

kernel = importlib.import_module("plbook.verified.kernel")
CASES, CHUNK = 30, 10


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


# Networks, against their exact kernels


@functools.cache
def case(seed):
    """(case, bounds, exact lambda_min, exact lambda_max): a small network with near-duplicate inputs, some equal."""
    drawn = near_duplicates.draw_case(seed)
    return drawn, kernel_bounds(drawn.system()), *near_duplicates.exact_ends(drawn)


def exact_residual_norm(drawn):
    """With targets 0."""
    with mpmath.workdps(near_duplicates.DIGITS):
        layers = near_duplicates.exact_layers(drawn)
        values = [near_duplicates.forward(layers, x)[0] for x in near_duplicates.exact(drawn.inputs.tolist())]
        return mpmath.norm([entry for row in values for entry in row])


@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
def test_the_bounds_hold_for_networks(first):
    for seed in range(first, first + CHUNK):
        drawn, bounds, smallest, largest = case(seed)
        assert bounds.rigour == ("verified linear algebra" if drawn.activation == "relu" else "verified")
        if drawn.activation == "relu":
            assert "aten.threshold_backward.default is not enclosed" in bounds.reason
            continue
        with mpmath.workdps(near_duplicates.DIGITS):
            residual = exact_residual_norm(drawn)
            assert bounds.reason == "" and bounds.smallest_eigenvalue <= smallest
            assert mpmath.mpf(bounds.jacobian_norm) ** 2 >= largest
            assert bounds.residual_norm >= residual
            # And they are close: sigma_min to some 1e-12 of sigma_max.
            assert mpmath.sqrt(smallest) - mpmath.sqrt(bounds.smallest_eigenvalue) <= 1e-11 * mpmath.sqrt(largest)
            assert mpmath.mpf(bounds.jacobian_norm) ** 2 <= largest * (1 + 1e-11)
            if "softplus" != drawn.activation:
                assert bounds.residual_norm <= residual * (1 + 1e-11) + 1e-12


def test_the_cases_are_hard():
    ratios = [float(smallest / largest) for _, _, smallest, largest in map(case, range(CASES))]
    assert sum(0 < ratio < 1e-11 for ratio in ratios) >= 10 and sum(ratio == 0 for ratio in ratios) >= 2
    positive = [bounds.smallest_eigenvalue > 0 for _, bounds, _, _ in map(case, range(CASES))]
    # Down to 1e-16 of lambda_max, where the eigenvalues of K say nothing.
    assert all(found for found, ratio in zip(positive, ratios) if ratio > 1e-18)
    assert not any(found for found, ratio in zip(positive, ratios) if ratio == 0)


def test_the_kernel_itself_is_enclosed():
    for seed in range(15):
        drawn = near_duplicates.draw_case(seed)
        system = drawn.system()
        if drawn.activation != "relu" and system.num_equations <= 10:
            with mpmath.workdps(near_duplicates.DIGITS):
                inputs = near_duplicates.exact(drawn.inputs.tolist())
                truth = near_duplicates.exact_kernel(near_duplicates.exact_layers(drawn), inputs)
            enclosure = kernel_enclosure(system)
            assert outside(enclosure, np.array(truth.tolist(), dtype=object)) == 0
            assert enclosure.error.max() <= 1e-11 * enclosure.value.abs().max()


# Chunks and examples


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_every_kind(name):
    system = EXAMPLES[name]()
    bounds = kernel_bounds(system)
    assert bounds.rigour == ("verified linear algebra" if name == "PReLU" else "verified")
    singular = torch.linalg.svdvals(system.jacobian(system.start))
    smallest = singular[-1].item() if system.num_equations <= system.num_parameters else 0.0
    assert math.sqrt(bounds.smallest_eigenvalue) == pytest.approx(smallest, abs=1e-11 * singular[0].item())
    assert bounds.jacobian_norm == pytest.approx(singular[0].item(), rel=1e-11)
    assert bounds.residual_norm == pytest.approx(system.residual(system.start).norm().item(), rel=1e-11)


@pytest.mark.parametrize("name", ["MLP", "convolutional", "quadratics", "one input"])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_chunks_change_nothing(name, rows, monkeypatch):
    system = EXAMPLES[name]()
    whole = kernel.residual_and_jacobian(system)
    monkeypatch.setattr(kernel, "CHUNK_BYTES", 8 * system.num_parameters * rows)
    for part, expected in zip(kernel.residual_and_jacobian(system), whole):
        torch.testing.assert_close(part.value, expected.value, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(part.error, expected.error, rtol=1e-3, atol=0)


def test_another_point_and_the_arguments_order():
    system = EXAMPLES["MLP"]()
    w = system.start + 0.1
    assert kernel_bounds(system, w) != kernel_bounds(system) and kernel_bounds(system, None) == kernel_bounds(system)
    residual, jacobian = kernel.residual_and_jacobian(system, w)
    torch.testing.assert_close(jacobian.value, system.jacobian(w))
    torch.testing.assert_close(residual.value, system.residual(w))


def test_networks_of_many_kinds_are_verified():
    block = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.SiLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 2))
    attention = nn.TransformerEncoderLayer(4, 2, 4, dropout=0.0, activation="gelu", batch_first=True)
    for module, sample in ((block.eval(), (1, 4, 4)), (attention.eval(), (3, 4))):
        system = network(lambda module=module: module, *sample, num_inputs=3)
        bounds = kernel_bounds(system)
        assert bounds.rigour == "verified" and bounds.reason == ""
        assert bounds.jacobian_norm == pytest.approx(pl.jacobian_norm(system), rel=1e-10)


# Closed forms, exactly


SCALES = [1e-8, 1e-4, 1.0, 1e4, 1e8]


@pytest.mark.parametrize("scale", SCALES)
def test_closed_forms_in_fractions(scale):
    """F(w) = |w|^2 + c: DF = 2 w, K = 4 |w|^2."""
    w, c, y = scale * randn(3), 0.1 * scale**2, -0.3
    bounds = kernel_bounds(pl.System(lambda w: (w @ w + tensor([c])), [y], w))
    square = sum(Fraction(number) ** 2 for number in w.tolist())
    residual = square + Fraction(c) - Fraction(y)
    assert Fraction(bounds.smallest_eigenvalue) <= 4 * square <= Fraction(bounds.jacobian_norm) ** 2
    assert Fraction(bounds.residual_norm) >= residual
    assert bounds.smallest_eigenvalue >= 4 * float(square) * (1 - 1e-13)
    assert bounds.residual_norm <= float(residual) * (1 + 1e-14)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [1, 4])
def test_no_system_without_a_solution_passes_the_test(scale, size):
    """F(w) = |w|^2 + c with y < c has no solution, so h = beta r0 / lambda_min >= 1/2 for beta = 2 at every w."""
    for seed in range(3):
        w = scale * randn(size, seed=seed)
        for gap in (1e-12 * scale**2, 5e-324):
            c = scale**2 * randn(1, seed=seed + 100).item()
            y = min(c - gap, math.nextafter(c, -math.inf))
            bounds = kernel_bounds(pl.System(lambda w, c=c: w @ w + tensor([c]), [y], w))
            assert bounds.rigour == "verified" and bounds.smallest_eigenvalue > 0
            assert 2 * Fraction(bounds.residual_norm) / Fraction(bounds.smallest_eigenvalue) > Fraction(1, 2)


def test_where_float64_rounds_h_to_one_half():
    """F(w) = w^2 + 1, y = 0, w = 1e9: h = (1 + 1e-18) / 2."""
    system = pl.System(lambda w: w**2 + 1, [0.0], [1e9])
    residual, jacobian = system.residual(system.start).item(), system.jacobian(system.start).item()
    assert 2 * residual / jacobian**2 == 0.5
    bounds = kernel_bounds(system)
    assert 2 * Fraction(bounds.residual_norm) / Fraction(bounds.smallest_eigenvalue) > Fraction(1, 2)


def test_a_singular_kernel_has_the_bound_zero():
    matrix = tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    for function in (
        lambda w: matrix @ w,
        lambda w: torch.stack([w.sum(), w.sum() ** 2]),
        lambda w: torch.sin(matrix @ w),
        lambda w: torch.cat([w, w]),
        lambda w: torch.stack([w[0] * w[1], (w[0] * w[1]) ** 3]),
    ):
        system = pl.System(function, torch.zeros_like(function(torch.ones(3, dtype=torch.float64))), 3 * randn(3))
        assert kernel_bounds(system).smallest_eigenvalue == 0.0
    assert kernel_bounds(pl.toys.repeated()).smallest_eigenvalue == 0.0


def test_the_errors_of_the_jacobian_count():
    """Rows that differ by less than their errors: J alone has full rank, DF has not."""

    def function(w):
        x = w @ tensor(MATRIX[0])
        return torch.stack([x, ((1 + x) ** 2 - 1 - x * x) / 2 + (x * 1e-30) * 0])

    system = pl.System(function, [0.0, 0.0], randn(4))
    assert kernel_bounds(system).smallest_eigenvalue == 0.0


def test_targets_are_exact():
    """w - y cancels all but the last digit."""
    w = 1 + 2.0**-52
    bounds = kernel_bounds(pl.System(lambda w: 1 * w, [1.0], [w]))
    assert 2.0**-52 <= bounds.residual_norm <= 2.0**-52 * SLACK


# Derivatives are those of the mathematical function


def without_gradient(w):
    with torch.no_grad():
        square = w * w
    return square * w


def in_place(w):
    out = torch.zeros(2, dtype=torch.float64)
    out[0] = w[0] ** 2
    out[1] = w[1] ** 2
    return out


@pytest.mark.parametrize(
    ("function", "slopes"),
    [
        (lambda w: w * w.detach(), [4.0, 6.0]),
        (lambda w: w * w.data, [4.0, 6.0]),
        (without_gradient, [12.0, 27.0]),
        (in_place, [4.0, 6.0]),
        (lambda w: torch.func.jacrev(lambda x: x**3)(w).sum(0), [12.0, 18.0]),
    ],
)
def test_what_code_hides_from_differentiation_is_seen(function, slopes):
    bounds = kernel_bounds(pl.System(function, [0.0, 0.0], [2.0, 3.0]))
    assert bounds.rigour == "verified"
    assert bounds.smallest_eigenvalue == pytest.approx(slopes[0] ** 2) and bounds.jacobian_norm == pytest.approx(slopes[1])


class Wrong(torch.autograd.Function):
    """The square, with a derivative that is not its own."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x**2

    @staticmethod
    def setup_context(context, inputs, output):
        pass

    @staticmethod
    def backward(context, grad):
        return 5 * grad


def test_a_derivative_of_ones_own_is_not_believed():
    bounds = kernel_bounds(pl.System(Wrong.apply, [0.0], [2.0]))
    assert bounds.rigour == "verified linear algebra" and "cannot be traced" in bounds.reason


# What is not verified says so


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda w: torch.where(w > 0, w, -w), "aten.gt.Scalar"),
        (lambda w: w.abs(), "aten.sgn.default"),
        (lambda w: w.relu(), "aten.threshold_backward.default"),
        (lambda w: w if w.sum() > 0 else -w, "cannot be traced"),
        (lambda w: w * w[0].item(), "cannot be traced"),
    ],
)
def test_what_is_not_enclosed_is_named(function, reason):
    bounds = kernel_bounds(pl.System(function, [0.0, 1.0], [2.0, 3.0]))
    assert bounds.rigour == "verified linear algebra" and reason in bounds.reason


def test_integer_inputs_are_not_enclosed():
    module = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 1))
    system = pl.NetworkSystem(module, torch.tensor([[0, 1], [2, 3], [4, 4]]), randn(3))
    bounds = kernel_bounds(system)
    assert bounds.rigour == "verified linear algebra" and "float64 tensors" in bounds.reason


def test_exact_numbers_are_those_of_the_oracle():
    """The oracle takes float64 numbers as they are."""
    assert objects(tensor([0.1]))[0] == mpmath.mpf(0.1)
