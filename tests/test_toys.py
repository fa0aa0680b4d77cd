import math

import pytest
import torch
from helpers import randn
from torch.testing import assert_close

import plbook as pl
from plbook import reference, toys

A, POINTS = randn(3, 4), 20

# name -> (system, F, DF), each by hand as in the docstring; functions of a list of numbers.
CLOSED_FORMS = {
    "linear": (toys.linear(A, randn(3)), lambda w: A @ torch.stack(w), lambda w: A),
    "product": (toys.product(), lambda a, b: [a * b], lambda a, b: [[b, a]]),
    "cubic": (toys.cubic(), lambda a, b: [a**3 / 3 - a + b**2 / 2], lambda a, b: [[a**2 - 1, b]]),
    "square": (toys.square(), lambda a: [a**2], lambda a: [[2 * a]]),
    "repeated": (toys.repeated(), lambda a: [a, a], lambda a: [[1.0], [1.0]]),
    "kinked": (
        toys.kinked(),
        lambda a: [5 * a if a < 1 else math.sqrt(a**2 + 48 * a - 24 if a < 2 else 25 * a**2 - 48 * a + 72)],
        lambda a: [[5.0 if a < 1 else (a + 24) / math.sqrt(a**2 + 48 * a - 24) if a < 2 else (25 * a - 24) / math.sqrt(25 * a**2 - 48 * a + 72)]],
    ),
    "chain": (toys.chain(), lambda a, b, c: [a * b, b * c], lambda a, b, c: [[b, a, 0.0], [0.0, c, b]]),
    "copies": (toys.copies(3), lambda a: [a**2 / 2] * 3, lambda a: [[a]] * 3),
    "sharpest": (
        toys.sharpest(0.4, 2, 3),
        lambda a, b, c: [a - (a**2 + b**2 + c**2) / 2, b],
        lambda a, b, c: [[1 - a, -b, -c], [0.0, 1.0, 0.0]],
    ),
    "sines": (
        toys.sines(A, randn(3)),
        lambda w: [math.sin(a) for a in A @ torch.stack(w)],
        lambda w: torch.diag(torch.cos(A @ torch.stack(w))) @ A,
    ),
}
CLOSED_FORMS |= {
    "bumpy_valley": (
        toys.bumpy_valley(0.4),
        lambda a, b: [b - a**2 / 4, 0.4 * (1 + math.cos(5 * a) / 2 + math.sin(a) / 4)],
        lambda a, b: [[-a / 2, 1.0], [0.4 * (math.cos(a) / 4 - 5 * math.sin(5 * a) / 2), 0.0]],
    ),
    "bumps": (
        toys.bumps(0.4, 6.0),
        lambda a: [a, 0.4 * math.cos(6 * a)],
        lambda a: [[1.0], [-2.4 * math.sin(6 * a)]],
    ),
    "ramp": (
        toys.ramp(0.5),
        lambda a: [math.sqrt(math.log1p(math.exp(2 + 2 * a)))],
        lambda a: [[1 / (1 + math.exp(-2 - 2 * a)) / math.sqrt(math.log1p(math.exp(2 + 2 * a)))]],
    ),
    "egg_crate": (
        toys.egg_crate(),
        lambda a, b: [math.sin(a) + math.sin(b)],
        lambda a, b: [[math.cos(a), math.cos(b)]],
    ),
    "folds": (
        toys.folds(0.3),
        lambda a, b: [a**3 / 3 - a + 0.3 * b**2, b**3 / 3 - b + 0.3 * a**2],
        lambda a, b: [[a**2 - 1, 0.6 * b], [0.6 * a, b**2 - 1]],
    ),
}
KERNELS = {
    "linear": lambda w: A @ A.T,
    "product": lambda a, b: [[a**2 + b**2]],
    "cubic": lambda a, b: [[(a**2 - 1) ** 2 + b**2]],
    "chain": lambda a, b, c: [[a**2 + b**2, a * c], [a * c, b**2 + c**2]],
    "repeated": lambda a: [[1.0, 1.0], [1.0, 1.0]],
}
LIPSCHITZ = {
    "linear": toys.linear(A, randn(3)),
    "repeated": toys.repeated(),
    "product": toys.product(),
    "square": toys.square(),
    "copies": toys.copies(5),
    "sharpest": toys.sharpest(0.3, 3, 5),
    "sines": toys.sines(A, randn(3)),
    "bumpy_valley": toys.bumpy_valley(),
    "bumps": toys.bumps(),
    "egg_crate": toys.egg_crate(),
}

# Their closed forms are in test_nonconvexity.py.
NONCONVEXITY = {"bowl", "straight", "valley", "wells"}


def by_hand(formula, name, w):
    numbers = list(w) if name in ("linear", "sines") else w.tolist()
    result = formula(numbers) if name in ("linear", "sines") else formula(*numbers)
    return torch.as_tensor(result, dtype=torch.float64)


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms_at_random_points(name):
    system, value, jacobian = CLOSED_FORMS[name]
    for w in 2 * randn(POINTS, system.num_parameters):
        assert_close(system.value(w), by_hand(value, name, w))
        assert_close(system.jacobian(w), by_hand(jacobian, name, w))
        if name in KERNELS:
            assert_close(pl.tangent_kernel(system, w), by_hand(KERNELS[name], name, w))


def beta_ratio(system, w, v):
    return (torch.linalg.matrix_norm(system.jacobian(w) - system.jacobian(v), 2) / (w - v).norm()).item()


@pytest.mark.parametrize("name", LIPSCHITZ)
def test_lipschitz_constants_are_true(name):
    system, p = LIPSCHITZ[name], LIPSCHITZ[name].num_parameters
    ratios = [beta_ratio(system, *pair) for pair in 3 * randn(200, 2, p)]
    assert max(ratios) <= system.jacobian_lipschitz * (1 + 1e-12)
    # Where DF is affine on a line or a rotation of w the constant is attained by every pair: no smaller one is true.
    if name in ("product", "square", "copies", "sharpest"):
        assert min(ratios) >= system.jacobian_lipschitz * (1 - 1e-9)


def test_the_lipschitz_constant_of_one_sine_is_attained():
    """DF = 3 cos(3 w) has slope 9 = |A| max row norm at w = pi / 6."""
    system = toys.sines([[3.0]], [0.0])
    w = torch.tensor([math.pi / 6], dtype=torch.float64)
    assert system.jacobian_lipschitz == pytest.approx(9)
    assert beta_ratio(system, w + 1e-4, w - 1e-4) == pytest.approx(9, rel=1e-6)


def test_the_jacobian_of_sines_is_largest_at_zero():
    system = toys.sines(A, randn(3))
    top = torch.linalg.matrix_norm(A, 2).item()
    assert pl.jacobian_norm(system, torch.zeros(4)) == pytest.approx(top)
    assert all(pl.jacobian_norm(system, w) <= top for w in randn(20, 4))


def test_hessians_of_sines():
    system, w = toys.sines(A, randn(3)), randn(4)
    expected = torch.stack([-torch.sin(a @ w) * torch.outer(a, a) for a in A])
    assert_close(reference.hessians(system, w), expected)


def test_singular_points_of_the_cubic():
    for w1, value in ((1.0, -2 / 3), (-1.0, 2 / 3)):
        w = torch.tensor([w1, 0.0], dtype=torch.float64)
        assert not pl.tangent_kernel(toys.cubic(), w).any()
        assert toys.cubic().value(w).item() == pytest.approx(value)


@pytest.mark.parametrize("n, p", [(1, 1), (1, 2), (2, 2), (2, 4), (3, 7)])
def test_the_sharpest_system_has_the_numbers_of_its_docstring(n, p):
    """At the start lambda0 = 1 and r0 = target = h. The nearest solution is (1 - sqrt(1 - 2h), 0, ..., 0)."""
    for target in (0.1, 0.3, 0.5):
        system = toys.sharpest(target, n, p)
        assert pl.kernel_spectrum(system).smallest == 1 and system.residual(system.start).norm() == target
        nearest = torch.zeros(p, dtype=torch.float64)
        nearest[0] = 1 - math.sqrt(1 - 2 * target)
        assert system.residual(nearest).norm() < 1e-15
        # Other solutions: e1 plus vectors of length sqrt(1 - 2 target) along w1 and the last p - n unknowns.
        free = [0, *range(n, p)]
        for direction in randn(20, len(free)):
            solution = torch.zeros(p, dtype=torch.float64)
            solution[free] = math.sqrt(1 - 2 * target) * direction / direction.norm()
            solution[0] += 1
            assert system.residual(solution).norm() < 1e-14
            assert solution.norm() >= nearest.norm() - 1e-12


def test_the_sharpest_system_has_no_solution_beyond_one_half():
    """F_1 = 1/2 - |w - e1|^2/2 is at most 1/2, so the residual never falls below target - 1/2, which e1 attains."""
    system = toys.sharpest(0.6, 2, 4)
    points = torch.cat([3 * randn(500, 4), torch.eye(4, dtype=torch.float64)[:1]])
    residuals = [system.residual(w).norm().item() for w in points]
    assert min(residuals) == residuals[-1] == pytest.approx(0.1)


def test_quadratics_have_constant_symmetric_hessians_and_an_affine_jacobian():
    system = toys.quadratics(3, 5, seed=4)
    hessians = reference.hessians(system, system.start)
    assert_close(hessians, hessians.transpose(1, 2))
    assert_close(hessians, reference.hessians(system, 10 * randn(5)))
    slopes, w = system.jacobian(torch.zeros(5)), randn(5)
    assert_close(system.jacobian(w), slopes + hessians @ w)
    assert_close(system.value(w), slopes @ w + 0.5 * (hessians @ w) @ w)


def test_quadratics_follow_the_seed():
    one, same, other = (toys.quadratics(2, 3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.residual(one.start), same.residual(same.start))
    assert not torch.equal(one.start, other.start) and not torch.equal(one.targets, other.targets)


def test_the_losses_of_the_plateau_have_piecewise_linear_derivatives():
    """At the corners, by hand, for b = 32, c = 1/64; between them the second differences vanish; the losses are continuous."""
    system, c = toys.plateau(), 1 / 64
    corners = {-2.0: (-2, -2), 1.0: (1, 1), 2.0: (2, 0), 2 + c: (2 + c, -c), 32.0: (32, -c), 64.0: (0, -c), 64 + c: (0, 0), 80.0: (0, 0)}

    def slopes(w):
        w = torch.tensor([w], dtype=torch.float64)
        return system.value(w) * system.jacobian(w)[:, 0]

    for w, expected in corners.items():
        assert_close(slopes(w), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)
    ends = list(corners)
    losses = torch.tensor([2.0, 2.0], dtype=torch.float64)
    assert_close(system.value([-2.0]).square() / 2, losses)
    for left, right in zip(ends, ends[1:]):
        middle = (slopes(left) + slopes(right)) / 2
        assert_close(slopes((left + right) / 2), middle, rtol=0, atol=1e-12)
        losses = losses + middle * (right - left)
        expected = system.value([right]).square() / 2
        assert_close(losses, expected, rtol=1e-12, atol=1e-10)


def test_every_toy_is_tested_here():
    assert set(toys.__all__) == {*CLOSED_FORMS, "quadratics", "fourier_bottleneck", "ensemble", "plateau", *NONCONVEXITY}


def test_starts_and_targets_are_those_given():
    assert toys.linear(A, [1.0, 2.0, 3.0]).start.tolist() == [0, 0, 0, 0]
    assert toys.linear(A, [1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]).start.tolist() == [1, 2, 3, 4]
    assert toys.product(5.0, (1.0, 7.0)).start.tolist() == [1, 7] and toys.product(5.0).targets.tolist() == [5]
    assert toys.square(3.0, 2.0).residual([2.0]).tolist() == [1]
    assert toys.copies(4).residual([2.0]).tolist() == [2, 2, 2, 2]


# The bottleneck of Appendix D


def bottleneck(num_features=7, spread=3.0, seed=2):
    return toys.fourier_bottleneck([0.0, 1.5, -2.0, 4.0], randn(4), num_features, spread=spread, seed=seed)


def test_the_bottleneck_is_its_formula():
    system, w = bottleneck(), randn(28)
    first, second = (system.module_at(w)[i].frequencies.tolist() for i in (0, 2))
    for x, value in zip([0.0, 1.5, -2.0, 4.0], system.value(w).tolist()):
        z = sum(w[k] * math.cos(first[k] * x) + w[7 + k] * math.sin(first[k] * x) for k in range(7)) / math.sqrt(7)
        h = sum(w[14 + k] * math.cos(second[k] * z) + w[21 + k] * math.sin(second[k] * z) for k in range(7)) / math.sqrt(7)
        assert value == pytest.approx(h.item(), rel=1e-12, abs=1e-12)


def test_both_kernels_of_the_bottleneck_have_their_closed_forms():
    """K_g is (1/m) sum_k cos(nu_k (z_i - z_j)), whatever a is; for K_f the same with omega and x. Diagonals are 1."""
    system = bottleneck()
    record, module = pl.composition_kernels(system, 2), system.module_at(system.start)
    x = torch.tensor([[0.0], [1.5], [-2.0], [4.0]], dtype=torch.float64)
    z = module[:2](x).detach()
    frequencies = module[2].frequencies
    assert_close(record.outer, torch.cos((z - z.T)[:, :, None] * frequencies).mean(dim=2))
    other = system.start.clone()
    other[14:] = randn(14, seed=5)
    assert_close(pl.composition_kernels(system, 2, other).outer, record.outer)
    lower = pl.tangent_kernel(pl.NetworkSystem(module[:2], x, torch.zeros(4)))
    assert_close(lower, torch.cos((x - x.T)[:, :, None] * module[0].frequencies).mean(dim=2))
    assert_close(record.outer.diag(), torch.ones(4, dtype=torch.float64))


def test_the_bottleneck_draws_what_it_says():
    """10,000 frequencies give a standard deviation within 3% (4 standard errors), and kernels within 0.03 of the limit."""
    system = bottleneck(10_000)
    module, (u, a) = system.module_at(system.start), system.start.split(20_000)
    scales = (module[0].frequencies.std(), module[2].frequencies.std(), u.std(), a.std())
    assert all(scale.item() == pytest.approx(expected, rel=0.03) for scale, expected in zip(scales, (1, 4, 3, 1)))
    x = torch.tensor([0.0, 1.5, -2.0, 4.0], dtype=torch.float64)
    z = module[:2](x[:, None]).detach().flatten()
    limit = torch.exp(-((x[:, None] - x) ** 2) / 2)
    inner = pl.tangent_kernel(pl.NetworkSystem(module[:2], x[:, None], torch.zeros(4)))
    # Entries are means of 10,000 cosines: standard errors up to 0.007.
    assert (inner - limit).abs().max() < 0.03
    assert (pl.composition_kernels(system, 2).outer - torch.exp(-8 * (z[:, None] - z) ** 2)).abs().max() < 0.03
    same = bottleneck(10_000)
    assert torch.equal(same.start, system.start) and not torch.equal(bottleneck(10_000, seed=3).start, system.start)


def test_the_limit_of_the_outer_kernel_is_conditioned_where_the_outputs_of_f_are_apart():
    """At least 1/2 where they are sqrt(2 log(2 n - 2))/n apart, n = 4; singular where they coincide."""
    apart = math.sqrt(2 * math.log(6)) / 4

    def smallest(gap):
        z = gap * torch.arange(4, dtype=torch.float64)
        return torch.linalg.eigvalsh(torch.exp(-8 * (z[:, None] - z) ** 2))[0].item()

    assert smallest(apart) >= 0.5 and abs(smallest(0.0)) < 1e-14 and smallest(apart / 4) < 0.5


# The landscapes of chapter 10


@pytest.mark.parametrize("height", [0.1, 0.5, 2.0])
def test_the_bottom_of_the_bumpy_valley_stays_between_its_bounds(height):
    system = toys.bumpy_valley(height)
    line = torch.linspace(-6, 6, 2001, dtype=torch.float64)
    bottom = torch.stack([system.value(w)[1] for w in torch.stack([line, line**2 / 4], dim=1)])
    assert bottom.min() >= height / 4 and bottom.max() <= 7 * height / 4
    # Neither bound is idle: the bottom comes within a tenth of each.
    assert bottom.min() < 0.3 * height and bottom.max() > 1.7 * height


def test_bumps_have_the_curvature_and_the_slope_of_their_docstring():
    system, a, k = toys.bumps(0.5, 8.0), 0.5, 8.0
    for w in torch.linspace(-3, 3, 301, dtype=torch.float64):
        hessian = torch.func.hessian(system.loss)(w[None]).item()
        assert hessian == pytest.approx(1 - a**2 * k**2 * math.cos(2 * k * w), rel=1e-9, abs=1e-9)
        assert abs(system.gradient(w[None]).item() - w.item()) <= a**2 * k / 2 + 1e-12
    slopes = torch.stack([system.gradient(w[None])[0] for w in torch.linspace(-3, 3, 3001, dtype=torch.float64)])
    assert ((slopes[:-1] < 0) & (slopes[1:] > 0)).sum() > 3, "several local minima"


@pytest.mark.parametrize("width", [0.05, 1.0])
def test_the_ramp_is_its_loss(width):
    system = toys.ramp(width)
    for w in torch.linspace(-2, 3, 51, dtype=torch.float64):
        sigmoid = 1 / (1 + math.exp(-(1 + w) / width))
        assert system.loss(w[None]).item() == pytest.approx(width * math.log1p(math.exp((1 + w) / width)), rel=1e-9)
        assert system.gradient(w[None]).item() == pytest.approx(sigmoid, rel=1e-9)
        curvature = torch.func.hessian(system.loss)(w[None]).item()
        assert curvature == pytest.approx(sigmoid * (1 - sigmoid) / width, rel=1e-6, abs=1e-12)
        assert curvature <= 1 / (4 * width) * (1 + 1e-12)


def test_the_singular_points_of_the_egg_crate():
    for i, j in ((1, 1), (1, -1), (3, -1)):
        w = math.pi / 2 * torch.tensor([i, j], dtype=torch.float64)
        assert pl.tangent_kernel(toys.egg_crate(), w).item() < 1e-30
        assert round(toys.egg_crate().value(w).item(), 12) in (2, 0, -2)


def test_the_singular_set_of_the_folds():
    system = toys.folds(0.3)
    for w in 2 * randn(POINTS, 2):
        determinant = (w[0] ** 2 - 1) * (w[1] ** 2 - 1) - 4 * 0.09 * w[0] * w[1]
        assert_close(torch.linalg.det(system.jacobian(w)), determinant)
