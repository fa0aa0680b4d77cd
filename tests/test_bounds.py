import math

import bound_slopes
import curvature_trials
import pytest
import torch
from helpers import EXAMPLES, Forward, network, randn
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

import plbook as pl
from plbook.bounds import activations, estimate
from plbook.bounds.graph import Kinked, NotLayered, backward, forward, layer_inputs, parameters, read_graph
from plbook.bounds.layered import Layered, _adjoint_changes
from plbook.bounds.maps import FEW_ROWS, LinearMap, Map

CERTIFIED = ["MLP", "biases", "frozen", "one input"]
NOT_CERTIFIED = {"normalized": "LayerNorm", "convolutional": "BatchNorm2d", "tied": "used twice"}

ACTIVATIONS = {
    "tanh": activations.of_module(nn.Tanh()),
    "sigmoid": activations.of_module(nn.Sigmoid()),
    "softplus": activations.of_module(nn.Softplus()),
    "sharp softplus": activations.of_module(nn.Softplus(beta=4.0)),
    "gelu": activations.of_module(nn.GELU()),
    "silu": activations.of_module(nn.SiLU()),
    "erf": activations.FUNCTIONS[torch.erf],
    "sin": activations.FUNCTIONS[torch.sin],
}


# Activations on intervals


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_are_those_of_the_function(name):
    """Against torch's own, at points that include both signs, 0 and saturation."""
    # torch's softplus is the identity beyond beta x = 20.
    activation, x = ACTIVATIONS[name], torch.linspace(-9, 4.9 if name == "sharp softplus" else 9, 2001, dtype=torch.float64)
    first = torch.func.vmap(torch.func.grad(activation.function))
    second = torch.func.vmap(torch.func.grad(torch.func.grad(activation.function)))
    assert_close(activation.derivative(x), first(x), rtol=1e-12, atol=1e-14)
    assert_close(activation.second_derivative(x), second(x), rtol=1e-10, atol=1e-14)


@given(name=st.sampled_from(sorted(ACTIVATIONS)), middle=st.floats(-8, 8), half=st.floats(1e-6, 12))
@runs(max_examples=300)
def test_ranges_on_an_interval_are_exact(name, middle, half):
    """Never inside what a fine grid sees, and nowhere wider than the grid can miss: half a curvature times its step."""
    activation = ACTIVATIONS[name]
    low, high = (torch.tensor([middle + side * half], dtype=torch.float64) for side in (-1, 1))
    grid = torch.linspace(low.item(), high.item(), 4001, dtype=torch.float64)
    smallest, largest = activation.derivative_range(low, high)
    slopes, curvatures = activation.derivative(grid), activation.second_derivative(grid).abs()
    curvature = activation.largest_curvature(low, high)
    assert smallest <= slopes.min() and largest >= slopes.max() and curvature >= curvatures.max()
    step = 2 * half / 4000
    # A smooth function between grid points differs from the nearest one by at most its derivative times half a step; the
    # second derivatives here have derivatives below 16 + 64 (softplus with beta 4), the first ones below the curvature.
    assert slopes.min() - smallest <= curvature * step + 3e-13 and largest - slopes.max() <= curvature * step + 3e-13
    assert curvature - curvatures.max() <= 16 * step + 2e-13


def test_turns_are_where_the_derivatives_turn():
    """Each listed turn is a zero of the next derivative, and a fine grid shows no other sign change."""
    grid = torch.linspace(-9.005, 9.005, 18_000, dtype=torch.float64)
    for name, activation in ACTIVATIONS.items():
        third = torch.func.vmap(torch.func.grad(activation.second_derivative))
        for values, turns in ((activation.second_derivative(grid), activation.turns), (third(grid), activation.second_turns)):
            big = values.abs() > 1e-9
            signs = values[big].sign()
            found = grid[big][1:][signs[1:] != signs[:-1]]
            if activation.period is not None:
                expected = sum(-9 < turn + k * activation.period < 9 for turn in turns for k in range(-3, 4))
            else:
                expected = len(turns)
                assert_close(found, torch.tensor(sorted(turns), dtype=torch.float64), rtol=0, atol=2e-3)
            assert len(found) == expected, name


# Maps over a ball


def random_map(kind, seed, samples=2, rows=4, columns=3, radius=0.3):
    """(Map, members): matrices M(w) that it covers, some of them at the edge."""
    draw = [randn(samples, rows, columns, seed=seed + i) for i in range(6)]
    if kind == "diagonal":
        middle, spread = randn(samples, rows, seed=seed), randn(samples, rows, seed=seed + 1).abs()
        members = [torch.diag_embed(middle + sign * spread) for sign in (-1, 0, 1)]
        return Map(middle, spread), members
    moves = [radius * part / torch.linalg.matrix_norm(part, 2)[:, None, None] for part in draw[1:]]
    if kind == "none":
        return Map(None, torch.full((samples,), radius, dtype=torch.float64)), moves
    return Map(draw[0], torch.full((samples,), radius, dtype=torch.float64)), [draw[0] + move for move in moves]


def covers(found, member):
    """Whether a Map covers a matrix, up to rounding, by its center and by its norm."""
    norm = torch.linalg.matrix_norm(member, 2)
    inside = norm <= found.norm * (1 + 1e-9)
    if found.center is None:
        return bool(inside.all())
    if found.diagonal:
        off = (torch.diagonal(member, dim1=1, dim2=2) - found.center).abs() - found.radius
        return bool((off <= 1e-12).all() and inside.all())
    off = torch.linalg.matrix_norm(member - found.center, 2) - found.radius
    return bool((off <= 1e-12).all() and inside.all())


KINDS = ["diagonal", "full", "none"]


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10**6))
@runs(max_examples=25)
def test_a_diagonal_between_two_bounds_times_a_map(kind, seed):
    found, members = random_map(kind, seed)
    low, size = randn(2, 4, seed=seed + 50), randn(2, 4, seed=seed + 51).abs()
    scaled = found.scaled(low, low + size)
    for member in members:
        for share in (0.0, 0.4, 1.0):
            assert covers(scaled, (low + share * size)[:, :, None] * member)
    outside = (low + 3 * size + 3)[:, :, None] * (members[0] * 4)
    assert not covers(scaled, outside)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [2, FEW_ROWS + 1])
@given(seed=st.integers(0, 10**6), radius=st.sampled_from([0.0, 0.7]))
@runs(max_examples=15)
def test_a_layer_after_a_map(kind, rows, seed, radius):
    """A(w) = A(w0) + any change of norm growth * radius."""
    found, members = random_map(kind, seed)
    matrix, move = randn(rows, 4, seed=seed + 60), randn(rows, 4, seed=seed + 61)
    layer = LinearMap(matrix, torch.linalg.matrix_norm(matrix, 2).item(), growth=1.5)
    after = found.after(layer, radius)
    move = 1.5 * radius * move / torch.linalg.matrix_norm(move, 2)
    for member in members:
        for sign in (-1, 1):
            assert covers(after, (matrix + sign * move) @ member)


@pytest.mark.parametrize("left", KINDS)
@pytest.mark.parametrize("right", KINDS)
def test_sums_and_multiples_of_maps(left, right):
    (a, members), (b, others) = (random_map(kind, seed, columns=4) for kind, seed in ((left, 1), (right, 9)))
    for member in members:
        assert covers(a.times(-2.5), -2.5 * member)
        for other in others:
            assert covers(a.plus(b), member + other)


@pytest.mark.parametrize("kind", KINDS)
def test_weighted_norms(kind):
    found, members = random_map(kind, 3)
    weights = randn(2, 4, seed=8).abs()
    bound = found.weighted_norm(weights)
    for member in members:
        assert (torch.linalg.matrix_norm(weights[:, :, None] * member, 2) <= bound * (1 + 1e-9)).all()
    assert (bound <= weights.amax(dim=1) * found.norm * (1 + 1e-9)).all()


# Reading networks


@pytest.mark.parametrize("name", CERTIFIED)
def test_the_graph_computes_the_network_and_its_derivatives(name):
    system = EXAMPLES[name]()
    nodes, tensors = read_graph(system), parameters(system, system.start)
    values = forward(nodes, tensors, system._samples)
    assert_close(values[-1].reshape(-1), system.value(system.start))
    adjoints = backward(nodes, tensors, values, system._outputs)
    # The derivative by the last layer's output is the identity; by its bias, where there is one, the same.
    last = max(i for i, node in enumerate(nodes) if node.kind == "affine")
    jacobian = system.jacobian_columns(system.start, [nodes[last].weight]) if nodes[last].weight in system._shapes else None
    if jacobian is not None:
        x = values[nodes[last].sources[0]].flatten(1)
        expected = torch.einsum("kno,ni->nkoi", adjoints[last].flatten(2), x).reshape(len(jacobian), -1)
        assert_close(jacobian, expected)


def mixed(m, x):
    h = torch.sin(m.a(x).view(x.size(0), -1))
    return m.c((h - 2 * nn.functional.silu(m.b(h)) + 1).flatten(1) / 3 + (-h))


def test_a_forward_function_of_sums_scalings_and_reshapings_is_read():
    build = lambda: Forward(mixed, a=nn.Linear(3, 4), b=nn.Linear(4, 4), c=nn.Linear(4, 2, bias=False))  # noqa: E731
    bound = pl.jacobian_lipschitz_bound(network(build, 3), 0.1)
    assert bound.rigour == "verified" and "layer by layer" in bound.reason


def strong_bend():
    """10 tanh(0.66 x), whose derivative by the layer moves mostly because tanh bends."""
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh(), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        module[0].weight.fill_(0.66)
        module[2].weight.fill_(10.0)
    return module


MOVING = {
    "a strong bend": (strong_bend, (1,)),
    "two hidden layers": (lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.SiLU(), nn.Linear(4, 2)), (3,)),
    "sums": (lambda: Forward(mixed, a=nn.Linear(3, 4), b=nn.Linear(4, 4), c=nn.Linear(4, 2, bias=False)), (3,)),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.Conv2d(2, 2, 3, padding=1, bias=False), nn.GELU(), nn.Flatten(), nn.Linear(32, 1)
        ),
        (1, 4, 4),
    ),
}


def at_point(system, nodes, w):
    """Per node its values (samples, size) and the derivatives of the outputs by it (samples, outputs, size)."""
    named = parameters(system, w)
    values = forward(nodes, named, system._samples)
    adjoints = backward(nodes, named, values, system._outputs)
    n = len(system._samples)
    return [v.reshape(n, -1) for v in values], [a.reshape(system._outputs, n, -1).transpose(0, 1) for a in adjoints]


@pytest.mark.parametrize("name", MOVING)
def test_the_derivatives_by_every_layer_are_the_jacobian(name):
    build, sample = MOVING[name]
    system = network(build, *sample)
    nodes = read_graph(system)
    values, adjoints = at_point(system, nodes, system.start)
    for i, node in enumerate(nodes):
        if node.kind == "affine":
            x = values[node.sources[0]].reshape(-1, *nodes[node.sources[0]].shape)
            rows = layer_inputs(node, x, True, False)
            by_position = adjoints[i].reshape(len(x), system._outputs, -1, rows.shape[1])
            if isinstance(node.layer, nn.Linear):
                by_position = adjoints[i].reshape(len(x), system._outputs, rows.shape[1], -1).transpose(2, 3)
            expected = torch.einsum("nkop,npi->nkoi", by_position, rows).flatten(2).flatten(0, 1)
            assert_close(system.jacobian_columns(system.start, [node.weight]), expected)


@pytest.mark.parametrize("radius", [0.01, 0.5])
@pytest.mark.parametrize("name", MOVING)
def test_nothing_in_the_ball_moves_farther_than_its_bound(name, radius):
    """Values, derivatives of the outputs and inputs of layers, at points of the sphere; some come within a factor of 5."""
    build, sample = MOVING[name]
    system = network(build, *sample)
    nodes, w = read_graph(system), system.start
    layered = Layered(system, nodes, w)
    spread = layered._spread(radius)
    changes = _adjoint_changes(layered, spread)
    values, adjoints = at_point(system, nodes, w)
    closest = 0.0
    for seed in range(10):
        direction = randn(len(w), seed=seed)
        found, turned = at_point(system, nodes, w + radius * direction / direction.norm())
        for i, node in enumerate(nodes):
            moved = found[i] - values[i]
            assert (moved.norm(dim=1) <= spread.distances[i] * (1 + 1e-9) + 1e-14).all()
            assert moved.norm() <= spread.joint_distances[i] * (1 + 1e-9) + 1e-14
            turn = torch.linalg.matrix_norm(turned[i] - adjoints[i], 2)
            assert (turn <= changes[i] * (1 + 1e-9) + 1e-14).all()
            if i in layered.layers:
                number, source = layered.layers.index(i), node.sources[0]
                x = found[source].reshape(-1, *nodes[source].shape)
                rows = layer_inputs(node, x, node.weight in system._shapes, node.bias in system._shapes)
                norms = torch.linalg.matrix_norm(rows, 2)
                assert (norms <= spread.input_norms[number] * (1 + 1e-9)).all()
                assert torch.linalg.matrix_norm(rows.flatten(0, 1), 2) <= spread.joint_input_norms[number] * (1 + 1e-9)
                if spread.distances[i].all():
                    closest = max(closest, (moved.norm(dim=1) / spread.distances[i]).max().item())
    assert closest > 0.2


def test_a_convolution_of_equal_weights_nearly_attains_its_growth():
    """|U x| <= |U|_F sqrt(overlap) |x|: 3 on average, 62/24 for equal pixels of an 8x8 image, whose border counts less."""
    system = network(lambda: nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Flatten(), nn.Linear(64, 1)), 1, 8, 8)
    layered = Layered(system, read_graph(system), system.start)
    growth = layered.maps[layered.layers[0]].growth
    image, weight = torch.ones(1, 1, 8, 8), torch.ones(1, 1, 3, 3)
    stretched = nn.functional.conv2d(image, weight, padding=1).norm() / (weight.norm() * image.norm())
    assert stretched <= growth == 3 and stretched > 2.5


@pytest.mark.parametrize("name", NOT_CERTIFIED)
def test_what_cannot_be_read_gives_an_estimate_and_the_reason(name):
    bound = pl.jacobian_lipschitz_bound(EXAMPLES[name](), 0.0)
    assert bound.rigour == "estimate" and NOT_CERTIFIED[name] in bound.reason and bound.value == bound.center > 0


OBSTACLES = {
    "a product of two values": lambda m, x: m.a(x) * m.a2(x),
    "an unknown function": lambda m, x: torch.exp(m.a(x)),
    "a loop": lambda m, x: torch.stack([m.a(row) + m.a2(row) for row in x]),
    "a layer twice": lambda m, x: m.a(m.a(x)),
    "mixed positions": lambda m, x: m.a(x).flip(1),
    "an unused parameter": lambda m, x: m.a(x),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_obstacles_are_named(name):
    system = network(lambda: Forward(OBSTACLES[name], a=nn.Linear(3, 3), a2=nn.Linear(3, 3)), 3)
    with pytest.raises(NotLayered):
        read_graph(system)


def test_hooks_are_an_obstacle():
    module = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    module[0].register_forward_hook(lambda layer, args, output: 2 * output)
    bound = pl.jacobian_lipschitz_bound(pl.NetworkSystem(module, randn(4, 3), randn(4, 2)), 0.0)
    assert bound.rigour == "estimate" and "hooks" in bound.reason


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)),
        lambda: nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(), nn.Linear(4, 1)),
        lambda: Forward(lambda m, x: m.b(nn.functional.relu(m.a(x))), a=nn.Linear(3, 4), b=nn.Linear(4, 1)),
        lambda: Forward(lambda m, x: m.b(m.a(x).relu()), a=nn.Linear(3, 4), b=nn.Linear(4, 1)),
    ],
)
def test_relu_is_refused_with_the_reason(build):
    with pytest.raises(ValueError, match="(?i)relu.*jumps.*smooth activation"):
        pl.jacobian_lipschitz_bound(network(build, 3), 0.0)


def test_max_pooling_is_refused():
    build = lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 1))  # noqa: E731
    with pytest.raises(Kinked, match="MaxPool2d"):
        pl.jacobian_lipschitz_bound(network(build, 1, 4, 4), 0.0)


# Bounds against the truth


@pytest.mark.parametrize("seed", range(300))
def test_no_point_of_the_ball_has_more_curvature_than_the_bound(seed):
    result = curvature_trials.measure(seed)
    assert result["rigour"] == "verified"
    assert result["ratio"] >= 1 and result["center_ratio"] >= 1


@pytest.mark.parametrize("hidden, limit", [(1, 1.25), (2, 2.25), (3, 3.0)])
@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_at_radius_0_the_bound_is_near_the_measured_hessian_norm(hidden, limit, width):
    module = pl.MLP(64, [width] * hidden, seed=width)
    system = pl.NetworkSystem(module, pl.datasets.sphere(1, 64, seed=width).inputs, [0.0])
    bound = pl.jacobian_lipschitz_bound(system, 0.0)
    measured = pl.hessian_norms(system, rtol=1e-3).largest
    # A Ritz value is at most the norm, so a ratio below 1 - 1e-3 would be an error of the bound.
    assert 1 - 1e-3 <= bound.value / measured <= limit


def test_the_bound_is_continuous_at_radius_0():
    system = EXAMPLES["MLP"]()
    at_center = pl.jacobian_lipschitz_bound(system, 0.0)
    near = pl.jacobian_lipschitz_bound(system, 1e-9)
    assert at_center.value == at_center.center
    assert at_center.value <= near.value <= at_center.value * (1 + 1e-6)


def test_one_hidden_layer_has_the_closed_form_at_every_radius():
    """(|X|_2 / sqrt(m)) max_j of the norm of [[0, 1], [1, a_j]], a_j = sup|tanh''| |v_j|: where tanh' and tanh'' range over all
    values, at large radius."""
    x = randn(5, 4)
    module = pl.MLP(4, [30])
    system = pl.NetworkSystem(module, x, randn(5))
    inputs = torch.linalg.matrix_norm(x / 2, 2)  # the layer divides by sqrt(4)
    largest = (x / 2).norm(dim=1).max()
    a = 4 / (3 * math.sqrt(3)) * module[4].weight.detach().abs().max() * largest
    form = torch.tensor([[a, 1], [1, 0]], dtype=torch.float64)
    expected = (inputs / math.sqrt(30) * torch.linalg.matrix_norm(form, 2)).item()
    assert pl.jacobian_lipschitz_bound(system, 1e3).center == pytest.approx(expected, rel=1e-6)


def test_inputs_together_beat_inputs_one_by_one():
    """Ten orthogonal inputs: together |X|_2 = |x_i|, one by one sqrt(10) times that."""
    one = pl.jacobian_lipschitz_bound(pl.NetworkSystem(pl.MLP(10, [40]), torch.eye(10)[:1].double(), [0.0]), 0.0).value
    ten = pl.jacobian_lipschitz_bound(pl.NetworkSystem(pl.MLP(10, [40]), torch.eye(10).double(), [0.0] * 10), 0.0).value
    assert ten < 2 * one < math.sqrt(10) * one


def test_a_linear_network_has_constant_0():
    bound = pl.jacobian_lipschitz_bound(network(lambda: nn.Linear(3, 2), 3), 5.0)
    assert bound.value < 1e-300 and bound.rigour == "verified"


@pytest.mark.parametrize("width", [8, 32])
def test_the_bound_falls_with_the_width(width):
    small, large = (
        pl.jacobian_lipschitz_bound(pl.NetworkSystem(pl.MLP(8, [m, m]), pl.datasets.sphere(2, 8).inputs, [0.0, 0.0]), 1.0).value
        for m in (width, 16 * width)
    )
    assert large < small / 2


@pytest.mark.parametrize("radius", [1e100, 1e200, 1e308])
def test_what_leaves_float64_is_infinite(radius):
    bound = pl.jacobian_lipschitz_bound(EXAMPLES["MLP"](), radius)
    assert bound.value == math.inf and bound.center >= pl.jacobian_lipschitz_bound(EXAMPLES["MLP"](), 0.0).value


@pytest.mark.parametrize(
    "hidden, widths, seeds", [(1, (256, 1024, 4096, 16384), range(8)), (2, (256, 512, 1024), range(2))]
)
def test_over_the_unit_ball_the_bound_falls_like_the_root_of_the_width(hidden, widths, seeds):
    """Some of the cases of bound_slopes.SEEDS; all of them take a quarter of an hour."""
    results = [bound_slopes.measure((hidden, width, seed)) for width in widths for seed in seeds]
    assert abs(bound_slopes.slopes(results)[hidden] - bound_slopes.EXPECTED) <= bound_slopes.TOLERANCE


# Constants that are given or searched


def test_a_proven_constant_is_taken_over():
    bound = pl.jacobian_lipschitz_bound(pl.toys.product(), 3.0)
    assert bound.value == bound.center == 1 and bound.rigour == "verified" and "given" in bound.reason


@pytest.mark.parametrize("radius", [0.0, 0.5])
def test_a_search_finds_the_curvature_of_a_quadratic_system(radius):
    """D^2 F is constant: the largest value of the trilinear form, from many random starts on the dense tensor."""
    system = pl.toys.quadratics(3, 5)
    tensor = torch.func.hessian(system.value)(system.start)
    draw = torch.Generator().manual_seed(5)
    expected = max(curvature_trials.curvature(tensor, draw)[0] for _ in range(20))
    bound = pl.jacobian_lipschitz_bound(system, radius)
    assert bound.rigour == "estimate" and bound.value == pytest.approx(expected, rel=1e-2)
    assert bound.value <= expected * (1 + 1e-9)


def test_a_search_climbs_to_the_boundary():
    """F = w^3 / 6 has D^2 F = w: over the ball of radius 2 about 1 the largest is 3."""
    system = pl.System(lambda w: w**3 / 6, [0.0], [1.0])
    assert estimate.largest_curvature_found(system, 2.0, system.start) == pytest.approx(3, rel=1e-9)
    assert estimate.largest_curvature_found(system, 0.0, system.start) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("radius", [-1.0, math.inf, math.nan])
def test_a_radius_that_is_none_is_refused(radius):
    with pytest.raises(ValueError, match="radius"):
        pl.jacobian_lipschitz_bound(EXAMPLES["MLP"](), radius)


# The theorems' constants


@pytest.mark.parametrize("name", ["MLP", "biases", "sines", "product"])
@pytest.mark.parametrize("radius", [0.0, 0.3, 2.0])
def test_no_point_of_the_ball_exceeds_its_constants(name, radius):
    system = EXAMPLES[name]()
    found = pl.ball_constants(system, radius)
    assert found.rigour == "verified"
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        w = curvature_trials.inside(system.start, radius, draw)
        assert torch.linalg.matrix_norm(system.jacobian(w), 2) <= found.jacobian_norm
        assert system.residual(w).norm() <= found.residual_norm
    assert system.residual(system.start).norm() <= found.start_residual_norm <= found.residual_norm


def test_the_constants_of_a_product_are_reached():
    """F = w1 w2 from (2, 1) with y = 1: |DF| = |w| and the residual grows fastest along DF, both up to the quadratic term."""
    found = pl.ball_constants(pl.toys.product(), 0.5)
    slope = math.sqrt(5)
    assert found.jacobian_norm == pytest.approx(slope + 0.5, rel=1e-5) and found.jacobian_lipschitz == 1
    assert found.residual_norm == pytest.approx(1 + 0.5 * slope + 0.125, rel=1e-5)
    assert found.step_size == pytest.approx(1 / ((slope + 0.5) ** 2 + 1), rel=1e-5)


def test_gradient_descent_with_the_step_of_the_ball_never_raises_the_loss():
    system = network(lambda: pl.MLP(3, [40]), 3)
    found = pl.ball_constants(system, 1.0)
    run = pl.gradient_descent(system, step_size=found.step_size, max_steps=50)
    inside = run.distances[1:] <= 1.0
    assert inside.any() and (run.losses.diff()[inside] < 0).all()


def test_constants_that_rest_on_a_search_say_so():
    assert pl.ball_constants(EXAMPLES["quadratics"](), 0.1).rigour == "estimate"


# Found by attacks: each of these was read as something else once


def by_type(m, x):
    h = m.a(x)
    return h + 1e-11 * torch.sin(1e6 * h) if isinstance(x, torch.Tensor) else h


MISREADINGS = {
    "another way with numbers": by_type,
    "division with rounding": lambda m, x: torch.div(m.a(x), 0.5, rounding_mode="floor"),
    "addition with a factor": lambda m, x: torch.add(m.a(x), m.a2(x), alpha=2),
    "softplus with options": lambda m, x: nn.functional.softplus(m.a(x), 2.0),
    "writing in place": lambda m, x: m.a(x).add_(m.a2(x)),
}


@pytest.mark.parametrize("name", MISREADINGS)
def test_a_forward_function_is_never_read_as_another_one(name):
    system = network(lambda: Forward(MISREADINGS[name], a=nn.Linear(3, 3), a2=nn.Linear(3, 3)), 3)
    with pytest.raises(NotLayered):
        read_graph(system)


MISLEADING = {
    "softplus with a jump": lambda: nn.Softplus(threshold=0.5),
    "pooling with a divisor": lambda: nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.AvgPool2d(2, divisor_override=-1), nn.Flatten()),
    "an activation in place": lambda: nn.SiLU(inplace=True),
}


@pytest.mark.parametrize("name", MISLEADING)
def test_layers_with_unusual_options_are_not_certified(name):
    bound = pl.jacobian_lipschitz_bound(network(lambda: nn.Sequential(nn.Linear(3, 4), MISLEADING[name]()), 3), 0.0)
    assert bound.rigour == "estimate"


def test_a_weight_of_another_shape_than_the_layer_says():
    layer = nn.Linear(1, 1)
    layer.weight = nn.Parameter(torch.tensor([[0.3, 0.5]]))
    system = pl.NetworkSystem(nn.Sequential(layer, nn.Sigmoid()), torch.tensor([[2.0, -2.0]]), torch.zeros(1, 1))
    assert pl.jacobian_lipschitz_bound(system, 0.0).rigour == "estimate"


def test_outputs_without_a_dimension_of_their_own():
    build = lambda: Forward(lambda m, x: m.b(torch.tanh(m.a(x))).squeeze(-1), a=nn.Linear(3, 4), b=nn.Linear(4, 1))  # noqa: E731
    module = build().double()
    flat = pl.NetworkSystem(module, randn(5, 3), randn(5))
    plain = pl.NetworkSystem(nn.Sequential(module.a, nn.Tanh(), module.b), randn(5, 3), randn(5))
    assert pl.jacobian_lipschitz_bound(flat, 0.1).value == pytest.approx(pl.jacobian_lipschitz_bound(plain, 0.1).value, rel=1e-9)


def test_small_numbers_do_not_vanish():
    """Three equal inputs: sqrt(3) times the curvature of one, 4 / (3 sqrt(3)) at most, also at 1e-162."""
    forward = lambda m, x: torch.tanh(m.a(x)) * 1e-162  # noqa: E731
    module = Forward(forward, a=nn.Linear(1, 1, bias=False)).double()
    with torch.no_grad():
        module.a.weight.fill_(math.atanh(1 / math.sqrt(3)))
    system = pl.NetworkSystem(module, torch.ones(3, 1), torch.zeros(3, 1))
    assert pl.jacobian_lipschitz_bound(system, 0.0).value == pytest.approx(4e-162 / 3, rel=1e-6)


def test_sin_far_from_0():
    module = nn.Sequential(nn.Linear(1, 1, bias=False), pl.networks.Elementwise("sin", torch.sin)).double()
    with torch.no_grad():
        module[0].weight.fill_(math.pi / 2 + 2 * math.pi * 1e12)
    assert pl.jacobian_lipschitz_bound(pl.NetworkSystem(module, torch.ones(1, 1), torch.zeros(1, 1)), 0.0).value >= 1
