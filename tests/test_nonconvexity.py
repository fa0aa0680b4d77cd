"""Chapter 3: the toys' closed forms, negative curvature beside solutions, and the statements on (non-)convexity."""

import math

import pytest
import torch
from helpers import network, randn
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from torch.func import hessian

import plbook as pl
from plbook import reference, toys

SEEDS = st.integers(0, 10**6)


def point(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def smallest(system, w):
    """The smallest eigenvalue of H_L(w), dense."""
    return torch.linalg.eigvalsh(reference.loss_hessians(system, w)[0])[0].item()


def along(system, found, w, t):
    """v^T H_L(w + t u) v."""
    return (found.direction @ reference.loss_hessians(system, w + t * found.offset)[0] @ found.direction).item()


def solved_quadratics(n, p, seed):
    """A random quadratic system and a start that solves it exactly: y = F(w)."""
    drawn = toys.quadratics(n, p, seed=seed)
    return pl.System(drawn.value, drawn.value(drawn.start), drawn.start)


# The toys

CLOSED_FORMS = {
    "wells": (
        toys.wells(),
        lambda a, b: [a**2 - 1, b - a**2 / 2, math.sqrt(0.18) * (a + 1)],
        lambda a, b: [[2 * a, 0], [-a, 1], [math.sqrt(0.18), 0]],
    ),
    "valley": (toys.valley(), lambda a, b: [b - math.sin(a)], lambda a, b: [[-math.cos(a), 1]]),
    "bowl": (
        toys.bowl(0.3, 4),
        lambda a, b, c, d: [a, 0.3 * b + (b**2 + c**2 + d**2) / 2],
        lambda a, b, c, d: [[1, 0, 0, 0], [0, 0.3 + b, c, d]],
    ),
    "straight": (
        toys.straight(),
        lambda a, b: [a * (1 + b + 2 * b**2)],
        lambda a, b: [[1 + b + 2 * b**2, a * (1 + 4 * b)]],
    ),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms_at_random_points(name):
    system, value, jacobian = CLOSED_FORMS[name]
    for w in 2 * randn(20, system.num_parameters):
        torch.testing.assert_close(system.value(w), point(*value(*w.tolist())))
        torch.testing.assert_close(system.jacobian(w), torch.tensor(jacobian(*w.tolist()), dtype=torch.float64))
    assert not system.targets.any()


def test_the_wells_have_the_critical_points_of_their_docstring():
    system = toys.wells()
    for w1, loss, sign in ((-1.0, 0.0, 1), (0.9, 0.34295, 1), (0.1, 0.59895, -1)):
        w = point(w1, w1**2 / 2)
        assert system.gradient(w).abs().max() < 1e-14 and system.loss(w).item() == pytest.approx(loss, abs=1e-15)
        expected = point(7 * w1**2 - 1.82, -w1, -w1, 1.0).view(2, 2)
        torch.testing.assert_close(reference.loss_hessians(system, w)[0], expected)
        assert math.copysign(1, torch.linalg.det(expected).item()) == sign


def test_the_determinants_of_the_docstrings():
    for w in randn(30, 2):
        r = w[1] - w[0].sin()
        assert torch.linalg.det(reference.loss_hessians(toys.valley(), w)[0]).item() == pytest.approx((r * w[0].sin()).item(), abs=1e-12)
        phi = 1 + w[1] + 2 * w[1] ** 2
        expected = (w[0] * phi) ** 2 * (1 - 20 * w[1] - 40 * w[1] ** 2)
        found = torch.linalg.det(reference.loss_hessians(toys.straight(), w)[0]).item()
        assert found == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)


@given(seed=SEEDS, tilt=st.floats(0, 2))
@runs(max_examples=30)
def test_the_eigenvalues_of_the_bowl(seed, tilt):
    system, w = toys.bowl(tilt, 6), randn(6, seed=seed)
    g, slope = system.value(w)[1].item(), system.jacobian(w)[1].norm().item()
    expected = sorted([1.0, g + slope**2, *[g] * 4])
    found = torch.linalg.eigvalsh(reference.loss_hessians(system, w)[0]).tolist()
    assert found == pytest.approx(expected, rel=1e-10, abs=1e-10)


# Proposition 2


@pytest.mark.statement(name="Proposition 2", kind="positive")
@given(seed=SEEDS, n=st.integers(1, 4), extra=st.integers(1, 5))
@runs(max_examples=40)
def test_random_quadratics_curve_downward_beside_their_solutions(seed, n, extra):
    """v is a unit vector of ker DF, DF u = -h, and v^T H_L(w + t u) v = -|h|^2 t + c t^2 + ... exactly as a polynomial."""
    system = solved_quadratics(n, n + extra, seed)
    w, jacobian = system.start, system.jacobian(system.start)
    found = pl.negative_curvature(system, w)
    v, u = found.direction, found.offset
    h = torch.einsum("ipq,p,q->i", reference.hessians(system, w), v, v)
    scale = torch.linalg.cond(jacobian).item()
    assert v.norm().item() == pytest.approx(1) and (jacobian @ v).norm() < 1e-12 * jacobian.norm()
    torch.testing.assert_close(jacobian @ u, -h, rtol=1e-11 * scale, atol=1e-12 * scale)
    assert found.slope == pytest.approx(-(h @ h).item()) and found.slope < 0
    # Central difference of a polynomial of degree 4 in t; the step makes t u small.
    step = 1e-3 / (1 + u.norm().item()) ** 2
    slope = (along(system, found, w, step) - along(system, found, w, -step)) / (2 * step)
    assert slope == pytest.approx(found.slope, rel=1e-3)
    tiny = 0.1 * step
    assert along(system, found, w, tiny) < 0 and smallest(system, w + tiny * u) < 0 < along(system, found, w, -tiny)
    assert smallest(system, w) >= -1e-10 * jacobian.square().sum()


@pytest.mark.statement(name="Proposition 2", kind="positive")
def test_a_network_curves_downward_beside_its_solution():
    drawn = network(lambda: pl.MLP(3, [6], 2), 3)
    system = pl.System(drawn.value, drawn.value(drawn.start), drawn.start)
    found = pl.negative_curvature(system)
    t = 1e-4
    assert along(system, found, system.start, t) / t == pytest.approx(found.slope, rel=1e-2)
    assert smallest(system, system.start + t * found.offset) < 0.9 * t * found.slope < 0


@pytest.mark.statement(name="Proposition 2", kind="negative")
@pytest.mark.parametrize("p", [6, 9])
def test_the_printed_hypotheses_do_not_suffice(p):
    """DF(0) is not 0 and rank H_2 > 2 n, and the loss is convex: rank DF(0) = 1 is missing one."""
    system = toys.bowl(0.0, p)
    ranks = [torch.linalg.matrix_rank(H).item() for H in reference.hessians(system, system.start)]
    assert system.loss(system.start) == 0 and system.jacobian(system.start).any() and max(ranks) > 2 * system.num_equations
    assert min(smallest(system, s * w) for s in (1e-3, 0.1, 3.0) for w in randn(200, p)) >= -1e-12
    assert not pl.negative_curvature(system).holds and torch.linalg.matrix_rank(system.jacobian(system.start)) == 1


@pytest.mark.statement(name="Proposition 2", kind="positive")
@pytest.mark.parametrize("tilt", [0.01, 1.0])
def test_with_a_regular_kernel_the_same_hessians_do(tilt):
    system = toys.bowl(tilt)
    assert pl.negative_curvature(system).holds
    assert smallest(system, point(0, -tilt / 2, 0, 0, 0, 0)) == pytest.approx(-3 / 8 * tilt**2)


def test_the_condition_that_suffices_is_weaker_than_a_regular_kernel():
    """F = (w1 + w2^2/2, w3^2/2): DF(0) has rank 1 of 2, but h = (1, 0) for v = e2 and DF^T h = e1."""
    system = pl.System(lambda w: torch.stack([w[0] + w[1] ** 2 / 2, w[2] ** 2 / 2]), [0.0] * 2, torch.zeros(3))
    found = pl.negative_curvature(system)
    assert found.holds and found.slope == pytest.approx(-1) and along(system, found, system.start, 1e-3) < -9e-4


@pytest.mark.statement(name="Proposition 2", kind="negative")
def test_rank_two_is_not_enough_for_one_equation():
    system, origin = toys.straight(), point(0, 0)
    assert torch.linalg.matrix_rank(reference.hessians(system, origin)[0]) == 2 and system.jacobian(origin).any()
    boxed = 2 * torch.rand(400, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1
    assert min(smallest(system, w * point(0.5, 0.045)) for w in boxed) >= -1e-12
    assert smallest(system, point(0.5, 0.06)) < -1e-3 and not pl.negative_curvature(system, origin).holds


@pytest.mark.statement(name="Proposition 2", kind="positive")
@given(seed=SEEDS)
@runs(max_examples=20)
def test_rank_three_is_enough_for_one_equation(seed):
    """F = <b, w> + 1/2 <w, C w> with p = 6 and C of rank 3 and mixed signs: C cannot vanish on the 5-dimensional kernel of b."""
    frame = randn(6, 3, seed=seed)
    C = frame @ torch.diag(point(1, -1, 1)) @ frame.T
    b = randn(6, seed=seed + 1)
    system = pl.System(lambda w: (b @ w + w @ C @ w / 2)[None], [0.0], torch.zeros(6))
    found = pl.negative_curvature(system)
    assert found.holds and smallest(system, 1e-5 * found.offset / found.offset.norm()) < 0


def test_restricting_to_a_kernel_keeps_rank_above_r_minus_2n():
    """The step of the proof, and that 2 n is sharp: [[0, I], [I, 0]] of rank 2 n vanishes on the kernel of [I, 0]."""
    for n in (1, 2, 3):
        form = torch.kron(point(0, 1, 1, 0).view(2, 2), torch.eye(n, dtype=torch.float64))
        tangent = torch.eye(2 * n, dtype=torch.float64)[n:]
        assert torch.linalg.matrix_rank(form) == 2 * n and not (tangent @ form @ tangent.T).any()
        larger = randn(7, 2 * n + 1, seed=n)
        restricted = torch.linalg.svd(randn(n, 7, seed=n)).Vh[n:] @ larger @ larger.T
        assert torch.linalg.matrix_rank(restricted) >= 1


# The bend


@pytest.mark.statement(name="The bend of the solutions", kind="positive")
@given(seed=SEEDS)
@runs(max_examples=20)
def test_the_offset_is_the_acceleration_of_a_curve_of_solutions(seed):
    """w + t v + t^2 u/2 solves the equations up to t^3: halving t divides the residual by 8."""
    system = solved_quadratics(2, 5, seed)
    found, w = pl.negative_curvature(system), system.start

    def residual(t, bend=1.0):
        return system.residual(w + t * found.direction + bend * t**2 / 2 * found.offset).norm().item()

    t = 1e-2 / (1 + found.offset.norm().item())
    assert residual(t) < 1e-2 * residual(t, 0.0) + 1e-13
    assert residual(t / 2) < residual(t) / 5 + 1e-13
    # Perpendicular to the solution set.
    assert (torch.linalg.svd(system.jacobian(w)).Vh[2:] @ found.offset).norm() < 1e-10 * (1 + found.offset.norm())


@pytest.mark.statement(name="The bend of the solutions", kind="negative")
def test_without_a_regular_kernel_the_solutions_need_not_be_a_curve():
    """The bowl without tilt: F = 0 at 0 only, though p - n = 4."""
    system = toys.bowl(0.0)
    assert all(system.loss(w) > 1e-3 for w in torch.nn.functional.normalize(randn(200, 6)))


@pytest.mark.parametrize("system", [toys.linear(randn(3, 6), [0.0] * 3), toys.wells(), toys.repeated(), toys.square(0.0, 0.0)])
def test_no_direction_where_there_is_none(system):
    """Nothing bends; no tangent direction (p <= rank); DF = 0."""
    w = point(-1, 0.5) if system.num_equations == 3 and system.num_parameters == 2 else system.start
    found = pl.negative_curvature(system, w)
    assert (found.holds, found.direction, found.offset, found.slope) == (False, None, None, 0.0)


def test_the_bend_found_is_sharp():
    """F = w1 + (w2^2 + 4 w3^2)/2: |h| is largest along e3, h = 4."""
    system = pl.System(lambda w: (w[0] + (w[1] ** 2 + 4 * w[2] ** 2) / 2)[None], [0.0], torch.zeros(3))
    found = pl.negative_curvature(system)
    assert found.slope == pytest.approx(-16) and found.direction.abs().tolist() == pytest.approx([0, 0, 1])
    assert found.offset.tolist() == pytest.approx([-4, 0, 0])


def test_derivatives_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        pl.negative_curvature(pl.System(lambda w: w.exp(), [0.0], [1.0]), [800.0])


# Remark 2: other losses


def soft_cross_entropy(z, q):
    return (torch.nn.functional.softplus(z) - q * z).sum()


@pytest.mark.statement(name="Remark 2", kind="positive")
@given(seed=SEEDS)
@runs(max_examples=20)
def test_other_losses_curve_downward_where_the_weighted_jacobian_has_full_rank(seed):
    """Cross-entropy with soft labels q: smallest at z = log(q/(1-q)), Q = diag(q (1 - q)). With Q DF u = -h the slope is -|h|^2."""
    system = solved_quadratics(2, 5, seed)
    q = system.targets.sigmoid()
    weights = q * (1 - q)
    w, v = system.start, torch.linalg.svd(system.jacobian(system.start)).Vh[-1]
    h = torch.einsum("ipq,p,q->i", reference.hessians(system, w), v, v)
    u = -torch.linalg.pinv(weights[:, None] * system.jacobian(w)) @ h
    t = 1e-6 / (1 + u.norm()) ** 2
    curvature = [v @ hessian(lambda x: soft_cross_entropy(system.value(x), q))(w + s * t * u) @ v for s in (1, -1)]
    assert ((curvature[0] - curvature[1]) / (2 * t)).item() == pytest.approx(-(h @ h).item(), rel=1e-2, abs=1e-6)


@pytest.mark.statement(name="Remark 2", kind="negative")
def test_a_loss_that_is_flat_in_one_equation_may_be_convex():
    """1/2 z1^2 + 1/4 max(z2, 0)^4 of (w1, w2 + |w''|^2/2): DF(0) has rank 2 and H_2 rank p - 2 > 4, but Q = diag(1, 0)."""

    def loss(w):
        return w[0] ** 2 / 2 + (w[1] + w[2:] @ w[2:] / 2).clamp(min=0) ** 4 / 4

    points = torch.cat([0.1 * randn(100, 7), 2 * randn(100, 7)])
    assert min(torch.linalg.eigvalsh(hessian(loss)(w))[0].item() for w in points) >= -1e-9
    # The square loss of the same system does curve downward.
    system = pl.System(lambda w: torch.stack([w[0], w[1] + w[2:] @ w[2:] / 2]), [0.0] * 2, torch.zeros(7))
    assert pl.negative_curvature(system).holds


# Comparison to under-parameterized systems


@pytest.mark.statement(name="A regular minimum is convex nearby", kind="positive")
def test_the_wells_are_convex_around_both_minima():
    system = toys.wells()
    for w in (point(-1, 0.5), point(0.9, 0.405)):
        ball = w + 0.05 * torch.nn.functional.normalize(randn(200, 2)) * torch.linspace(0, 1, 200, dtype=torch.float64)[:, None]
        assert min(smallest(system, x) for x in ball) > 0.3


@pytest.mark.statement(name="A regular minimum is convex nearby", kind="negative")
def test_an_isolated_minimum_with_a_singular_hessian_need_not_be_convex_nearby():
    """F = (w1 - w2^2, w2^4, w2^4): zero at 0 only; at (a, 0) det H_L = -2 a."""
    system = pl.System(lambda w: torch.stack([w[0] - w[1] ** 2, w[1] ** 4, w[1] ** 4]), [0.0] * 3, [1.0, 1.0])
    assert all(smallest(system, point(a, 0)) < 0 for a in (0.1, 1e-3, 1e-6))
    assert all(system.loss(w) > 0 for w in 0.1 * randn(200, 2))


def test_the_loss_of_a_linear_system_is_convex_everywhere():
    system = toys.linear(randn(3, 6), randn(3, seed=1))
    assert min(smallest(system, 3 * w) for w in randn(50, 6)) > -1e-12
