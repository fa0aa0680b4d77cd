"""The layer route on every kind of module, against the Jacobian twin; which route each parameter takes, and why."""

import pytest
import torch
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from helpers import Forward, frozen, network, randn, seeded, tied
from torch import nn

import plbook as pl
from plbook import reference
from plbook.tangent_kernel import contributions, layers, tiles


class Sizes:
    """Draws the shapes of one example."""

    def __init__(self, draw):
        self.draw = draw

    def __call__(self, low=1, high=5):
        return self.draw(st.integers(low, high))

    def flag(self):
        return self.draw(st.booleans())

    def among(self, *options):
        return self.draw(st.sampled_from(options))


def conv1d(s, **options):
    channels, kernel = s(), s(1, 3)
    conv = nn.Conv1d(channels, s(), kernel, **{"stride": s(1, 2), "padding": s(0, 2), "bias": s.flag(), **options})
    return nn.Sequential(conv, nn.Tanh()), (channels, s(4, 7))


def conv2d(s, channels=None, **options):
    channels = channels or s(1, 3)
    # Torch warns of "same" padding with even kernels.
    kernel = (s.among(1, 3), 3) if options.get("padding") == "same" else (s(1, 3), s(1, 3))
    options = {"stride": (s(1, 2), s(1, 2)), "padding": (s(0, 1), s(0, 1)), "bias": s.flag(), **options}
    return nn.Sequential(nn.Conv2d(channels, options.pop("out", s()), kernel, **options), nn.Tanh()), (channels, s(4, 6), s(4, 6))


def with_head(body, sample, outputs, bias=True):
    """A body, then a linear output layer of the right size."""
    size = body.double()(torch.zeros(2, *sample, dtype=torch.float64)).reshape(2, -1).shape[1]
    return nn.Sequential(body, nn.Flatten(), nn.Linear(size, outputs, bias=bias)), sample


def convolutional(build):
    return lambda s: with_head(*build(s), s(1, 4), s.flag())


def perceptron(*between):
    """Linear, some layers, Linear."""

    def build(s):
        d, m = s(), 2 * s(2, 4)
        return nn.Sequential(nn.Linear(d, m, bias=s.flag()), *[layer(m) for layer in between], nn.Linear(m, s(1, 10))), (d,)

    return build


def custom(forward, **layers):
    def build(s):
        d = s(2, 5)
        return Forward(forward, **{name: layer(d) for name, layer in layers.items()}), (d,)

    return build


class FreeParameters(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.randn(d)), nn.Parameter(torch.randn(()))

    def forward(self, x):
        return x * self.scale + self.shift


class LayerOnAFreeVector(nn.Module):
    """A layer that works on a parameter, not on the inputs, as in a hypernetwork."""

    def __init__(self, d):
        super().__init__()
        self.code, self.layer, self.conv = nn.Parameter(torch.randn(3)), nn.Linear(3, d), nn.Conv1d(1, 1, 1)

    def forward(self, x):
        return x * self.layer(self.code) + self.conv(self.code[None]).sum()


class Attention(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.attention = nn.MultiheadAttention(d, heads, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0].mean(1)


def square(d):
    return nn.Linear(d, d)


MODULES = {
    "linear": lambda s: (nn.Linear(d := s(), s(1, 10)), (d,)),
    "linear without bias": lambda s: (nn.Linear(d := s(), s(), bias=False), (d,)),
    "one hidden layer": perceptron(lambda m: nn.Tanh()),
    "three layers": perceptron(lambda m: nn.GELU(), lambda m: nn.Linear(m, m), lambda m: nn.SiLU()),
    "the paper's scaling": lambda s: (pl.MLP(d := s(), [s(1, 8), s(1, 8)], s(1, 10)), (d,)),
    "ReLU in place": perceptron(lambda m: nn.ReLU(inplace=True)),
    "LeakyReLU": perceptron(lambda m: nn.LeakyReLU(0.1)),
    "PReLU": perceptron(lambda m: nn.PReLU()),
    "PReLU by channel": perceptron(lambda m: nn.PReLU(m)),
    "GLU": perceptron(lambda m: nn.GLU(), lambda m: nn.Linear(m // 2, m)),
    "softmax": perceptron(lambda m: nn.Softmax(dim=1)),
    "dropout, evaluating": lambda s: (nn.Sequential(nn.Linear(d := s(), 3), nn.Dropout(0.5), nn.Linear(3, 2)).eval(), (d,)),
    "nested": perceptron(lambda m: nn.Sequential(nn.Tanh(), nn.Sequential(nn.Linear(m, m)), nn.Tanh())),
    "LayerNorm": perceptron(lambda m: nn.LayerNorm(m), lambda m: nn.Tanh()),
    "LayerNorm without parameters": perceptron(lambda m: nn.LayerNorm(m, elementwise_affine=False)),
    "RMSNorm": perceptron(lambda m: nn.RMSNorm(m)),
    "GroupNorm": perceptron(lambda m: nn.GroupNorm(2, m)),
    "batch norm, evaluating": lambda s: (
        nn.Sequential(nn.Linear(d := s(), 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, s())).eval(), (d,)
    ),
    "Bilinear": custom(lambda m, x: m.out(m.mix(x, x).tanh()), mix=lambda d: nn.Bilinear(d, d, 3), out=lambda d: nn.Linear(3, 2)),
    "positions": lambda s: (nn.Sequential(nn.Linear(d := s(), s()), nn.Tanh(), nn.Flatten()), (s(1, 4), d)),
    "two axes of positions": lambda s: (nn.Sequential(nn.Linear(d := s(), 2, bias=s.flag()), nn.Flatten()), (s(1, 3), s(1, 3), d)),
    "residual": custom(lambda m, x: m.out(x + m.a(x).tanh()), a=square, out=lambda d: nn.Linear(d, 2)),
    "two branches": custom(lambda m, x: m.a(x).tanh() + m.b(x).sigmoid() * x, a=square, b=square),
    "layer used twice": custom(lambda m, x: m.out(m.a(m.a(x).tanh())), a=square, out=lambda d: nn.Linear(d, 3)),
    "tied weights": lambda s: (tied(d := s()), (d,)),
    "weight also outside": custom(lambda m, x: m.a(x).tanh() @ m.a.weight + m.b(x), a=square, b=square),
    "weight norm": lambda s: (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(d := s(), 4)), nn.Linear(4, 2)), (d,)),
    "frozen parts": lambda s: (frozen(nn.Sequential(nn.Linear(d := s(), 4), nn.Tanh(), nn.Linear(4, 2)), "0.weight", "2.bias"), (d,)),
    "free parameters": perceptron(FreeParameters, lambda m: nn.Tanh()),
    "layer on a free vector": perceptron(LayerOnAFreeVector, lambda m: nn.Tanh()),
    "inputs sorted inside": custom(
        lambda m, x: m.b(m.a(x[x[:, 0].argsort()]).tanh()[x[:, 0].argsort().argsort()]), a=square, b=square
    ),
    "hook on a layer": lambda s: (hooked(nn.Linear(d := s(), s())), (d,)),
    "Conv1d": convolutional(conv1d),
    "Conv1d, dilated": convolutional(lambda s: conv1d(s, dilation=2, padding=2)),
    "Conv1d, reflecting": convolutional(lambda s: conv1d(s, padding_mode="reflect", padding=2)),
    "Conv2d": convolutional(conv2d),
    "Conv2d, dilated": convolutional(lambda s: conv2d(s, dilation=(2, 1), padding=2)),
    "Conv2d, grouped": convolutional(lambda s: conv2d(s, channels=4, groups=2, out=6)),
    "Conv2d, by channel": convolutional(lambda s: conv2d(s, channels=3, groups=3, out=3)),
    "Conv2d, circular": convolutional(lambda s: conv2d(s, padding_mode="circular", padding=(1, 2))),
    "Conv2d, replicating": convolutional(lambda s: conv2d(s, padding_mode="replicate", padding=1)),
    "Conv2d, same": convolutional(lambda s: conv2d(s, padding="same", stride=1)),
    "Conv2d, valid": convolutional(lambda s: conv2d(s, padding="valid")),
    "Conv2d, same circular": convolutional(lambda s: conv2d(s, padding="same", stride=1, padding_mode="circular")),
    "Conv2d, pooled": lambda s: with_head(nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2)), (1, 8, 8), s()),
    "Conv2d, batch norm, evaluating": lambda s: with_head(nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Tanh()).eval(), (1, 3, 4), s()),
    "Conv2d, global pooling": lambda s: (
        nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, s(1, 10))), (2, 5, 3)
    ),
    "ConvTranspose2d": convolutional(lambda s: (nn.Sequential(nn.ConvTranspose2d(2, 3, 2), nn.Tanh()), (2, 3, 3))),
    "Conv3d": convolutional(lambda s: (nn.Sequential(nn.Conv3d(1, 2, 2), nn.Tanh()), (1, 3, 3, 2))),
    "attention": lambda s: (nn.Sequential(Attention(4, s.among(1, 2, 4)), nn.Linear(4, 2)), (s(1, 4), 4)),
    "transformer encoder layer": lambda s: (
        nn.Sequential(nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), nn.Flatten(), nn.LazyLinear(2)).eval(), (3, 4)
    ),
    "embedding": lambda s: (nn.Sequential(nn.Embedding(5, d := s()), nn.Flatten(), nn.Linear(3 * d, 2)), None),
}


def hooked(layer):
    layer.register_forward_hook(lambda layer, args, output: 2 * output)
    return layer


def materialized(module, inputs):
    """Lazy layers take their size from a first call."""
    with torch.no_grad():
        output = module.double()(inputs)
    return output.reshape(len(inputs), -1).shape


@pytest.mark.parametrize("kind", MODULES)
@given(data=st.data())
@runs(max_examples=6)
def test_every_kind_of_module_equals_the_twin(kind, data):
    seed, n = data.draw(st.integers(0, 10**6)), data.draw(st.integers(1, 6))
    module, sample = seeded(lambda: MODULES[kind](Sizes(data.draw)), seed)
    inputs = torch.randint(5, (n, 3), generator=torch.Generator().manual_seed(seed)) if sample is None else randn(n, *sample, seed=seed)
    targets = torch.zeros(seeded(lambda: materialized(module, inputs), seed), dtype=torch.float64)
    system = pl.NetworkSystem(module, inputs, targets)
    w = system.start + 0.1 * randn(system.num_parameters, seed=seed + 1)
    jacobian = reference.jacobian(system, w)
    expected = jacobian @ jacobian.T
    for method in ("auto", "jacobian"):
        kernel = pl.tangent_kernel(system, w, method=method)
        assert (kernel - expected).abs().max() <= 1e-10 * expected.abs().max()


def test_there_are_at_least_forty_kinds():
    assert len(MODULES) >= 40


def part_of(layer, num_inputs, seed):
    """Three positions of a layer in a network with two outputs: random inputs and derivatives."""
    shape = (num_inputs, 3, layer.out_features)
    derivatives = (randn(*shape, seed=seed + 1), randn(*shape, seed=seed + 2))
    return contributions.LayerPart(layer, ("weight",), randn(num_inputs, 3, layer.in_features, seed=seed), derivatives)


def gradients(part):
    """Row by row: the gradient of each output on each input."""
    return torch.stack([d[i].T @ part.inputs[i] for i in range(len(part)) for d in part.derivatives]).flatten(1)


@pytest.mark.parametrize("workspace", [1, 2000, 10**9])
@pytest.mark.parametrize("num_inputs", [5, 150])
def test_both_formulas_agree_in_blocks_of_any_size(num_inputs, workspace):
    """The cheaper formula is chosen by cost; here each is forced, from the smallest blocks to one block."""
    layer = nn.Linear(4, 6)
    left, right = part_of(layer, num_inputs, 0), part_of(layer, 4, 3)
    for other in (left, right):
        expected = gradients(left) @ gradients(other).T
        lower = torch.ones_like(expected).tril() if other is left else torch.ones_like(expected)
        for formula in (contributions.add_by_positions, contributions.add_by_gradients):
            kernel = torch.zeros_like(expected)
            formula(kernel, left, other, workspace)
            assert ((kernel - expected) * lower).abs().max() < 1e-12 * expected.abs().max()
            shifted = contributions.LayerPart(layer, ("weight",), left.inputs.flip(1), left.derivatives)  # positions out of step
            wrong = torch.zeros_like(expected)
            formula(wrong, shifted, shifted if other is left else other, workspace)
            assert ((wrong - kernel) * lower).abs().max() > 0.1


def test_only_half_of_a_symmetric_block_is_computed():
    part, kernel = part_of(nn.Linear(4, 6), 150, 0), torch.zeros(300, 300, dtype=torch.float64)
    contributions.add_by_positions(kernel, part, part, 10**9)
    half = 2 * contributions._step(part)
    assert (kernel[:half, half:] == 0).all() and (kernel[half:, :half] != 0).all()


class Middle(Sizes):
    """No draw: the middle of every range, the first of every choice."""

    def __init__(self):
        pass

    def __call__(self, low=1, high=5):
        return (low + high) // 2

    def flag(self):
        return True

    def among(self, *options):
        return options[0]


def middle(kind):
    return seeded(lambda: MODULES[kind](Middle()))


ROUTES = {
    "layer used twice": {"a.weight": "called 2 times", "a.bias": "called 2 times"},
    "tied weights": {"0.weight": "more than once"},
    "weight also outside": {"a.weight": "outside its layer"},
    "LayerNorm": {"1.weight": "LayerNorm", "1.bias": "LayerNorm"},
    "Conv3d": {"0.0.weight": "Conv3d", "0.0.bias": "Conv3d"},
    "inputs sorted inside": {"a.weight": "order", "a.bias": "order"},
    "hook on a layer": {"weight": "hook", "bias": "hook"},
    "weight norm": {"0.parametrizations.weight.original0": "", "0.parametrizations.weight.original1": "", "0.bias": "Parametrized"},
    "Conv2d, global pooling": {},
    "positions": {},
}


@pytest.mark.parametrize("kind", ROUTES)
def test_explain_names_the_route_of_each_parameter_and_the_reason(kind):
    module, sample = middle(kind)
    system = network(lambda: module, *sample, num_inputs=5)
    explained = pl.explain_kernel(system)
    assert [r.parameter for r in explained.routes] == list(dict(module.named_parameters()))
    others = {r.parameter: r.reason for r in explained.routes if r.route == "jacobian"}
    assert others.keys() == ROUTES[kind].keys()
    assert all(word in others[name] for name, word in ROUTES[kind].items()), others
    assert all(r.parameter in str(explained) and r.reason in str(explained) for r in explained.routes)
    if others:
        with pytest.raises(ValueError, match='method "layers" cannot be used'):
            pl.tangent_kernel(system, method="layers")
    else:
        assert torch.equal(pl.tangent_kernel(system, method="layers"), pl.tangent_kernel(system))


def test_a_plain_system_has_one_route():
    (route,) = pl.explain_kernel(pl.toys.product()).routes
    assert route.route == "jacobian" and "plain function" in route.reason


TILED = ["three layers", "Conv2d, global pooling", "Conv2d, grouped", "LayerNorm", "attention", "weight also outside"]


@pytest.mark.parametrize("kind", TILED)
def test_tiles_and_other_inputs_give_blocks_of_the_same_kernel(kind):
    """13 inputs at once, in tiles of any size, and the first 8 against the last 5."""
    module, sample = middle(kind)
    system = network(lambda: module, *sample, num_inputs=13)
    whole = pl.tangent_kernel(system)
    for memory_budget in (1, 20_000, 200_000):
        assert (pl.tangent_kernel(system, memory_budget=memory_budget) - whole).abs().max() < 1e-12 * whole.max()
    inputs, split = system._samples, 8 * system._outputs
    part = pl.NetworkSystem(module, inputs[:8], system.targets.view(13, -1)[:8])
    for method in ("auto", "jacobian"):
        block = pl.tangent_kernel(part, other=inputs[8:], method=method)
        assert (block - whole[:split, split:]).abs().max() < 1e-12 * whole.max()
        assert (block - pl.tangent_kernel(part, other=inputs[8:].flip(0))).abs().max() > 1e-3 * whole.max()
    block = pl.tangent_kernel(part, other=inputs, memory_budget=1)
    assert (block - whole[:split]).abs().max() < 1e-12 * whole.max()


def test_the_progress_bar_reaches_its_end(monkeypatch):
    updates = []

    class Bar(tiles.tqdm):
        def update(self, n=1):
            updates.append(n / self.total)

    monkeypatch.setattr(tiles, "tqdm", Bar)
    module, sample = middle("LayerNorm")
    pl.tangent_kernel(network(lambda: module, *sample, num_inputs=13), memory_budget=20_000)
    assert len(updates) > 20 and sum(updates) == pytest.approx(1)


@pytest.mark.parametrize(
    "other, words",
    [
        (randn(4, 2), ["(any number, 3)", "(4, 2)"]),
        (torch.zeros(4, 3, dtype=torch.int64), ["float64", "int64"]),
        (randn(0, 3), ["other", "empty"]),
        (randn(4, 3) / 0, ["other", "finite"]),
    ],
)
def test_other_inputs_that_do_not_fit_are_refused(other, words):
    with pytest.raises(ValueError) as caught:
        pl.tangent_kernel(network(lambda: nn.Linear(3, 1), 3), other=other)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_other_inputs_and_memory_are_checked():
    with pytest.raises(ValueError, match="NetworkSystem"):
        pl.tangent_kernel(pl.toys.product(), other=[[1.0]])
    with pytest.raises(ValueError, match="memory_budget.*0"):
        pl.tangent_kernel(pl.toys.product(), memory_budget=0)


def test_a_module_that_treats_inputs_differently_is_refused_across_tiles():
    def forward(m, x):
        return m.a(x).tanh() if len(x) > 1 else torch.nn.functional.linear(x, m.a.weight, m.a.bias).tanh()

    system = network(lambda: Forward(forward, a=square(3)), 3, num_inputs=5)
    cost = tiles.pass_cost(system, layers.probe(system, system.start, system._samples))
    with pytest.raises(ValueError, match="differently.*jacobian"):
        pl.tangent_kernel(system, memory_budget=6 * cost.needed)  # one tile of one input, two tiles of two


@pytest.mark.parametrize("kind", ["three layers", "Conv2d, grouped", "transformer encoder layer", "LayerNorm"])
def test_the_matrix_free_product_is_the_product(kind):
    module, sample = middle(kind)
    system = network(lambda: module, *sample)
    vector = randn(system.num_equations, seed=5)
    product = pl.kernel_vector_product(system, vector)
    assert (product - pl.tangent_kernel(system) @ vector).abs().max() < 1e-11 * product.abs().max()
    with pytest.raises(ValueError, match="one number per equation"):
        pl.kernel_vector_product(system, vector[1:])
