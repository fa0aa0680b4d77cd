"""Hessian norms against dense twins, closed forms and known spectra; their coordinates, and their memory."""

import gc

import pytest
import test_layers
import torch
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from helpers import EXAMPLES, Forward, network, randn
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.testing import assert_close

import plbook as pl
from plbook import reference
from plbook.hessian import hessian_products, loss, norms
from plbook.hessian.coordinates import Coordinates
from plbook.hessian.lanczos import Lanczos
from plbook.networks import ACTIVATIONS

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


def small_system(seed):
    """One of 200: quadratics, sines, and networks with one or two hidden layers, any activation, biases or not."""
    draw = torch.Generator().manual_seed(seed)

    def number(low, high):
        return torch.randint(low, high + 1, (), generator=draw).item()

    if seed % 5 == 0:
        return pl.toys.quadratics(number(1, 4), number(1, 20), seed=seed)
    if seed % 5 == 1:
        n, p = number(1, 5), number(1, 30)
        return pl.toys.sines(randn(n, p, seed=seed), randn(n, seed=seed + 1), randn(p, seed=seed + 2))
    # One wide hidden layer, which Lanczos does not run through to the end, or one or two small ones.
    hidden = [number(25, 35)] if seed % 5 == 4 else [number(2, 7) for _ in range(seed % 5 - 1)]
    sizes, outputs = [number(1, 6), *hidden], number(1, 2)
    names = sorted(set(ACTIVATIONS) - {"relu", "identity"})
    activation = names[number(0, len(names) - 1)]
    if number(0, 1):
        return network(lambda: pl.MLP(sizes[0], sizes[1:], outputs, activation=activation, seed=seed), sizes[0], num_inputs=2, seed=seed)
    layers = [layer for q, m in zip(sizes, sizes[1:]) for layer in (nn.Linear(q, m), ACTIVATIONS[activation]())]
    return network(lambda: nn.Sequential(*layers, nn.Linear(sizes[-1], outputs)), sizes[0], num_inputs=2, seed=seed)


@pytest.mark.parametrize("seeds", [range(first, first + 20) for first in range(0, 200, 20)], ids=lambda seeds: f"from {seeds[0]}")
def test_two_hundred_random_systems_against_dense_hessians(seeds):
    for seed in seeds:
        system = small_system(seed)
        w = system.start
        expected = torch.linalg.eigvalsh(torch.func.hessian(system._function)(w)).abs().amax(dim=1)
        norms = pl.hessian_norms(system)
        assert ((norms.per_equation - expected).abs() <= RTOL * expected).all(), seed
        assert (norms.residuals <= RTOL * expected).all(), seed


# Few coordinates


def kind_of_system(kind):
    """Two inputs for one of the many kinds of modules."""
    module, sample = test_layers.middle(kind)
    inputs = torch.tensor([[0, 1, 4], [3, 3, 2]]) if sample is None else randn(2, *sample, seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = test_layers.materialized(module, inputs)
    return pl.NetworkSystem(module, inputs, torch.zeros(shape, dtype=torch.float64))


KINDS = [
    "one hidden layer", "ReLU in place", "PReLU by channel", "GLU", "LayerNorm", "LayerNorm without parameters", "RMSNorm", "GroupNorm",
    "batch norm, evaluating", "Bilinear", "positions", "residual", "two branches", "layer used twice", "weight also outside",
    "frozen parts", "layer on a free vector", "inputs sorted inside", "hook on a layer", "Conv1d, reflecting", "Conv2d, pooled",
    "Conv2d, global pooling", "Conv3d", "attention", "embedding",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_module_equals_the_dense_twin(kind):
    system = kind_of_system(kind)
    assert_equals_twin(system, system.start + 0.1 * randn(system.num_parameters, seed=1), rtol=1e-6)


def test_wrong_second_derivatives_show():
    """Those of weight norm are, in torch 2.13: not even symmetric, so that no v is an eigenvector of what it returns."""
    system = kind_of_system("weight norm")
    dense = reference.hessians(system, system.start)
    assert (dense - dense.mT).abs().max() > 1e-3
    norms = pl.hessian_norms(system)
    assert (norms.residuals > RTOL * norms.per_equation).any()


def test_a_wide_layer_takes_part_with_rows_plus_columns():
    system = network(lambda: pl.MLP(30, [50, 40], 2), 30)
    assert Coordinates(system, system.start, torch.arange(3)).size == (30 + 50) + (50 + 40) + (40 + 2)
    biased = network(lambda: nn.Sequential(nn.Linear(30, 50), nn.Tanh(), nn.LayerNorm(50), nn.Linear(50, 2)), 30)
    assert Coordinates(biased, biased.start, torch.arange(3)).size == (31 + 50) + (50 + 50) + (51 + 2)
    assert Coordinates(pl.toys.quadratics(4, 6), randn(6), torch.arange(3)).size == 6


def test_vectors_have_their_coordinates():
    """The map from coordinates keeps lengths and angles, and the product is the Hessian's between them."""
    system = network(lambda: nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)), 3)
    equations = torch.tensor([2, 3, 4])
    coordinates = Coordinates(system, system.start, equations)
    z = [coordinates.start(torch.Generator().manual_seed(seed)) for seed in range(2)]
    z = [one / one.norm(dim=1, keepdim=True) for one in z]
    first, second = (coordinates.vectors(one, slice(0, 3)) for one in z)
    assert_close((first * second).sum(dim=1), (z[0] * z[1]).sum(dim=1), rtol=1e-12, atol=1e-14)
    expected = torch.einsum("kp,kpq,kq->k", first, reference.hessians(system, system.start)[equations], second)
    for together in (True, False):
        images = coordinates.product(slice(0, 3), together)(z[1])
        assert_close((z[0] * images).sum(dim=1), expected, rtol=1e-10, atol=1e-12)
        part = coordinates.product(torch.tensor([2, 0]), together)(z[1][[2, 0]])
        assert_close(part, images[[2, 0]], rtol=1e-10, atol=1e-12)
    assert coordinates.can_go_together(z[1])


def test_products_that_disagree_do_not_go_together():
    """Torch's wrong derivative of layer norm's gradients, or whatever else they may be."""
    system = kind_of_system("LayerNorm")
    coordinates = Coordinates(system, system.start, torch.arange(2))
    z = coordinates.start(torch.Generator().manual_seed(0))
    assert not coordinates.can_go_together(z)
    right, wrong = (coordinates.product(slice(None), together)(z) for together in (False, True))
    assert (right - wrong).abs().max() > 1e-3 * right.abs().max()


def test_a_module_that_treats_single_inputs_differently():
    def forward(m, x):
        return m.a(x).tanh() if len(x) > 1 else nn.functional.linear(x, m.a.weight, m.a.bias).tanh()

    system = network(lambda: Forward(forward, a=nn.Linear(3, 3)), 3)
    assert Coordinates(system, system.start, torch.arange(12)).factors == []
    assert_equals_twin(system, system.start, rtol=1e-6)


@pytest.mark.parametrize("width", [8, 200, 5000])
def test_one_hidden_layer_closed_form(width):
    module, x = pl.MLP(3, [width]), pl.datasets.sphere(1, 3).inputs
    inner, outer = module[1].weight.detach(), module[4].weight.detach()[0]
    eigenvalues = reference.one_hidden_layer_hessian_eigenvalues(inner, outer, x[0])
    norms = pl.hessian_norms(pl.NetworkSystem(module, x, [0.0]), rtol=1e-4)
    assert norms.largest == pytest.approx(eigenvalues.abs().max().item(), rel=1e-4)


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


def test_the_other_end_of_the_spectrum_is_not_overlooked():
    """-1 is found first, 1.02 among 300 eigenvalues near 1 later: what it may still reach counts."""
    spectrum = torch.cat([torch.linspace(0.9, 1, 300), torch.tensor([1.02, -1.0])])
    assert pl.hessian_norms(diagonal(spectrum)).largest == pytest.approx(1.02, rel=RTOL)


def spaces(matrices, steps):
    """The Krylov of each step."""
    space = Lanczos(randn(*matrices.shape[:2]), steps)
    while not space.full:
        yield space.step(lambda v: (matrices @ v[:, :, None])[:, :, 0])


def test_lanczos_ends_where_its_space_does():
    """Two distinct eigenvalues: two steps, then vectors of zeros; the basis stays orthonormal until then."""
    matrices = torch.diag_embed(torch.tensor([[2.0, -3.0] * 20, [1.0, 1.0] * 20], dtype=torch.float64))
    for krylov in spaces(matrices, 12):
        lengths = krylov.basis.norm(dim=2)
        assert ((lengths - 1).abs() < 1e-12).logical_or(lengths == 0).all()
    assert lengths.sum(dim=1).tolist() == pytest.approx([2, 1])
    assert krylov.values[0].min().item() == pytest.approx(-3) and krylov.values[1].max().item() == pytest.approx(1)


def test_nearly_exhausted_spaces_keep_their_basis_orthogonal():
    """Eigenvalues 1, 1e-2, 1e-4, ...: each step leaves little of its vector."""
    for krylov in spaces(torch.diag(10.0 ** -torch.arange(0.0, 60, 2, dtype=torch.float64))[None], 30):
        known = krylov.basis[0][krylov.basis[0].norm(dim=1) > 0]
        assert (known @ known.T - torch.eye(len(known), dtype=torch.float64)).abs().max() < 1e-13
    assert 5 < len(known) < 30


def test_equations_that_converge_early_leave_and_change_nothing(monkeypatch):
    """One large eigenvalue converges at once, a crowded end late, in any mixture."""
    easy, late = torch.cat([torch.linspace(-1, 1, 299), torch.tensor([9.0])]), torch.linspace(-1, 1.1, 300)
    taken, product = [], Coordinates.product
    monkeypatch.setattr(Coordinates, "product", lambda self, rows, together: taken.append(rows) or product(self, rows, together))
    mixed = pl.hessian_norms(diagonal(easy, late, easy, 2 * late, easy))
    assert_close(mixed.per_equation, torch.tensor([9, 1.1, 9, 2.2, 9], dtype=torch.float64), rtol=RTOL, atol=0)
    assert [1, 3] in [rows.tolist() for rows in taken if isinstance(rows, torch.Tensor)]
    assert (mixed.residuals <= RTOL * mixed.per_equation).all()


def test_derivatives_that_are_not_finite_give_inf():
    system = pl.System(lambda w: w.exp().sum()[None], [0.0], torch.zeros(70))
    assert pl.hessian_norms(system).largest == pytest.approx(1)
    norms = pl.hessian_norms(system, torch.full((70,), 800.0))
    assert norms.per_equation.tolist() == norms.residuals.tolist() == [torch.inf]
    # Finite, but with no finite squares.
    assert pl.hessian_norms(diagonal(1e200 * torch.linspace(1, 3, 70, dtype=torch.float64))).largest == torch.inf


@pytest.mark.parametrize("rtol", [0, 1, -1e-2, float("nan")])
def test_an_rtol_out_of_range_is_refused(rtol):
    for function in (pl.hessian_norms, pl.loss_hessian_spectrum):
        with pytest.raises(ValueError, match=f"between 0 and 1, got {rtol}"):
            function(pl.toys.product(), rtol=rtol)


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
    monkeypatch.setattr(norms, "BASIS_BYTES", 1)
    assert_close(pl.hessian_norms(system, rtol=1e-6).per_equation, whole, rtol=1e-6, atol=0)


def test_products_equal_the_dense_hessians():
    system = network(lambda: pl.MLP(3, [4], 2), 3)
    w, equations = system.start + 0.1, torch.tensor([5, 0, 3, 5])
    vectors = randn(4, system.num_parameters)
    expected = torch.einsum("kpq,kq->kp", reference.hessians(system, w)[equations], vectors)
    assert_close(hessian_products(system, w, equations, vectors), expected, rtol=1e-10, atol=1e-12)


# Memory


def kept(call):
    """Bytes of tensors that two further calls allocate and do not free, whoever holds them."""
    call()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
        call()
        gc.collect()
    return sum(event.self_cpu_memory_usage for event in record.key_averages())


@pytest.mark.parametrize("name", ["MLP", "convolutional"])
def test_memory_is_flat_over_repeated_calls(name, monkeypatch):
    """A few steps a call, since the profiler is slow."""
    monkeypatch.setattr(norms, "MAX_STEPS", 3)
    monkeypatch.setattr(loss, "MAX_STEPS", 3)
    system = EXAMPLES[name]()
    assert kept(lambda: pl.hessian_norms(system)) == kept(lambda: pl.loss_hessian_spectrum(system)) == 0


@pytest.mark.filterwarnings("ignore:Using backward")
def test_a_leak_is_found():
    """A gradient that holds its graph, which holds the parameters: nothing ever frees them."""
    system = EXAMPLES["MLP"]()
    leak = kept(lambda: system.module_at(system.start)(system._samples).sum().backward(create_graph=True))
    assert leak > 2 * 8 * system.num_parameters
