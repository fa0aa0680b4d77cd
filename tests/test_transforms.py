import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from helpers import network, randn, seeded, tied
from torch import nn
from torch.testing import assert_close

import plbook as pl
from plbook import reference

SEEDS = st.integers(0, 10**6)
# Two routes to the same kernel differ by some hundred roundings of its largest entry.
ROUNDING = 1e-12


def close(actual, expected):
    assert_close(actual, expected, rtol=0, atol=ROUNDING * max(1, expected.abs().max().item()))


def invertible(size, seed):
    """A smooth map of R^size: a matrix, then x + sin(x)/2 entry by entry; its Jacobian is invertible if the matrix is."""
    matrix = randn(size, size, seed=seed) + 2 * torch.eye(size, dtype=torch.float64)

    def transform(x):
        y = matrix @ x
        return y + y.sin() / 2

    return transform


def jacobian(function, x):
    """Column by column from central differences of second order, to about 1e-9 here."""
    step = 1e-5
    eye = torch.eye(len(x), dtype=torch.float64)
    return torch.stack([(function(x + step * e) - function(x - step * e)) / (2 * step) for e in eye], dim=1)


# Theorem 3: Phi after F


@pytest.mark.statement(name="Remark 3", kind="positive")
@pytest.mark.parametrize("frequency", [1.0, 10.0])
def test_an_output_map_bends_a_system_without_a_hessian(frequency):
    """sin(c w) at c w = pi / 2 has the Hessian -c^2, though that of w is 0."""
    straight = pl.toys.linear([[1.0]], [0.0], start=[math.pi / (2 * frequency)])
    bent = pl.output_transform(straight, lambda z: (frequency * z).sin())
    assert pl.hessian_norms(straight).largest == 0
    assert math.isclose(pl.hessian_norms(bent).largest, frequency**2, rel_tol=1e-12)


@pytest.mark.statement(name="Remark 3", kind="negative")
def test_an_affine_output_map_only_scales_the_hessians():
    system = pl.toys.quadratics(3, 5)
    scaled = pl.output_transform(system, lambda z: 2 * z + 1)
    # Both are estimates of one number and its double, from the same start.
    assert torch.allclose(pl.hessian_norms(scaled).per_equation, 2 * pl.hessian_norms(system).per_equation, rtol=1e-10)


@pytest.mark.statement(name="Theorem 3", kind="positive")
@given(seed=SEEDS, n=st.integers(1, 4), extra=st.integers(0, 3))
@runs(max_examples=30)
def test_an_output_map_leaves_mu_rho_squared(seed, n, extra):
    system, phi = pl.toys.quadratics(n, n + extra, seed=seed), invertible(n, seed + 1)
    points = system.start + randn(5, n + extra, seed=seed + 2)
    record, transformed = pl.output_conditioning(system, phi, points), pl.output_transform(system, phi)
    for i, w in enumerate(points):
        outer = torch.func.jacfwd(phi)(system.value(w))
        kernel = reference.tangent_kernel(transformed, w)
        close(kernel, outer @ reference.tangent_kernel(system, w) @ outer.T)
        slack = ROUNDING * kernel.trace().item()
        assert record.rhos[i].item() == pytest.approx(torch.linalg.svdvals(outer)[-1].item(), rel=1e-8, abs=ROUNDING)
        assert record.transformed_eigenvalues[i].item() == pytest.approx(torch.linalg.eigvalsh(kernel)[0].item(), abs=slack)
        assert record.transformed_eigenvalues[i] >= record.smallest_eigenvalues[i] * record.rhos[i] ** 2 - slack
    assert record.measured >= record.bound - slack
    assert record.bound == record.mu * record.rho**2
    assert record.mu == min(pl.kernel_spectrum(system, w).smallest for w in points)
    # What Theorem 3 concludes: the transformed loss is PL* with that constant, for every target.
    other = pl.System(transformed.value, randn(n, seed=seed + 3), system.start)
    assert pl.check_pl_star(other, max(record.bound, 0), points).holds


def test_rho_is_the_inverse_of_the_inverse_jacobians_norm():
    system, phi = pl.toys.quadratics(3, 5), invertible(3, 1)
    record = pl.output_conditioning(system, phi, system.start[None])
    inverse = torch.linalg.inv(jacobian(phi, system.value(system.start)))
    assert record.rho == pytest.approx(1 / torch.linalg.matrix_norm(inverse, 2).item(), rel=1e-7)


def test_an_output_map_with_a_closed_form():
    """F = A w with A = diag(2, 3), Phi = (z1, 5 z2): K = diag(4, 225), mu = 4, rho = 1, and the bound is attained."""
    system = pl.toys.linear(torch.diag(torch.tensor([2.0, 3.0])), [1.0, 1.0])
    scale = torch.tensor([1.0, 5.0], dtype=torch.float64)
    record = pl.output_conditioning(system, lambda z: scale * z, randn(3, 2))
    assert (record.mu, record.rho, record.bound, record.measured) == pytest.approx((4, 1, 4, 4), rel=ROUNDING)
    # The other way round the bound is not attained: min(4 * 25, 9) against 4 * 1.
    record = pl.output_conditioning(system, lambda z: scale.flip(0) * z, randn(3, 2))
    assert (record.bound, record.measured) == pytest.approx((4, 9), rel=ROUNDING)


@pytest.mark.statement(name="Theorem 3", kind="negative")
def test_a_singular_output_map_destroys_the_conditioning_and_points_that_miss_it_do_not_tell():
    """Phi(z) = z^2 entry by entry is singular where an F_i is 0; the linear F below has mu = 1 everywhere."""
    system = pl.toys.linear(torch.eye(2), [1.0, 1.0])
    at_zero = pl.output_conditioning(system, torch.square, [[0.0, 3.0]])
    assert at_zero.mu == 1 and at_zero.rho == at_zero.bound == at_zero.measured == 0
    transformed = pl.output_transform(system, torch.square)
    assert not pl.check_pl_star(transformed, 1e-6, [[0.0, 1.0]]).holds
    beside = pl.output_conditioning(system, torch.square, [[0.5, 3.0], [2.0, 1.0]])
    assert (beside.rho, beside.bound) == pytest.approx((1, 1))
    assert pl.check_pl_star(transformed, beside.bound, [[0.5, 3.0], [2.0, 1.0]]).holds


def test_a_map_to_fewer_equations_and_one_to_more():
    system = pl.toys.quadratics(3, 5)
    matrix = randn(2, 3)
    record = pl.output_conditioning(system, lambda z: matrix @ z, system.start[None])
    assert record.rho == pytest.approx(torch.linalg.svdvals(matrix)[-1].item(), rel=1e-10)
    assert record.measured >= record.bound > 0
    record = pl.output_conditioning(system, lambda z: matrix.T @ (matrix @ z), system.start[None])
    assert record.rho < 1e-7 and record.measured < 1e-10
    record = pl.output_conditioning(pl.toys.linear(torch.eye(2), [0.0, 0.0]), lambda z: matrix.T @ z, randn(1, 2))
    assert record.rho == record.bound == 0 and record.measured < 1e-12


def test_the_targets_become_their_images_and_solutions_stay():
    system = pl.toys.product(2.0)
    transformed = pl.output_transform(system, torch.exp)
    assert_close(transformed.targets, torch.tensor([math.exp(2.0)], dtype=torch.float64))
    assert transformed.loss([2.0, 1.0]) == 0 and torch.equal(transformed.start, system.start)
    assert transformed.num_parameters == 2 and transformed.jacobian_lipschitz is None


@pytest.mark.parametrize("activation, function", [("sigmoid", torch.sigmoid), ("tanh", torch.tanh)])
def test_an_output_activation_is_an_output_transformation(activation, function):
    inputs = randn(4, 3)
    plain, with_activation = (pl.MLP(3, [6], 2, output_activation=name) for name in (None, activation))
    targets = plain(inputs).detach() + 0.1
    system = pl.NetworkSystem(plain, inputs, targets)
    transformed = pl.output_transform(system, function)
    direct = pl.NetworkSystem(with_activation, inputs, function(targets))
    close(pl.tangent_kernel(transformed), pl.tangent_kernel(direct))
    close(transformed.targets, direct.targets)
    # The Jacobian of the map is diag(sigma'), so rho is the smallest slope that is attained.
    z = system.value(system.start).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(function(z).sum(), z)
    record = pl.output_conditioning(system, function, system.start[None])
    assert record.rho == pytest.approx(slopes.min().item(), rel=ROUNDING)
    assert pl.hessian_norms(transformed).per_equation.allclose(pl.hessian_norms(direct).per_equation, rtol=0.05)


# Remark 4: Psi before F


@pytest.mark.statement(name="Remark 4", kind="positive")
@given(seed=SEEDS, n=st.integers(1, 3), extra=st.integers(0, 3))
@runs(max_examples=30)
def test_an_input_map_leaves_mu_rho_squared(seed, n, extra):
    p = n + extra
    system, psi = pl.toys.quadratics(n, p, seed=seed), invertible(p, seed + 1)
    points = randn(4, p, seed=seed + 2)
    record, transformed = pl.input_conditioning(system, psi, points), pl.input_transform(system, psi, points[0])
    for i, v in enumerate(points):
        inner = torch.func.jacfwd(psi)(v)
        rows = reference.jacobian(system, psi(v))
        kernel = reference.tangent_kernel(transformed, v)
        close(kernel, rows @ inner @ inner.T @ rows.T)
        slack = ROUNDING * kernel.trace().item()
        assert record.rhos[i].item() == pytest.approx(torch.linalg.svdvals(inner)[-1].item(), rel=1e-8, abs=ROUNDING)
        assert record.transformed_eigenvalues[i] >= record.smallest_eigenvalues[i] * record.rhos[i] ** 2 - slack
    assert record.measured >= record.bound - slack
    assert record.mu == min(pl.kernel_spectrum(system, psi(v)).smallest for v in points)
    assert pl.check_pl_star(transformed, max(record.bound, 0), points).holds


@pytest.mark.statement(name="Remark 4", kind="negative")
def test_conditioning_must_hold_on_the_image_not_on_the_ball():
    """F = w1 w2, K = |w|^2 >= 1 on the ball of radius 1 about (2, 0); Psi(v) = v - (2, 0) moves the ball to 0."""
    system, shift = pl.toys.product(), torch.tensor([2.0, 0.0], dtype=torch.float64)
    ball = shift + torch.tensor([[0, 0], [0.5, 0], [-1, 0], [1, 0], [0, 1], [0.6, -0.8]], dtype=torch.float64)
    on_the_ball = min(pl.kernel_spectrum(system, w).smallest for w in ball)
    record = pl.input_conditioning(system, lambda v: v - shift, ball)
    assert on_the_ball == 1 and record.rho == 1
    naive_bound = on_the_ball * record.rho**2
    assert record.measured == 0 < naive_bound
    assert record.bound == 0 and not pl.check_pl_star(
        pl.input_transform(system, lambda v: v - shift, shift), naive_bound, ball
    ).holds


def test_new_unknowns_may_be_more_but_not_fewer():
    """Psi(v) = (v1 + v2, v3): J J^T = diag(2, 1). Psi(v) = (v, v) reaches a line only, where w1 w2 is v^2 and K = 4 v^2."""
    system = pl.toys.product(1.0)
    record = pl.input_conditioning(system, lambda v: torch.stack([v[0] + v[1], v[2]]), [[1.0, 1.0, 3.0]])
    # K = 2 w2^2 + w1^2 with w = (2, 3); the system itself has 13.
    assert (record.mu, record.rho, record.measured) == pytest.approx((13, 1, 22), rel=ROUNDING)
    record = pl.input_conditioning(system, lambda v: torch.cat([v, v]), [[3.0]])
    assert record.rho == record.bound == 0 and record.measured == pytest.approx(36, rel=ROUNDING)


def test_an_input_map_keeps_targets_and_values():
    system = pl.toys.chain()
    transformed = pl.input_transform(system, lambda v: v.exp(), [0.0, 0.0, 0.0])
    assert torch.equal(transformed.targets, system.targets) and transformed.start.tolist() == [0, 0, 0]
    assert transformed.value([0.0, 0.0, 0.0]).tolist() == [1, 1] and transformed.loss([0.0, 0.0, 0.0]) == 0


def test_a_polar_change_of_coordinates_preserves_pl_star_up_to_rho():
    """Psi(r, t) = r (cos t, sin t): J J^T has eigenvalues 1 and r^2, and F = w1 w2 becomes r^2 sin(2t)/2."""
    system = pl.toys.product(1.0)
    for r, t in [(0.5, 0.3), (2.0, 1.1)]:
        record = pl.input_conditioning(system, lambda v: v[0] * torch.stack([v[1].cos(), v[1].sin()]), [[r, t]])
        # dF/dr = r sin 2t, dF/dt = r^2 cos 2t.
        assert record.measured == pytest.approx((r * math.sin(2 * t)) ** 2 + (r * r * math.cos(2 * t)) ** 2, rel=1e-12)
        assert record.rho == pytest.approx(min(1, r), rel=1e-12) and record.mu == pytest.approx(r * r, rel=1e-12)


# Proposition 4: g after f


def blocks_of(module, values):
    """The derivative of a module by its inputs, one block (outputs, inputs' entries) for each input, by loops."""
    blocks = []
    for value in values:
        value = value[None].detach().requires_grad_()
        out = module(value).reshape(-1)
        blocks.append(torch.stack([torch.autograd.grad(entry, value, retain_graph=True)[0].reshape(-1) for entry in out]))
    return blocks


def composed(build, sample, num_inputs=4, seed=0):
    system = network(build, *sample, num_inputs=num_inputs, seed=seed)
    return system, system.module_at(system.start), randn(num_inputs, *sample, seed=seed + 1)


COMPOSITIONS = {
    "bottleneck": (lambda: pl.MLP(3, [6, 2, 5], 2), (3,), (3, 6, 8)),
    "ResNet": (lambda: pl.ResNet(3, [4, 4, 4], 1), (3,), (2, 4, 5)),
    "ConvNet": (lambda: pl.ConvNet((2, 3, 3), [3, 2], 2), (2, 3, 3), (3, 6, 7)),
    "biases": (lambda: nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.LayerNorm(4), nn.Linear(4, 2)), (3,), (1, 2, 3)),
}


@pytest.mark.statement(name="Proposition 4", kind="positive")
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_the_terms_are_those_of_proposition_4(name):
    """K_g(w_g; f(D)) and J_g K_f(w_f; D) J_g^T, from separate systems and an explicit block-diagonal J_g."""
    build, sample, splits = COMPOSITIONS[name]
    system, module, inputs = composed(build, sample)
    for split in splits:
        f, g = module[:split], module[split:]
        values = f(inputs).detach()
        record = pl.composition_kernels(system, split)
        upper = pl.NetworkSystem(g, values, system.targets.reshape(len(inputs), -1))
        lower = pl.NetworkSystem(f, inputs, values.reshape(len(inputs), -1))
        blocks = torch.block_diag(*blocks_of(g, values))
        assert blocks.shape == (system.num_equations, values.numel())
        close(record.outer, reference.tangent_kernel(upper, upper.start))
        close(record.inner, blocks @ reference.tangent_kernel(lower, lower.start) @ blocks.T)
        whole = reference.tangent_kernel(system, system.start)
        close(record.outer + record.inner, whole)
        slack = ROUNDING * whole.trace().item()
        assert record.smallest_eigenvalue == pytest.approx(torch.linalg.eigvalsh(whole)[0].item(), abs=slack)
        assert record.outer_smallest_eigenvalue == pytest.approx(pl.kernel_spectrum(upper).smallest, abs=slack)
        assert record.smallest_eigenvalue >= record.outer_smallest_eigenvalue - slack


@given(seed=SEEDS, widths=st.lists(st.integers(1, 8), min_size=1, max_size=3), outputs=st.integers(1, 2))
@runs(max_examples=20)
def test_the_whole_is_conditioned_at_least_like_its_upper_part(seed, widths, outputs):
    system = network(lambda: pl.MLP(3, widths, outputs, seed=seed), 3, num_inputs=3, seed=seed)
    w = system.start + randn(system.num_parameters, seed=seed)
    kernel = reference.tangent_kernel(system, w)
    slack = ROUNDING * kernel.trace().item()
    for split in range(1, 3 * len(widths) + 1):
        record = pl.composition_kernels(system, split, w)
        close(record.outer + record.inner, kernel)
        assert record.smallest_eigenvalue >= record.outer_smallest_eigenvalue - slack
        assert torch.linalg.eigvalsh(record.inner)[0] >= -slack


def test_a_good_upper_part_is_enough_and_inputs_that_f_merges_are_lost():
    """f = W z with 9 unknowns for 12 equations: K_f is singular, but K_g on f(D) is not, so K_h is not.

    With W = 0 every input meets g at 0, where K_g = 0; J_g is one row v for all inputs, K_h = |v|^2 X X^T, and X has rank 3.
    """
    inputs, targets = randn(4, 3), randn(4)
    lower, upper = nn.Linear(3, 3, bias=False, dtype=torch.float64), pl.MLP(3, [40], seed=1)
    system = pl.NetworkSystem(nn.Sequential(lower, *upper), inputs, targets)
    start = system.start.clone()
    start[:9] = torch.eye(3, dtype=torch.float64).reshape(-1)
    assert pl.kernel_spectrum(pl.NetworkSystem(lower, inputs, randn(4, 3))).smallest == 0
    record = pl.composition_kernels(system, 1, start)
    assert record.smallest_eigenvalue >= record.outer_smallest_eigenvalue > 0.01
    start[:9] = 0
    record = pl.composition_kernels(system, 1, start)
    assert not record.outer.any() and record.outer_smallest_eigenvalue == 0
    assert record.smallest_eigenvalue < ROUNDING * record.inner.trace()
    (row,) = blocks_of(upper, torch.zeros(1, 3, dtype=torch.float64))
    close(record.inner, row.square().sum() * inputs @ inputs.T)


@pytest.mark.statement(name="Proposition 4", kind="negative")
def test_one_jacobian_for_all_inputs_instead_of_the_blocks_is_wrong():
    """The derivative of g by its inputs differs from input to input, so no single d'' x d' matrix can take its place."""
    system, module, inputs = composed(lambda: pl.MLP(3, [6, 2, 5], 2), (3,))
    f, g = module[:6], module[6:]
    values = f(inputs).detach()
    record = pl.composition_kernels(system, 6)
    lower_system = pl.NetworkSystem(f, inputs, values)
    lower = reference.tangent_kernel(lower_system, lower_system.start)
    blocks = blocks_of(g, values)
    right = torch.block_diag(*blocks)
    wrong = torch.block_diag(*[blocks[0]] * len(blocks))
    close(right @ lower @ right.T, record.inner)
    assert (wrong @ lower @ wrong.T - record.inner).abs().max() > 0.1 * record.inner.abs().max()


def test_shared_parameters_break_the_formula_and_are_refused():
    """f and g with one weight: K_h has cross terms, so the two parts do not add up to it."""
    system, module, inputs = composed(tied, (3,))
    with pytest.raises(ValueError) as caught:
        pl.composition_kernels(system, 2)
    assert all(word in str(caught.value) for word in ["0.weight", "apart"])
    apart = tied()
    apart[2].weight = nn.Parameter(apart[2].weight.detach().clone())
    apart.load_state_dict(module.state_dict())
    untied = pl.NetworkSystem(apart, inputs, system.targets.reshape(4, 3))
    record = pl.composition_kernels(untied, 2)
    kernel = reference.tangent_kernel(system, system.start)
    assert (record.outer + record.inner - kernel).abs().max() > 0.1 * kernel.abs().max()


def test_parts_without_parameters_add_nothing():
    module = nn.Sequential(nn.Tanh(), nn.Linear(3, 2), nn.Tanh())
    system = network(lambda: module, 3)
    whole = pl.tangent_kernel(system)
    first, last = pl.composition_kernels(system, 1), pl.composition_kernels(system, 2)
    assert not first.inner.any() and torch.equal(first.outer, whole)
    assert not last.outer.any() and torch.equal(last.inner, whole) and last.outer_smallest_eigenvalue == 0


def test_a_frozen_part_counts_as_one_without_parameters_even_if_it_is_shared():
    module = seeded(tied).double()
    module[0].weight.requires_grad_(False)
    system = pl.NetworkSystem(module, randn(4, 3), randn(4, 3, seed=1))
    record = pl.composition_kernels(system, 2)
    close(record.outer + record.inner, reference.tangent_kernel(system, system.start))


def test_composition_builds_the_network_of_both():
    inner = network(lambda: pl.MLP(3, [6], 2), 3)
    outer, targets = pl.MLP(2, [20], 1, seed=4), randn(4, seed=9)
    system = pl.composition(inner, outer, targets)
    values = inner.value(inner.start).reshape(4, 2)
    close(system.value(system.start), outer(values).reshape(-1).detach())
    assert torch.equal(system.start[: inner.num_parameters], inner.start) and torch.equal(system.targets, targets)
    record = pl.composition_kernels(system, 1)
    close(record.outer, pl.tangent_kernel(pl.NetworkSystem(outer, values, targets)))
    close(record.outer + record.inner, pl.tangent_kernel(system))


# Refusals

LINEAR = nn.Linear(3, 1)
REFUSALS = {
    "wrong size of Psi": (lambda: pl.input_transform(pl.toys.product(), lambda v: v, [1.0, 2.0, 3.0]), ["(2,)", "(3,)"]),
    "not finite": (lambda: pl.output_transform(pl.toys.product(-1.0), torch.log), ["targets", "finite"]),
    "a scalar": (lambda: pl.output_transform(pl.toys.chain(), torch.sum), ["targets", "vectors"]),
    "single point": (lambda: pl.output_conditioning(pl.toys.product(), torch.exp, [1.0, 2.0]), ["(k, 2)", "w[None]"]),
    "single input": (lambda: pl.input_conditioning(pl.toys.product(), torch.exp, [1.0, 2.0]), ["(2,)", "w[None]"]),
    "a number": (lambda: pl.input_conditioning(pl.toys.product(), torch.exp, 1.0), ["()", "one point a row"]),
    "NaN point": (lambda: pl.input_conditioning(pl.toys.product(), torch.exp, [[1.0, math.nan]]), ["NaN"]),
    "a plain inner system": (lambda: pl.composition(pl.toys.product(), LINEAR, [1.0]), ["NetworkSystem", "System"]),
    "a plain system": (lambda: pl.composition_kernels(pl.toys.product(), 1), ["Sequential", "System"]),
    "not a Sequential": (lambda: pl.composition_kernels(network(lambda: nn.Linear(3, 1), 3), 1), ["Sequential", "Linear"]),
    "split 0": (lambda: pl.composition_kernels(network(lambda: pl.MLP(3, [2]), 3), 0), ["1 to 4", "0"]),
    "split at the end": (lambda: pl.composition_kernels(network(lambda: pl.MLP(3, [2]), 3), 5), ["1 to 4", "5"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused(case):
    call, words = REFUSALS[case]
    with pytest.raises(ValueError) as caught:
        call()
    assert all(word in str(caught.value) for word in words), str(caught.value)
