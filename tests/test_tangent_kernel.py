import pytest
import torch
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from helpers import EXAMPLES, Forward, frozen, fully_connected, network, randn, seeded, tied
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
