"""Both ends of the spectrum, on every route, against known spectra and the dense kernel."""

import math

import numpy as np
import pytest
import torch
from helpers import EXAMPLES, SPECTRUM_ROUTES, fully_connected, network, randn, spectrum_module, spectrum_route
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st

import plbook as pl
from plbook import reference


def with_singular_values(singular, p, seed=0):
    """The linear system of an n x p matrix with these singular values, between random orthogonal factors."""
    left, right = (torch.linalg.qr(randn(k, k, seed=seed + k)).Q for k in (len(singular), p))
    return pl.toys.linear(left @ torch.diag(singular) @ right[: len(singular)], randn(len(singular)))


@pytest.fixture(params=SPECTRUM_ROUTES)
def route(request):
    with spectrum_route(request.param):
        yield request.param


@pytest.mark.parametrize("smallest", [1.0, 1e-3, 1e-6, 1e-7, 1e-8, 1e-9, 0.0])
@pytest.mark.parametrize("n, extra", [(2, 0), (5, 0), (5, 30), (30, 7)])
def test_spectrum_lies_within_its_error_bar(route, smallest, n, extra):
    singular = torch.linspace(3.0, 1.0, n, dtype=torch.float64)
    singular[-1] = smallest
    spectrum = pl.kernel_spectrum(with_singular_values(singular, n + extra, seed=n))
    assert abs(spectrum.smallest - smallest**2) <= spectrum.error
    assert abs(spectrum.largest - 9) <= spectrum.error
    # The bar is of the size of rounding, so it tells 1e-12 from 0, and cannot tell 1e-16.
    assert spectrum.error <= 1e-11
    assert spectrum.resolved == (spectrum.smallest > spectrum.error)
    if smallest >= 1e-3:
        assert spectrum.resolved
        assert math.isclose(spectrum.condition_number, 9 / smallest**2, rel_tol=2 * spectrum.error / smallest**2)
    if smallest <= 1e-8:
        assert not spectrum.resolved and spectrum.condition_number == math.inf


@given(seed=st.integers(0, 10**6), n=st.integers(1, 12), p=st.integers(1, 12))
@runs(max_examples=60)
def test_spectrum_of_random_systems_agrees_with_the_dense_kernel(seed, n, p):
    system = pl.toys.quadratics(n, p, seed=seed)
    spectrum = pl.kernel_spectrum(system, system.start + 1)
    eigenvalues = torch.linalg.eigvalsh(reference.tangent_kernel(system, system.start + 1))
    # Both sides round: two error bars.
    assert abs(spectrum.largest - eigenvalues[-1]) <= 2 * spectrum.error
    assert abs(spectrum.smallest - eigenvalues[0]) <= 2 * spectrum.error
    assert (spectrum.smallest == 0) == (p < n)


def test_fewer_unknowns_than_equations_give_exactly_zero(route):
    spectrum = pl.kernel_spectrum(pl.toys.repeated())
    assert spectrum.smallest == 0 and not spectrum.resolved and abs(spectrum.largest - 2) <= spectrum.error


def duplicated(distance):
    inputs = randn(6, 3)
    inputs[5] = inputs[0] + distance * randn(3, seed=1)
    return pl.NetworkSystem(pl.MLP(3, [50]), inputs, randn(6))


@pytest.mark.parametrize("distance, resolved", [(0.0, False), (1e-10, False), (1e-4, True)])
def test_equal_inputs_are_not_resolved_and_near_ones_are(route, distance, resolved):
    assert pl.kernel_spectrum(duplicated(distance)).resolved is resolved


@pytest.mark.parametrize("w, resolved", [([1.0, 2.0, 3.0], True), ([1.0, 0.0, 3.0], False), ([0.0, 0.0, 0.0], False)])
def test_singular_points_are_not_resolved(route, w, resolved):
    """The chain's DF loses rank exactly where w2 = 0."""
    assert pl.kernel_spectrum(pl.toys.chain(), w).resolved is resolved


@given(system=fully_connected())
@runs(max_examples=30)
def test_the_kernel_is_positive_semidefinite(system):
    spectrum, kernel = pl.kernel_spectrum(system), pl.tangent_kernel(system)
    assert spectrum.smallest >= 0
    # Rounding of K, and nothing else, may push an eigenvalue below 0.
    assert torch.linalg.eigvalsh(kernel)[0] >= -max(10 * spectrum.error, 1e-300)


@pytest.mark.parametrize("smallest", [1.0, 1e-4, 1e-8, 1e-12, 0.0])
@pytest.mark.parametrize("n", [1, 2, 3, 50, 400])
def test_factorization_finds_both_ends_of_a_matrix_with_a_known_spectrum(n, smallest):
    eigenvalues = torch.linspace(smallest, 9.0, n, dtype=torch.float64) if n > 1 else torch.tensor([9.0], dtype=torch.float64)
    basis = torch.linalg.qr(randn(n, n, seed=n)).Q
    kernel = (basis * eigenvalues) @ basis.T
    bar = 2 * n * torch.finfo(torch.float64).eps * kernel.trace().item()
    found = spectrum_module()._both_ends(((kernel + kernel.T) / 2).numpy(), bar)
    assert abs(found[0] - eigenvalues[0]) <= found[2] and abs(found[1] - 9) <= found[2]
    # Lanczos adds to the bar what it leaves, and that is a part of it.
    assert bar <= found[2] <= 1.5 * bar


def test_a_matrix_further_below_zero_than_its_bar_raises_the_bar():
    """K cannot have an eigenvalue of -0.001, so an error of that size must have happened."""
    basis = torch.linalg.qr(randn(30, 30)).Q.numpy()
    kernel = (basis * np.append(np.linspace(5.0, 1.0, 29), -1e-3)) @ basis.T
    smallest, largest, error = spectrum_module()._both_ends((kernel + kernel.T) / 2, 1e-9)
    assert abs(smallest + 1e-3) < 1e-9 and abs(largest - 5) < 1e-9
    assert 1e-3 < error <= 2e-2 and not pl.KernelSpectrum(smallest, largest, error).resolved


def test_the_bar_of_a_wide_network_does_not_grow_with_its_weights():
    """Rounding in K grows with the lengths of sums, a few hundred here, not with the 33,000 weights."""
    system = network(lambda: pl.MLP(4, [128, 128, 128]), 4, num_inputs=10)
    with spectrum_route("eigenvalues"):
        bar = pl.kernel_spectrum(system).error
    assert bar < 2 * torch.finfo(torch.float64).eps * 1200 * pl.tangent_kernel(system).trace()


@pytest.mark.parametrize("name", EXAMPLES)
def test_jacobian_norm_is_the_largest_singular_value(name):
    system = EXAMPLES[name]()
    w = system.start + 0.3 * randn(system.num_parameters, seed=7)
    expected = torch.linalg.matrix_norm(reference.jacobian(system, w), 2).item()
    assert math.isclose(pl.jacobian_norm(system, w), expected, rel_tol=1e-12)
    assert math.isclose(pl.kernel_spectrum(system, w).largest, expected**2, rel_tol=1e-12)
