import importlib
import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from helpers import EXAMPLES, Forward, frozen, network, randn, seeded, tied
from torch import nn
from torch.testing import assert_close

import plbook as pl
from plbook import reference
from plbook.networks import ACTIVATIONS


def twin(system, w):
    jacobian = reference.jacobian(system, w)
    return jacobian @ jacobian.T


def assert_equals_twin(system, method, w=None):
    """max |K - K_ref| <= 1e-10 max |K_ref|."""
    w = system.start if w is None else w
    expected, kernel = twin(system, w), pl.tangent_kernel(system, w, method=method)
    assert kernel.shape == (system.num_equations,) * 2
    assert (kernel - expected).abs().max() <= 1e-10 * expected.abs().max()
    assert torch.equal(kernel, kernel.T)


# Both routes


@pytest.mark.parametrize("method", ["auto", "jacobian"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_kernel_equals_the_twin_everywhere(name, method):
    system = EXAMPLES[name]()
    w = system.start + 0.3 * randn(system.num_parameters, seed=7)
    assert_equals_twin(system, method)
    assert_equals_twin(system, method, w)
    # The twin itself, entry by entry: <row i, row j>.
    assert_close(twin(system, w), reference.tangent_kernel(system, w), rtol=1e-12, atol=1e-12)


@st.composite
def fully_connected(draw):
    """A network of torch's own layers: any widths, activations, biases, frozen parts; inputs and targets."""
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=5))
    sizes = [draw(st.integers(1, 12)), *sizes, draw(st.integers(1, 5))]
    seed = draw(st.integers(0, 10**6))
    layers = []
    for fan_in, fan_out in zip(sizes, sizes[1:]):
        bias, activation = draw(st.booleans()), draw(st.sampled_from(sorted(ACTIVATIONS)))
        layers += [seeded(lambda: nn.Linear(fan_in, fan_out, bias=bias), seed + len(layers)), ACTIVATIONS[activation]()]
    module = nn.Sequential(*layers[:-1])
    parameters = list(module.parameters())
    trained = draw(st.integers(0, len(parameters) - 1))
    for index, parameter in enumerate(parameters):
        parameter.requires_grad_(index == trained or draw(st.booleans()))
    num_inputs = draw(st.integers(1, 8))
    return pl.NetworkSystem(module, randn(num_inputs, sizes[0], seed=seed), randn(num_inputs, sizes[-1], seed=seed + 1))


@given(system=fully_connected(), away=st.booleans())
@runs(max_examples=200)
def test_layers_equal_the_twin_on_fully_connected_networks(system, away):
    w = system.start + (0.5 * randn(system.num_parameters, seed=3) if away else 0)
    assert_equals_twin(system, "layers", w)


@pytest.mark.parametrize("widths, outputs", [([40, 40], 1), ([7, 30, 5], 5), ([], 3)])
@pytest.mark.parametrize("output_activation", [None, "tanh"])
def test_layers_equal_the_twin_on_the_books_networks(widths, outputs, output_activation):
    system = network(lambda: pl.MLP(6, widths, outputs, output_activation=output_activation), 6, num_inputs=9)
    assert_equals_twin(system, "layers", system.start + 0.1 * randn(system.num_parameters))


def two_layers(forward):
    """A network 3 -> 4 -> 2 with its own forward function of (its layers a and b, x)."""
    return network(lambda: Forward(forward, a=nn.Linear(3, 4), b=nn.Linear(4, 2)), 3)


def twice(hidden, layer):
    return layer(hidden.tanh() * hidden.cos()) + hidden[:, :2]


LAYERS_WORK = {
    "activation in place": lambda: two_layers(lambda m, x: m.b(torch.tanh_(m.a(x)))),
    "ReLU in place": lambda: network(lambda: nn.Sequential(nn.Linear(3, 9), nn.ReLU(inplace=True), nn.Linear(9, 2)), 3),
    "skip connection": lambda: two_layers(lambda m, x: m.b(m.a(x).tanh() + x.sum(1, keepdim=True))),
    "output used twice": lambda: two_layers(lambda m, x: twice(m.a(x), m.b)),
    "keyword call": lambda: two_layers(lambda m, x: m.b(input=m.a(input=x).sin())),
    "first layer cut off": lambda: two_layers(lambda m, x: m.b(m.a(x).tanh().detach())),
    "one position": lambda: two_layers(lambda m, x: m.b(m.a(x[:, None])[:, 0].tanh())),
    "inputs flattened": lambda: network(lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 1)), 2, 3),
    "frozen convolution": lambda: network(
        lambda: frozen(nn.Sequential(nn.Conv1d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(4, 2)), "0.weight", "0.bias"), 1, 3
    ),
    "LayerNorm without parameters": lambda: network(
        lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4, elementwise_affine=False), nn.Linear(4, 2)), 3
    ),
}


@pytest.mark.parametrize("name", LAYERS_WORK)
def test_layers_equal_the_twin_on_unusual_networks(name):
    system = LAYERS_WORK[name]()
    assert_equals_twin(system, "layers", system.start + 0.2 * randn(system.num_parameters))


class Halved(nn.Linear):
    def forward(self, x):
        return super().forward(x) / 2


def changed_in_place(m, x):
    z = 1.0 * x
    return m.b(m.a(z).tanh()) + z.mul_(2).sum(1, keepdim=True)


REFUSED_BY_LAYERS = {
    "plain system": (pl.toys.product, "plain function"),
    "affine LayerNorm": (lambda: network(lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1)), 3), "1.weight"),
    "own parameter": (lambda: network(lambda: nn.Sequential(nn.Linear(3, 4), nn.PReLU(), nn.Linear(4, 1)), 3), "1.weight"),
    "subclass of Linear": (lambda: network(lambda: Halved(3, 2), 3), "weight"),
    "layer used twice": (lambda: two_layers(lambda m, x: m.b(m.a(x).tanh()) + m.b(m.a(x).cos().detach())), "called 2 times"),
    "layer not called": (lambda: two_layers(lambda m, x: m.a(x)), "b.weight: its layer is called 0 times"),
    "tied weights": (lambda: network(tied, 3), "0.weight"),
    "weight beside its layer": (lambda: two_layers(lambda m, x: m.b(m.a(x) + (x @ m.a.weight.T).tanh())), "a.weight"),
    "sum of the weight": (lambda: two_layers(lambda m, x: m.b(m.a(x).tanh()) + m.a.weight.sum()), "a.weight"),
    "bias beside its layer": (lambda: two_layers(lambda m, x: m.b(m.a(x).tanh()) * m.b.bias), "b.bias"),
    "weight in place of its layer": (lambda: two_layers(lambda m, x: (m.a(x), m.b(x @ m.a.weight.T))[1]), "a.weight"),
    "scaled by a hook": (lambda: hooked(lambda layer, args, output: 2 * output), "hook"),
    "batch doubled inside": (
        lambda: two_layers(lambda m, x: m.b(m.a(torch.cat([x, -x])).tanh()[: len(x)])),
        "a.weight: its layer takes an input of shape (8, 3)",
    ),
    "rows in another order": (lambda: two_layers(lambda m, x: m.b(m.a(x.flip(0)).tanh().flip(0))), "order"),
    "input changed in place": (
        lambda: network(lambda: frozen(Forward(changed_in_place, a=nn.Linear(3, 4), b=nn.Linear(4, 2)), "a.weight"), 3),
        "a.bias: the input of its layer is changed in place",
    ),
    "derivatives cut": (lambda: two_layers(lambda m, x: m.b(no_grad(m.a, x))), "a.weight: the output of its layer carries no derivatives"),
    "constant output": (lambda: two_layers(lambda m, x: (m.b(m.a(x)), x[:, :2])[1]), "does not depend"),
}


def hooked(hook):
    layer = nn.Linear(3, 2)
    layer.register_forward_hook(hook)
    return network(lambda: layer, 3)


def no_grad(layer, x):
    with torch.no_grad():
        return layer(x)


@pytest.mark.parametrize("name", REFUSED_BY_LAYERS)
def test_layers_refuse_what_they_cannot_handle_and_auto_falls_back(name):
    build, culprit = REFUSED_BY_LAYERS[name]
    system = build()
    with pytest.raises(ValueError) as caught:
        pl.tangent_kernel(system, method="layers")
    assert culprit in str(caught.value) and 'method="auto"' in str(caught.value)
    if name == "constant output":
        assert not pl.tangent_kernel(system).any()
    else:
        assert_equals_twin(system, "auto", system.start + 0.2 * randn(system.num_parameters))


def test_unknown_methods_and_points_are_refused():
    system = pl.toys.product()
    with pytest.raises(ValueError, match="auto, jacobian, layers; got 'layer'"):
        pl.tangent_kernel(system, method="layer")
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        pl.tangent_kernel(system, [1.0, 2.0, 3.0])


def test_a_tied_parameter_counts_once():
    """F(w) = w (w x): DF = 2 w x, so K = 4 w^2 x^2; with two separate weights it would be 2 w^2 x^2."""
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    module[1].weight = module[0].weight
    nn.init.constant_(module[0].weight, 3.0)
    x = torch.tensor([[1.0], [2.0]])
    assert pl.tangent_kernel(pl.NetworkSystem(module, x, [0.0, 0.0])).tolist() == [[36, 72], [72, 144]]
    apart = nn.Sequential(*[nn.Linear(1, 1, bias=False) for _ in range(2)])
    apart.apply(lambda layer: isinstance(layer, nn.Linear) and nn.init.constant_(layer.weight, 3.0))
    assert pl.tangent_kernel(pl.NetworkSystem(apart, x, [0.0, 0.0])).tolist() == [[18, 36], [36, 72]]


# The spectrum


def with_singular_values(singular, p, seed=0):
    """The linear system of an n x p matrix with these singular values, between random orthogonal factors."""
    left, right = (torch.linalg.qr(randn(k, k, seed=seed + k)).Q for k in (len(singular), p))
    return pl.toys.linear(left @ torch.diag(singular) @ right[: len(singular)], randn(len(singular)))


@pytest.fixture(params=["singular values", "eigenvalues"])
def route(request, monkeypatch):
    if request.param == "eigenvalues":
        # The module, which the function of the same name hides.
        monkeypatch.setattr(importlib.import_module("plbook.tangent_kernel.spectrum"), "JACOBIAN_BYTES", 0)
    return request.param


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


@pytest.mark.parametrize("name", EXAMPLES)
def test_jacobian_norm_is_the_largest_singular_value(name):
    system = EXAMPLES[name]()
    w = system.start + 0.3 * randn(system.num_parameters, seed=7)
    expected = torch.linalg.matrix_norm(reference.jacobian(system, w), 2).item()
    assert math.isclose(pl.jacobian_norm(system, w), expected, rel_tol=1e-12)
    assert math.isclose(pl.kernel_spectrum(system, w).largest, expected**2, rel_tol=1e-12)
