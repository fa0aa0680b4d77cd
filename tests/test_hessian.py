import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from helpers import EXAMPLES, network, randn
from torch.testing import assert_close

import plbook as pl
from plbook import hessian, reference

RTOL = 1e-2


def diagonal(*entries):
    """F_i(w) = 1/2 <w, D_i w> with diagonal D_i: H_i = D_i, so the spectrum is what the caller says."""
    entries = torch.stack([torch.as_tensor(d, dtype=torch.float64) for d in entries])
    n, p = entries.shape
    return pl.System(lambda w: 0.5 * (entries * w**2).sum(dim=1), torch.zeros(n), randn(p))


def assert_equals_twin(system, w, rtol=RTOL):
    norms, expected = pl.hessian_norms(system, w, rtol=rtol), reference.hessian_norms(system, w)
    assert norms.per_equation.shape == norms.residuals.shape == (system.num_equations,)
    # A residual of rtol theta leaves an error of at most rtol theta.
    assert_close(norms.per_equation, expected, rtol=rtol, atol=1e-12)
    assert (norms.residuals <= rtol * norms.per_equation).all()


@pytest.mark.parametrize("name", EXAMPLES)
def test_norms_equal_the_dense_twin(name):
    system = EXAMPLES[name]()
    assert_equals_twin(system, system.start + 0.3 * randn(system.num_parameters, seed=7), rtol=1e-6)


@given(seed=st.integers(0, 10**6), n=st.integers(1, 4), p=st.integers(1, 30))
@runs(max_examples=40)
def test_norms_of_random_quadratics(seed, n, p):
    """With no more than 60 unknowns Lanczos runs to the end: exact up to rounding."""
    system = pl.toys.quadratics(n, p, seed=seed)
    norms = pl.hessian_norms(system, randn(p, seed=seed + 1)).per_equation
    assert_close(norms, reference.hessian_norms(system, system.start), rtol=1e-9, atol=0)
    # H_i = C_i, whatever w: the definition of this system.
    assert_close(norms, pl.hessian_norms(system, 100 * system.start).per_equation, rtol=1e-9, atol=0)


@given(seed=st.integers(0, 10**6), width=st.integers(1, 25), activation=st.sampled_from(["tanh", "sin", "softplus"]))
@runs(max_examples=25)
def test_norms_of_random_networks(seed, width, activation):
    system = network(lambda: pl.MLP(3, [width], 2, activation=activation, seed=seed), 3, seed=seed)
    assert_equals_twin(system, system.start)


def test_the_seventh_equation_of_a_network_has_its_own_hessian():
    """Sample-major: H of equation (input 3, output 0) is that of the one-input system."""
    system = network(lambda: pl.MLP(3, [4], 2), 3)
    alone = pl.NetworkSystem(system.module_at(system.start), system._samples[3:], system.targets[6:].view(1, 2))
    assert_close(pl.hessian_norms(system).per_equation[6:], pl.hessian_norms(alone).per_equation, rtol=1e-9, atol=0)


@pytest.mark.parametrize("width", [8, 200])
def test_one_hidden_layer_closed_form(width):
    """f = v^T tanh(U x) / sqrt(m), fixed |x|^2 = 3 = fan-in: after a rotation H splits into one 2 x 2 block a neuron,
    [[v tanh''(a) s, tanh'(a)], [tanh'(a), 0]] times |x| / sqrt(3 m), with s = |x| / sqrt(3)."""
    module = pl.MLP(3, [width])
    x = pl.datasets.sphere(1, 3).inputs
    inner, outer = module[1].weight.detach(), module[4].weight.detach()[0]
    t = torch.tanh(inner @ x[0] / math.sqrt(3))
    first, second = 1 - t**2, -2 * t * (1 - t**2)
    blocks = torch.stack([torch.stack([outer * second, first], 1), torch.stack([first, 0 * t], 1)], 1)
    expected = torch.linalg.eigvalsh(blocks / math.sqrt(width)).abs().max().item()
    norms = pl.hessian_norms(pl.NetworkSystem(module, x, [0.0]), rtol=1e-4)
    assert norms.largest == pytest.approx(expected, rel=1e-4)


# Known spectra


@pytest.mark.parametrize(
    "spectrum, norm",
    [
        (torch.linspace(-5, 3, 200), 5),
        (torch.linspace(-3, 5, 200), 5),
        (torch.cat([torch.linspace(0, 1, 499), torch.tensor([-1.5])]), 1.5),
        (1 / torch.arange(1.0, 301.0), 1),
        (torch.cat([torch.full((250,), 2.0), torch.full((250,), -2.0)]), 2),
        (torch.cat([torch.zeros(300), torch.tensor([1e-6])]), 1e-6),
        (torch.linspace(-5e8, 3e8, 100), 5e8),
        ([-7.0], 7),
        ([1.0, -4.0], 4),
    ],
)
def test_known_spectra_above_and_below_the_step_limit(spectrum, norm):
    norms = pl.hessian_norms(diagonal(spectrum))
    assert norms.largest == pytest.approx(norm, rel=RTOL)
    assert norms.residuals[0] <= RTOL * norms.largest


def test_each_value_is_within_its_residual_of_an_eigenvalue():
    """The residual theorem, on a spectrum that 60 steps do not resolve: two equal ends of a dense interval."""
    spectra = [torch.linspace(-1, 1, 3000), torch.linspace(0.999, 1, 3000), torch.cos(torch.arange(3000.0))]
    norms = pl.hessian_norms(diagonal(*spectra), rtol=1e-9)
    for spectrum, value, residual in zip(spectra, norms.per_equation, norms.residuals):
        assert (spectrum.double().abs() - value).abs().min() <= residual + 1e-12
    # It does not converge to 1e-9, and says so.
    assert (norms.residuals > 1e-9 * norms.per_equation).any()
    # Never too large: a Ritz value lies inside the spectrum.
    assert (norms.per_equation <= 1 + 1e-12).all()


def test_a_smaller_rtol_gives_a_smaller_residual():
    system = diagonal(torch.cat([torch.linspace(-2, 2.5, 399), torch.tensor([3.0])]))
    rough, fine = (pl.hessian_norms(system, rtol=rtol) for rtol in (1e-1, 1e-8))
    assert fine.residuals[0] <= 1e-8 * fine.largest < rough.residuals[0]
    assert abs(fine.largest - 3) < 1e-7 < abs(rough.largest - 3)


def test_a_loose_rtol_does_not_settle_on_an_inner_eigenvalue():
    """One 3 among 499 ones: after one step the residual is below 0.2 already, at an estimate of 1."""
    system = diagonal(torch.cat([torch.ones(499), torch.tensor([3.0])]))
    assert pl.hessian_norms(system, rtol=0.2).largest == pytest.approx(3, rel=1e-6)


def test_zero_hessians_are_zero():
    norms = pl.hessian_norms(pl.toys.linear(randn(3, 5), randn(3)))
    assert norms.per_equation.tolist() == norms.residuals.tolist() == [0, 0, 0]


def test_a_zero_hessian_beside_others():
    norms = pl.hessian_norms(diagonal(torch.zeros(80), torch.linspace(0, 2, 80), 1e-12 * torch.linspace(-3, 2, 80)))
    assert_close(norms.per_equation, torch.tensor([0, 2, 3e-12], dtype=torch.float64), rtol=RTOL, atol=0)


def test_largest_and_joint():
    norms = pl.hessian_norms(diagonal([3.0, 1.0], [-4.0, 2.0]))
    assert norms.largest == pytest.approx(4) and norms.joint == pytest.approx(5)
    assert pl.hessian_norms(pl.toys.copies(9)).joint == pytest.approx(3)


@pytest.mark.parametrize("name", ["MLP", "quadratics"])
def test_the_same_call_gives_the_same_numbers_and_leaves_the_generator_alone(name):
    system = EXAMPLES[name]()
    state = torch.get_rng_state()
    first, second = pl.hessian_norms(system), pl.hessian_norms(system)
    assert torch.equal(first.per_equation, second.per_equation) and torch.equal(first.residuals, second.residuals)
    assert torch.equal(torch.get_rng_state(), state)


def test_chunks_change_nothing(monkeypatch):
    system = network(lambda: pl.MLP(6, [20], 2), 6)
    whole = pl.hessian_norms(system, rtol=1e-6).per_equation
    monkeypatch.setattr(hessian, "BASIS_BYTES", 1)
    assert_close(pl.hessian_norms(system, rtol=1e-6).per_equation, whole, rtol=1e-6, atol=0)


def test_products_equal_the_dense_hessians():
    system = network(lambda: pl.MLP(3, [4], 2), 3)
    w, equations = system.start + 0.1, torch.tensor([5, 0, 3, 5])
    vectors = randn(4, system.num_parameters)
    expected = torch.einsum("kpq,kq->kp", reference.hessians(system, w)[equations], vectors)
    assert_close(hessian.hessian_products(system, w, equations, vectors), expected, rtol=1e-10, atol=1e-12)
