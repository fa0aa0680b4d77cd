"""Enclosures against many digits: no exact result outside its bounds, and bounds that stay close."""

import importlib
import math
from contextlib import ExitStack
from unittest import mock

import mpmath
import numpy as np
import pytest
import torch
from exact_functions import FUNCTIONS, LAYERS, POLYNOMIALS, TORCH, exact, exact_jacobian, outside, random_function
from helpers import randn, seeded
from torch import nn
from torch.func import functional_call, jacrev, vjp, vmap

from plbook.verified import Enclosure, NotEnclosed, enclose
from plbook.verified.enclosures import Replay, trace
from plbook.verified.rounding import TINY, UNIT, gamma

arithmetic, functions, rules = (
    importlib.import_module(f"plbook.verified.{name}") for name in ("arithmetic", "functions", "rules")
)
RANDOM, CHUNK = 48, 12


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


# Whole functions and their derivatives


def both(function):
    """A function of TORCH's, and its derivative, each with the oracle."""
    value = lambda w: function(TORCH, w)
    return [(value, lambda w: exact(function, w)), (jacrev(value), lambda w: exact_jacobian(function, w))]


@pytest.mark.parametrize("first", range(0, RANDOM, CHUNK))
def test_random_functions_and_their_derivatives_are_enclosed(first):
    for seed in range(first, first + CHUNK):
        function, w = random_function(seed)
        assert [outside(enclose(traced, w), truth(w)) for traced, truth in both(function)] == [0, 0], seed


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_enclosed_at_every_scale(name):
    for scale in (1e-8, 1e-3, 1.0, 1e3, 1e8) if name in POLYNOMIALS else (1e-8, 0.1, 2.0):
        w = scale * randn(4, seed=3)
        for traced, truth in both(FUNCTIONS[name]):
            enclosure = enclose(traced, w)
            assert outside(enclosure, truth(w)) == 0
            if scale in (1.0, 2.0) and name != "batch norm":
                # A few dozen operations on numbers of size 1.
                assert enclosure.error.max() <= 2e-13


def test_cancellation_is_seen():
    """(w^2 + 1) - w^2 at 1e9 and 1e200 is 1; float64 says 0, and the bound covers the difference, not much more."""
    for w in (1e9, 1e100):
        enclosure = enclose(lambda w: (w**2 + 1) - w**2, tensor([w]))
        assert enclosure.value.item() == 0 and 1 <= enclosure.error.item() <= 1 + 5 * UNIT * w**2
    enclosure = enclose(lambda w: w**2 + 1, tensor([1e9]))
    assert enclosure.value.item() == 1e18 and 1 <= enclosure.error.item() < 400


def test_small_results_keep_a_bound():
    """1e-200^2 is 1e-400, which float64 rounds to 0."""
    enclosure = enclose(lambda w: w**2, tensor([1e-200]))
    assert enclosure.value.item() == 0 and 0 < enclosure.error.item() <= 1e-300
    assert enclose(lambda w: torch.exp(w), tensor([-800.0])).error.item() >= 5e-324


# Each entry is a way to drop one part of the error.
MUTATIONS = {
    "roundings of sums and products": {arithmetic: {"UNIT": 0.0, "gamma": lambda terms: 0.0}},
    "of inner products only": {arithmetic: {"gamma": lambda terms: 0.0}},
    "errors that spread through functions": {functions: {"propagated": lambda result, x, slope: result}},
    "underflow": {arithmetic: {"TINY": 0.0}, functions: {"TINY": 0.0}},
}
FOUND_BY = {
    "roundings of sums and products": FUNCTIONS["quadratic"],
    "of inner products only": FUNCTIONS["linear"],
    "errors that spread through functions": lambda xp, w: xp.exp(50 * w * w),  # 50 times the error of w * w
    "underflow": lambda xp, w: (w * 1e-170) ** 2 * 1e200 * 1e150,
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_missing_part_of_the_error_is_found(name):
    function = FOUND_BY[name]
    points = randn(40, 4, seed=1)
    traced, truth = both(function)[0]
    assert sum(outside(enclose(traced, w), truth(w)) for w in points) == 0
    with ExitStack() as stack:
        for module, parts in MUTATIONS[name].items():
            stack.enter_context(mock.patch.multiple(module, **parts))
        assert sum(outside(enclose(traced, w), truth(w)) for w in points) > 0


# Layers, with errors that are large: replayed on intervals, compared at their corners

LAYER_MODULES = {
    "Linear": (lambda: nn.Linear(4, 3), (2, 4)),
    "Conv1d": (lambda: nn.Conv1d(2, 4, 3, padding=1, stride=2, groups=2), (2, 2, 5)),
    "Conv2d": (lambda: nn.Conv2d(2, 3, 2, dilation=2), (2, 2, 4, 4)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 2, 2, stride=2, groups=2), (2, 4, 2, 3)),
    "pools": (lambda: nn.Sequential(nn.AvgPool2d(2, padding=1), nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten()), (2, 2, 4, 4)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(2).eval(), (2, 2, 3, 3)),
    "LayerNorm": (lambda: nn.LayerNorm(4), (3, 4)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (2, 4, 3)),
    "Softmax": (lambda: nn.Softmax(-1), (2, 4)),
    "attention": (lambda: nn.MultiheadAttention(4, 2, batch_first=True), (2, 3, 4)),
    "residual": (lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.GELU(), nn.ELU(), nn.SiLU()), (2, 4)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), (1, 2, 4, 4)),  # without its derivative, which is refused
}


def layer(name):
    """A function of inputs and parameters, and both."""
    build, shape = LAYER_MODULES[name]
    module = seeded(build).double()
    names, values = zip(*((own, p.detach()) for own, p in module.named_parameters())) if list(module.parameters()) else ((), ())

    def function(x, *values):
        arguments = (x, x, x) if name == "attention" else (x,)
        result = functional_call(module, dict(zip(names, values)), arguments)
        return result[0] if name == "attention" else result

    return function, (randn(*shape, seed=5), *values)


def pulled_back(function):
    """All derivatives in one direction."""

    def derivatives(*arguments):
        value, pullback = vjp(function, *arguments)
        return pullback(torch.ones_like(value) + 0.5 * value.detach())

    return derivatives


@pytest.mark.parametrize(
    ("name", "derivative"), [(name, derivative) for name in LAYER_MODULES for derivative in (False, True)][:-1]
)
def test_layers_spread_errors(name, derivative):
    function, arguments = layer(name)
    traced = pulled_back(function) if derivative else function
    graph, _ = trace(traced, *arguments)
    for size in (1e-3, 0.05):
        errors = [size * torch.rand(a.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) for a in arguments]
        results = Replay(graph).run(*map(Enclosure, arguments, errors))
        for seed in range(12):
            signs = [torch.sign(randn(*e.shape, seed=seed)) if e.ndim else torch.ones(()) for e in errors]
            corner = [a + s * e for a, s, e in zip(arguments, signs, errors)]
            outputs = traced(*corner)
            for output, result in zip(outputs if derivative else [outputs], results):
                # Rounding is nothing beside these errors.
                assert ((output - result.value).abs() <= result.error * (1 + 1e-9) + 1e-12).all()


CONVOLUTIONS = [
    ((2, 4, 6), (6, 2, 3), dict(groups=2), False),
    ((1, 3, 5, 5), (2, 3, 2, 2), dict(stride=(2, 1), dilation=(1, 2)), False),
    ((3, 4, 3, 3), (4, 3, 2, 2), dict(groups=2), True),
    ((1, 2, 3), (2, 1, 3), dict(stride=2), True),
]


@pytest.mark.parametrize(("x", "weight", "options", "transposed"), CONVOLUTIONS)
def test_convolutions_count_their_products(x, weight, options, transposed):
    """With ones everywhere an entry is the number of its products, and its error at least gamma of that times it."""
    d = len(x) - 2
    settings = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | options
    as_list = lambda value: list(value) if isinstance(value, tuple) else [value] * d
    tail = [*(as_list(settings[key]) for key in ("stride", "padding", "dilation")), transposed, [0] * d, settings["groups"]]
    ones = [Enclosure(torch.ones(shape, dtype=torch.float64)) for shape in (x, weight)]
    result = rules.RULES[rules.aten.convolution.default](*ones, None, *tail)
    grad = Enclosure(torch.ones_like(result.value))
    back = rules.RULES[rules.aten.convolution_backward.default](grad, *ones, None, *tail, [True, True, False])
    for part in (result, *back[:2]):
        most = int(part.value.max())
        assert part.error[part.value == most].min() >= most * gamma(most)
        assert (part.error <= 4 * most * gamma(most)).all()


# What is refused

W = tensor([1.0, 2.0, 3.0])
ESCAPES = {
    "item": lambda w: w * w[0].item(),
    "float": lambda w: w * float(w[0]),
    "numpy": lambda w: w * torch.from_numpy(np.sin(w.detach().numpy())),
    "array": lambda w: w * torch.as_tensor(np.asarray(w.detach())),
    "list": lambda w: w * torch.tensor(w.tolist(), dtype=torch.float64),
    "decision": lambda w: w if w.sum() > 0 else -w,
    "entry": lambda w: w[w.argmax()][None],
}


@pytest.mark.parametrize("name", ESCAPES)
def test_a_value_that_leaves_torch_is_found(name):
    with pytest.raises(NotEnclosed, match="cannot be traced"):
        enclose(ESCAPES[name], W)


REFUSALS = {
    "comparison": (lambda w: torch.where(w > 0, w, -w), "aten.gt.Scalar is not enclosed: it has no rule"),
    "derivative of relu": (jacrev(torch.relu), "aten.threshold_backward.default is not enclosed"),
    "derivative of a maximum": (
        jacrev(lambda w: nn.functional.max_pool2d(w.reshape(1, 1, 1, 3), (1, 3)).reshape(1)),
        "it needs to know which entry of a window is largest",
    ),
    "derivative of abs": (jacrev(torch.abs), "aten.sgn.default"),
    "derivative of elu": (jacrev(lambda w: nn.functional.elu(w, 2.0)), "jumps at 0"),
    "float32": (lambda w: w.float().double(), "it rounds to torch.float32"),
    "float32 constants": (lambda w: w * (torch.tensor([0.1, 0.2, 0.3]) * torch.tensor([0.3])), "it rounds to torch.float32"),
    "complex": (lambda w: torch.complex(w, w).real, "torch.complex128"),
    "random": (lambda w: w + torch.rand(3, dtype=torch.float64), "aten.rand"),
    "no rule": (lambda w: w.sort().values, "aten.sort.default is not enclosed: it has no rule"),
    "singular": (lambda w: torch.log(w - 1), "reaches a singularity"),
    "division by 0": (lambda w: 1 / (w * 0.1 - 0.2), "reaches a singularity"),
    "overflow": (lambda w: (w * 1e200) ** 2, "beyond float64"),
    "infinite constant": (lambda w: torch.where(torch.tensor([True, False, True]), w, -math.inf), "beyond float64"),
    "exponent": (lambda w: w**0.1, "too many digits"),
    "writing twice": (lambda w: w.new_zeros(3).index_put((torch.tensor([0, 0, 1]),), w), "it writes twice"),
    "divisor": (lambda w: nn.functional.avg_pool2d(w.reshape(1, 1, 1, 3), (1, 3), divisor_override=-2), "divisor of one's own"),
    "norm at 0": (lambda w: (w - w).norm(), "reaches a singularity"),
    "batch norm": (lambda w: nn.functional.batch_norm(w[:, None], None, None, training=True), "training mode"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_enclosed_is_refused_by_name(name):
    function, message = REFUSALS[name]
    with pytest.raises(NotEnclosed, match=message):
        enclose(function, W)


@pytest.mark.parametrize("argument", [torch.ones(3), torch.ones(3, dtype=torch.int64), [1.0]])
def test_wrong_arguments_are_refused(argument):
    with pytest.raises(NotEnclosed, match="must be float64 tensors"):
        enclose(torch.sin, argument)


# What is accepted


def test_results_keep_their_structure():
    results = enclose(lambda a, b: {"sum": a + b, "both": [a @ b, (a.sum(), b[None])]}, W, 2 * W)
    assert results["sum"].value.tolist() == [3, 6, 9] and results["both"][0].value.item() == 28
    assert results["both"][1][1].value.shape == (1, 3) and results["both"][1][1].error.tolist() == [[0, 0, 0]]
    assert results["sum"].magnitude.ge(results["sum"].value.abs()).all()


def in_place(w):
    out = torch.zeros(3, dtype=torch.float64)
    out[0] = w[0] * w[1]
    out[1:] = w[1:] ** 2
    out += 1
    return out.mul_(2)


def test_writing_into_ones_own_tensors_is_fine():
    enclosure = enclose(in_place, W)
    assert enclosure.value.tolist() == [6, 10, 20] and enclosure.error.max() < 1e-14


def test_constants_are_exact_tensors_and_rounded_numbers():
    """A tensor holds what it holds; the number 0.1 may stand for 1/10."""
    held = enclose(lambda w: w * tensor([0.1, 0.1, 0.1]), tensor([1.0, 1.0, 1.0]))
    written = enclose(lambda w: w * 0.1, tensor([1.0, 1.0, 1.0]))
    with mpmath.workdps(50):
        assert abs(mpmath.mpf(0.1) - held.value[0].item()) <= held.error[0].item()
        assert all(abs(mpmath.mpf("0.1") - written.value[0].item()) <= written.error[0].item() for _ in "1")
    assert enclose(lambda w: w * 0.5 + w * 4, W).error.max() < 2 * 14 * UNIT
    assert enclose(lambda w: 4 * w, W).error.max() == 0 and enclose(lambda w: w / 4, W).error.max() <= 2 * TINY


def test_rounded_constants_of_derivatives_are_counted():
    """torch multiplies by a float64 number in place of 2 / sqrt(pi)."""
    assert outside(enclose(torch.func.grad(torch.erf), tensor(0.0)), np.array(2 / mpmath.sqrt(mpmath.pi))) == 0
    number = arithmetic.enclosed(2 / math.sqrt(math.pi))
    assert number.error > 0 and arithmetic.enclosed(1.5).error is None


def test_derivatives_of_batches_are_enclosed():
    module = seeded(lambda: nn.Sequential(nn.Conv2d(1, 2, 2), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2, 1))).double()
    parameters = dict(module.named_parameters())
    inputs = randn(3, 1, 3, 3)

    def derivatives(weight):
        def of_one(weight, x):
            return functional_call(module, {**parameters, "0.weight": weight}, (x[None],))[0, 0]

        return vmap(torch.func.grad(of_one), (None, 0))(weight, inputs)

    weight = parameters["0.weight"].detach()
    enclosure = enclose(derivatives, weight)
    torch.testing.assert_close(enclosure.value, derivatives(weight), rtol=1e-13, atol=1e-13)
    assert 0 < enclosure.error.max() < 1e-14


def test_exact_entries_that_move_stay_exact():
    moved = enclose(lambda w: torch.stack([w.flip(0), w.roll(1), w[[2, 0, 1]]]).T.reshape(-1)[::2], W)
    assert moved.error.max() == 0 and moved.value.shape == (5,)


def test_sums_into_one_entry_are_counted():
    """The derivative of w[[0, 0, 0]] adds three numbers."""
    big = tensor([1.0, 2.0**-53, 2.0**-53])
    enclosure = enclose(lambda big: vjp(lambda w: w[[0, 0, 0]], tensor([0.0]))[1](big)[0], big)
    with mpmath.workdps(50):
        truth = 1 + 2 * mpmath.mpf(2) ** -53
        assert abs(enclosure.value.item() - truth) <= enclosure.error.item() and enclosure.error.item() < 1e-15


def test_every_layer_has_its_case():
    assert {"convolutions", "pools", "layer norm", "softmax", "attention"} <= set(LAYERS)
