"""Near-duplicate inputs against 50 digits: kernel_spectrum is right within its bar or says "not resolved"."""

import functools
from dataclasses import replace

import mpmath
import near_duplicates
import pytest
import torch
from helpers import randn, seeded
from near_duplicates import VALUE_AND_SLOPE, Case, draw_case, exact, exact_kernel, exact_layers, faults, forward
from torch import nn
from torch.testing import assert_close

from plbook.networks import ACTIVATIONS, Divide

CASES, CHUNK = 300, 20
# All tests of a file run in one process, so that each case is measured once.
measure = functools.cache(near_duplicates.measure)


@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
def test_every_route_is_right_or_say_not_resolved(first):
    results = [measure(seed) for seed in range(first, first + CHUNK)]
    assert near_duplicates.summary(results)["failures"] == []


def test_the_cases_are_near_the_limit_of_float64():
    results = [measure(seed) for seed in range(CASES)]
    near = [result for result in results if 1e-12 <= result.ratio <= 1e-10]
    resolved = [result for result in results if result.spectra["singular values"].resolved]
    assert len(near) >= 100 and len(resolved) >= 150 and CASES - len(resolved) >= 50
    # Two parts of the range about which float64 has to find out.
    assert sum(result.ratio == 0 for result in results) >= 20
    assert sum(1e-17 < result.ratio < 1e-13 for result in results) >= 10
    # A bar that is so wide that nothing is resolved would pass the other test.
    assert sum(result.spectra["singular values"].resolved for result in near) >= 0.9 * len(near)


def test_a_kernel_formed_in_float32_is_found():
    found = 0
    for seed in range(2 * CHUNK):
        jacobian = draw_case(seed).jacobian().float()
        eigenvalues = torch.linalg.eigvalsh((jacobian @ jacobian.T).double())
        result = measure(seed)
        wrong = replace(result.spectra["eigenvalues"], smallest=eigenvalues[0].item(), largest=eigenvalues[-1].item())
        found += "smallest is outside its bar" in faults(wrong, result.smallest, result.largest)
    assert found >= 1.5 * CHUNK


def test_each_wrong_statement_is_found():
    result = next(result for seed in range(CASES) if 1e-11 < (result := measure(seed)).ratio)
    right, ends = result.spectra["eigenvalues"], (result.smallest, result.largest)
    assert faults(right, *ends) == []
    assert faults(replace(right, largest=right.largest + 2 * right.error), *ends) == ["largest is outside its bar"]
    assert faults(replace(right, smallest=0.0), *ends) == [
        "smallest is outside its bar",
        "an eigenvalue above twice the bar is called not resolved",
    ]
    assert "0 is called resolved" in faults(right, mpmath.mpf(0), result.largest)
    assert faults(replace(right, smallest=float("nan")), *ends)


# The reference itself


def tiny(activation):
    """Every kind of layer, two inputs that are almost equal, two outputs."""
    layers = [nn.Linear(2, 2), Divide(1.7), ACTIVATIONS[activation](), nn.Linear(2, 2, bias=False)]
    inputs = randn(1, 2) + 1e-6 * torch.tensor([[0.0, 0.0], [1.0, -2.0]], dtype=torch.float64)
    return Case(seeded(lambda: nn.Sequential(*layers)).double(), activation, inputs)


def derivatives(layers, x, output):
    """One row of DF by mpmath's numerical derivatives: every weight and bias is moved by itself."""
    lists = []
    for kind, content in layers:
        if kind == "linear":
            weight, bias = content
            lists += [*weight, *([] if bias is None else [bias])]

    def moved(values, k, value):
        old, values[k] = values[k], value
        try:
            return forward(layers, x)[0][output]
        finally:
            values[k] = old

    return [mpmath.diff(lambda value: moved(values, k, value), values[k]) for values in lists for k in range(len(values))]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_exact_kernel_is_that_of_numerical_derivatives(activation):
    case = tiny(activation)
    with mpmath.workdps(near_duplicates.DIGITS):
        layers, inputs = exact_layers(case), exact(case.inputs.tolist())
        kernel = exact_kernel(layers, inputs)
        rows = [derivatives(layers, x, output) for x in inputs for output in range(2)]
        # mpmath.diff is good to nearly all digits.
        assert all(abs(kernel[i, j] - mpmath.fdot(rows[i], rows[j])) < 1e-40 for i in range(4) for j in range(4))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_exact_activations_are_torchs(activation):
    x = torch.tensor([-40.0, -19.0, -2.0, -0.3, 0.0, 0.3, 2.0, 19.0, 20.5, 40.0], dtype=torch.float64, requires_grad=True)
    value = ACTIVATIONS[activation]()(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    expected = [[float(number) for number in VALUE_AND_SLOPE[activation](mpmath.mpf(point))] for point in x.tolist()]
    # Some units in the last place; without torch's threshold, softplus(20.5) is off by 1e-9.
    assert_close(torch.stack([value, slope], 1), torch.tensor(expected, dtype=torch.float64), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("first", [0, CHUNK])
def test_the_exact_network_is_torchs(first):
    for seed in range(first, first + CHUNK):
        case = draw_case(seed)
        layers = exact_layers(case)
        expected = [[float(value) for value in forward(layers, x)[0]] for x in exact(case.inputs.tolist())]
        with torch.no_grad():
            # A pre-activation of size 100 is known to 1e-14, and four layers follow each other.
            assert_close(case.module(case.inputs), torch.tensor(expected, dtype=torch.float64), rtol=1e-11, atol=1e-11)


def test_fifty_digits_are_enough():
    """Two equations: the eigenvalues solve a quadratic equation, here in 100 digits."""
    case = tiny("tanh")
    case = replace(case, module=nn.Sequential(*case.module[:3], nn.Linear(2, 1).double()))
    with mpmath.workdps(100):
        kernel = exact_kernel(exact_layers(case), exact(case.inputs.tolist()))
        middle, half = (kernel[0, 0] + kernel[1, 1]) / 2, (kernel[0, 0] - kernel[1, 1]) / 2
        root = mpmath.sqrt(half**2 + kernel[0, 1] ** 2)
        smallest, largest = near_duplicates.exact_ends(case)
        assert 0 < smallest < 1e-10 * largest
        assert abs(smallest - (middle - root)) < 1e-45 * largest and abs(largest - (middle + root)) < 1e-45 * largest
