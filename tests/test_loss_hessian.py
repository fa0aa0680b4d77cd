"""The ends of the loss Hessian's spectrum, and of its two parts', against dense matrices and closed forms."""

import pytest
import torch
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from helpers import EXAMPLES, network, randn

import plbook as pl
from plbook import reference
from plbook.hessian import loss

PARTS = ("loss", "gauss_newton", "residual_weighted")


def assert_equals_twin(system, w, rtol):
    """Each end to rtol of itself; ends that are 0 up to rounding to 1e-10 of the norm of H_L or of a part."""
    spectrum, expected = pl.loss_hessian_spectrum(system, w, rtol=rtol), reference.loss_hessians(system, w)
    for name, dense in zip(PARTS, expected):
        found, eigenvalues = getattr(spectrum, name), torch.linalg.eigvalsh(dense)
        scale = 1e-10 * eigenvalues.abs().max().item() + 1e-300
        assert found.smallest == pytest.approx(eigenvalues[0].item(), rel=rtol, abs=scale), name
        assert found.largest == pytest.approx(eigenvalues[-1].item(), rel=rtol, abs=scale), name
        assert found.smallest_residual <= rtol * abs(found.smallest) + scale
        assert found.largest_residual <= rtol * abs(found.largest) + scale


@pytest.mark.parametrize("name", EXAMPLES)
def test_both_ends_equal_the_dense_twin(name):
    system = EXAMPLES[name]()
    assert_equals_twin(system, system.start + 0.3 * randn(system.num_parameters, seed=7), rtol=1e-6)


@given(seed=st.integers(0, 10**6), n=st.integers(1, 12), p=st.integers(1, 12))
@runs(max_examples=40)
def test_both_ends_of_random_quadratics(seed, n, p):
    """Fewer, as many and more equations than unknowns."""
    system = pl.toys.quadratics(n, p, seed=seed)
    assert_equals_twin(system, randn(p, seed=seed + 1), rtol=1e-9)


@given(seed=st.integers(0, 10**6), width=st.integers(15, 40), activation=st.sampled_from(["tanh", "sin", "softplus"]))
@runs(max_examples=6)
def test_both_ends_of_random_networks(seed, width, activation):
    """More than 60 unknowns: Lanczos stops early."""
    system = network(lambda: pl.MLP(4, [width], 2, activation=activation, seed=seed), 4, seed=seed)
    assert_equals_twin(system, system.start, rtol=1e-2)


def test_one_hidden_layer_closed_form():
    """One input: the residual-weighted part is r H, whose eigenvalues are known at any width."""
    module, x = pl.MLP(3, [3000]), pl.datasets.sphere(1, 3).inputs
    system = pl.NetworkSystem(module, x, [-2.0])
    eigenvalues = reference.one_hidden_layer_hessian_eigenvalues(module[1].weight.detach(), module[4].weight.detach()[0], x[0])
    r = system.residual(system.start).item()
    assert r > 0
    found = pl.loss_hessian_spectrum(system).residual_weighted
    assert (found.smallest, found.largest) == pytest.approx((r * eigenvalues[0].item(), r * eigenvalues[-1].item()), rel=1e-2)
    # The other sign of the residual swaps the ends.
    swapped = pl.loss_hessian_spectrum(pl.NetworkSystem(module, x, [-2.0 + 2 * r])).residual_weighted
    assert (swapped.smallest, swapped.largest) == pytest.approx((-found.largest, -found.smallest), rel=1e-2)


def test_the_gauss_newton_part_has_the_spectrum_of_the_kernel():
    wide = network(lambda: pl.MLP(3, [40], 2), 3)
    found = pl.loss_hessian_spectrum(wide).gauss_newton
    assert found.largest == pytest.approx(pl.kernel_spectrum(wide).largest, rel=1e-2)
    assert found.smallest == found.smallest_residual == 0
    # With fewer unknowns than equations the smallest is that of DF^T DF, which K does not have.
    tall = pl.toys.linear(randn(7, 3), randn(7, seed=1))
    singular = torch.linalg.svdvals(randn(7, 3))
    found = pl.loss_hessian_spectrum(tall).gauss_newton
    assert (found.smallest, found.largest) == pytest.approx(((singular[-1] ** 2).item(), (singular[0] ** 2).item()), rel=1e-12)


def test_a_linear_system_has_one_part():
    spectrum = pl.loss_hessian_spectrum(pl.toys.linear(randn(70, 65), randn(70, seed=1)))
    assert spectrum.residual_weighted == pl.hessian.ExtremeEigenvalues(0, 0, 0, 0)
    assert spectrum.loss.largest == pytest.approx(spectrum.gauss_newton.largest, rel=1e-2)


def test_a_solution_that_is_not_convex_nearby():
    """(w1 w2 - 1)^2 / 2 on its solutions: H_L = DF^T DF, positive semidefinite. Beside them it has a negative eigenvalue."""
    at = pl.loss_hessian_spectrum(pl.toys.product(), [2.0, 0.5])
    assert (at.loss.smallest, at.loss.largest) == pytest.approx((0, 4.25), abs=1e-12)
    beside = pl.loss_hessian_spectrum(pl.toys.product(), [2.0, 0.6])
    # Residual 0.2: [[0.36, 1.4], [1.4, 4]].
    assert beside.loss.smallest == pytest.approx(2.18 - (1.82**2 + 1.4**2) ** 0.5) and beside.loss.smallest < -0.1


def test_an_end_that_does_not_converge_says_so(monkeypatch):
    """Eigenvalues that crowd at both ends, cut off after 20 steps."""
    monkeypatch.setattr(loss, "MAX_STEPS", 20)
    d = torch.cos(torch.linspace(0, 3.14159, 900, dtype=torch.float64))
    system = pl.System(lambda w: 0.5 * (d * w**2).sum()[None], [-1.0], torch.zeros(900))
    found = pl.loss_hessian_spectrum(system, rtol=1e-6).residual_weighted
    assert found.largest_residual > 1e-6 * found.largest
    # Inside the spectrum, and as near to an eigenvalue as it says.
    assert -1 - 1e-12 <= found.smallest and found.largest <= 1 + 1e-12
    assert (d - found.largest).abs().min() <= found.largest_residual
    assert (d - found.smallest).abs().min() <= found.smallest_residual


def test_derivatives_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        pl.loss_hessian_spectrum(pl.System(lambda w: w.exp(), [0.0], [1.0]), [800.0])


@pytest.mark.parametrize("p", [50, 100])
def test_data_drawn_with_seed_0_do_not_coincide_with_the_start(p):
    """A start that is the first row of A would stay in the row space and miss the eigenvalue 0."""
    found = pl.loss_hessian_spectrum(pl.toys.linear(randn(3, p), randn(3, seed=1))).loss
    assert abs(found.smallest) < 1e-10 < 1 < found.largest


def test_the_same_call_gives_the_same_numbers():
    system = EXAMPLES["MLP"]()
    state = torch.get_rng_state()
    assert pl.loss_hessian_spectrum(system) == pl.loss_hessian_spectrum(system)
    assert torch.equal(torch.get_rng_state(), state)
