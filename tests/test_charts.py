import math

import pytest
import torch
from helpers import randn
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from torch.func import jacrev

import plbook as pl
from plbook import charts

SEEDS = st.integers(0, 10**6)
SLACK = 1e-10


def on_sphere(seed, n=2, p=5):
    """A random quadratic system, restricted to the unit sphere in p + 1 dimensions, in stereographic coordinates."""
    ambient = pl.toys.quadratics(n, p + 1, seed=seed)
    return pl.input_transform(ambient, charts.stereographic, torch.zeros(p)), ambient


def to_stereographic(v):
    point = charts.hemisphere(v)
    return point[:-1] / (1 + point[-1])


def in_ball(seed, p=5):
    point = randn(p, seed=seed)
    return 0.9 * point / (1 + point.norm())


@given(seed=SEEDS)
@runs(max_examples=30)
def test_charts_of_the_sphere_are_what_their_docstrings_say(seed):
    v = in_ball(seed)
    square = (v @ v).item()
    for chart in (charts.stereographic, charts.hemisphere):
        assert chart(v).norm().item() == pytest.approx(1, abs=1e-14)
    J = jacrev(charts.stereographic)(v)
    assert torch.allclose(J.T @ J, (2 / (1 + square)) ** 2 * torch.eye(5, dtype=torch.float64), atol=1e-12)
    J = jacrev(charts.hemisphere)(v)
    assert torch.allclose(J.T @ J, torch.eye(5, dtype=torch.float64) + torch.outer(v, v) / (1 - square), rtol=1e-10)
    assert torch.allclose(charts.stereographic(to_stereographic(v)), charts.hemisphere(v), atol=1e-12)


@given(seed=SEEDS)
@runs(max_examples=30)
def test_charts_of_the_rotations_turn_about_their_axis(seed):
    a = randn(3, seed=seed)
    for chart, angle in ((charts.rotation, a.norm()), (charts.cayley, 2 * (a.norm() / 2).atan())):
        R = chart(a)
        assert torch.allclose(R.T @ R, torch.eye(3, dtype=torch.float64), atol=1e-12)
        assert torch.allclose(R @ a, a, atol=1e-12) and torch.linalg.det(R) > 0
        assert R.trace().item() == pytest.approx(1 + 2 * math.cos(angle), abs=1e-12)
    # A quarter turn about the third axis takes the first one to the second.
    quarter = charts.rotation(torch.tensor([0.0, 0.0, math.pi / 2], dtype=torch.float64))
    assert torch.allclose(quarter[:, 0], torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), atol=1e-14)


@pytest.mark.statement(name="Change of coordinates", kind="positive")
@given(seed=SEEDS)
@runs(max_examples=25)
def test_eigenvalues_and_condition_numbers_change_by_the_stretches_at_most(seed):
    system, _ = on_sphere(seed)
    points = torch.stack([in_ball(seed + k) for k in range(3)])
    record = pl.coordinate_change(system, to_stereographic, points)
    low, high = record.stretches.square().T
    for column in (0, 1):
        quotient = record.after[:, column] / record.before[:, column]
        assert (quotient >= low * (1 - SLACK)).all() and (quotient <= high * (1 + SLACK)).all()
    assert (record.ratios <= record.allowed * (1 + SLACK)).all()
    assert (record.ratios >= (1 - SLACK) / record.allowed).all()
    new = pl.input_transform(system, to_stereographic, points[0])
    for v, least, most in zip(points, low, high):
        factor = pl.pl_ratio(new, v) / pl.pl_ratio(system, to_stereographic(v))
        assert least * (1 - SLACK) <= factor <= most * (1 + SLACK)


@pytest.mark.statement(name="Change of coordinates", kind="positive")
def test_the_bound_of_the_condition_number_is_attained():
    system = pl.toys.linear(torch.eye(2), [0.0, 0.0])
    record = pl.coordinate_change(system, lambda v: v * torch.tensor([3.0, 0.5], dtype=torch.float64), torch.zeros(1, 2))
    assert record.ratios.item() == pytest.approx(36) and record.allowed.item() == pytest.approx(36)


@pytest.mark.statement(name="Change of coordinates", kind="positive")
@given(seed=SEEDS)
@runs(max_examples=25)
def test_a_conformal_chart_shows_the_condition_number_of_the_manifold(seed):
    system, ambient = on_sphere(seed)
    v = in_ball(seed)
    x = charts.stereographic(v)
    # Twin: the derivative of F along the sphere, from an orthonormal basis of its tangent space.
    tangent = torch.linalg.svd(x[None]).Vh[1:]
    sigma = torch.linalg.svdvals(ambient.jacobian(x) @ tangent.T)
    assert pl.kernel_spectrum(system, v).condition_number == pytest.approx((sigma[0] / sigma[-1]).item() ** 2, rel=1e-8)


@pytest.mark.statement(name="Change of coordinates", kind="negative")
def test_the_condition_number_is_not_preserved():
    system, _ = on_sphere(0)
    record = pl.coordinate_change(system, to_stereographic, torch.stack([in_ball(k) for k in range(8)]))
    assert (record.ratios - 1).abs().max() > 0.05


@pytest.mark.statement(name="Change of coordinates", kind="negative")
def test_off_the_solutions_the_condition_number_of_definition_4_obeys_no_such_bound():
    line, kappas = pl.toys.linear(torch.eye(1), [0.0]), []
    for k in (10.0, 100.0):
        wiggly = pl.input_transform(line, lambda v: v + (k * v).sin() / (2 * k), [1.0])
        points = torch.linspace(1, 2, 401, dtype=torch.float64)[:, None]
        kappas.append(pl.condition_number(wiggly, points).value)
        stretches = pl.coordinate_change(line, lambda v: v + (k * v).sin() / (2 * k), points).stretches
        assert stretches.min() > 0.49 and stretches.max() < 1.51
    # kappa is 1 before, and the stretches would allow 9.
    assert kappas[0] > 30 and kappas[1] > 300


def test_where_a_change_is_none_it_is_refused():
    system = pl.toys.product()
    with pytest.raises(ValueError, match="singular or not finite at points\\[1\\]"):
        pl.coordinate_change(system, lambda v: v**3, [[1.0, 1.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match="shape"):
        pl.coordinate_change(system, lambda v: v**3, [1.0, 1.0])
    with pytest.raises(ValueError):
        pl.coordinate_change(system, lambda v: v[:1], [[1.0, 1.0]])
