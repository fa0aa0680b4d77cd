"""Bounds of eigenvalues and norms against 50 digits: never on the wrong side, and close."""

import functools
import importlib
import math
from unittest import mock

import flint
import pytest
import torch
import verified_eigenvalues
from helpers import randn
from verified_eigenvalues import KINDS, above, norm_below, symmetric

from plbook.verified import smallest_eigenvalue_bound, smallest_singular_value_bound, spectral_norm_bound

CASES, CHUNK = 300, 30
matrices = importlib.import_module("plbook.verified.matrices")
# All tests of a file run in one process, so that each case is measured once.
measure = functools.cache(verified_eigenvalues.measure)


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


# The smallest eigenvalue


@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
def test_the_bound_is_below_the_smallest_eigenvalue_and_close_to_it(first):
    results = [measure(seed) for seed in range(first, first + CHUNK)]
    assert verified_eigenvalues.summary(results)["failures"] == []


def test_the_cases_are_of_every_kind_and_hard():
    kinds = verified_eigenvalues.summary([measure(seed) for seed in range(CASES)])["kinds"]
    assert set(kinds) == set(KINDS) and min(row["cases"] for row in kinds.values()) >= 50
    assert max(row["most rows"] for row in kinds.values()) > 180
    # What LAPACK returns is no lower bound.
    assert all(row["LAPACK's value above the truth"] >= 2 for row in kinds.values())
    assert kinds["gram"]["positive bounds"] == kinds["graded"]["positive bounds"] == 50
    assert kinds["singular"]["positive bounds"] == kinds["gaussian"]["positive bounds"] == 0
    assert 10 <= kinds["nearly_singular"]["positive bounds"] <= 40


def close_to_singular(seed):
    """(A, c): a singular matrix, exact, and a number c > 0 = lambda_min below its rounding errors."""
    x = torch.randint(-9, 10, (12, 11), generator=torch.Generator().manual_seed(seed)).double()
    matrix = x @ x.T / 2.0**12
    return matrix, tensor(1e-18)


def accepted(seeds):
    """The cases in which the factorization of A - c I runs to completion although c > lambda_min, and the bounds then."""
    for matrix, number in map(close_to_singular, seeds):
        shifted = matrix - number * torch.eye(12, dtype=torch.float64)
        if not torch.linalg.cholesky_ex(shifted, upper=True).info:
            yield matrix, matrices._lower_bounds(matrix, number, 0.0)


def test_a_factorization_that_should_have_failed_proves_nothing():
    cases = list(accepted(range(400)))
    assert len(cases) >= 5
    assert all(bound < 0 and above(matrix, bound.item()) for matrix, bound in cases)
    with mock.patch.multiple(matrices, _lost=lambda shifted, factor: shifted.diagonal() * 0, UNIT=0.0):
        assert all(bound > 0 for _, bound in accepted(range(400)))


def test_the_rounding_of_the_product_is_counted():
    """Of the difference between A - c I and R^T R, float64 shows only a part: the rest is gamma(n) |R^T| |R|."""
    matrix, _ = close_to_singular(0)
    factor = torch.linalg.cholesky(matrix + 1e-3 * torch.eye(12, dtype=torch.float64), upper=True)
    lost = matrices._lost(factor.mT @ factor, factor, torch.ones(12, dtype=torch.float64))
    floor = 12 * 2.0**-53 * (factor.abs().mT @ factor.abs()).sum(1)
    assert (lost >= floor).all() and (lost <= 2 * floor).all()


def test_nothing_is_assumed_of_lapack():
    original = torch.linalg.cholesky_ex

    def inexact(matrix, **options):
        factor, failed = original(matrix, **options)
        return factor * (1 + 1e-6 * randn(*factor.shape)), failed

    for kind in ("gram", "near_duplicates", "singular"):
        matrix = symmetric(KINDS[kind](verified_eigenvalues.Draw(5), 20))
        with mock.patch.object(torch.linalg, "cholesky_ex", inexact):
            bound = smallest_eigenvalue_bound(matrix)
        assert above(matrix, bound) and bound < smallest_eigenvalue_bound(matrix)


@pytest.mark.parametrize("scale", [1.0, 2.0**-1000, 2.0**1000, 1e-310, 1e307])
def test_closed_forms_at_every_scale(scale):
    """Eigenvalues 1 and 3, entries exact."""
    matrix = scale * tensor([[2.0, 1.0], [1.0, 2.0]])
    exact = matrix[0, 1].item()
    assert exact * (1 - 1e-13) - 1e-320 <= smallest_eigenvalue_bound(matrix) <= exact
    assert exact * -3 * (1 + 1e-13) - 1e-320 <= smallest_eigenvalue_bound(-matrix) <= exact * -3


def test_small_and_diagonal_matrices():
    assert smallest_eigenvalue_bound(tensor([[-3.5]])) == -3.5
    assert smallest_eigenvalue_bound(torch.zeros(4, 4, dtype=torch.float64)) == 0.0
    diagonal = torch.diag(tensor([1.0, 1e-20, 1e-40, 1e150, 1e-100]))
    assert 0.99e-100 <= smallest_eigenvalue_bound(diagonal) <= 1e-100
    diagonal[1, 1] = 0.0
    assert -1e140 <= smallest_eigenvalue_bound(diagonal) <= 0.0


def test_no_bound_is_lost_to_many_rows():
    """A closed form with 1,500 rows: 1 on the diagonal, 1/4 beside it, eigenvalues 1 + cos(k pi / 1501) / 2."""
    n = 1500
    side = 0.25 * torch.ones(n - 1, dtype=torch.float64)
    matrix = torch.eye(n, dtype=torch.float64) + side.diag(1) + side.diag(-1)
    exact = 1 + math.cos(n * math.pi / (n + 1)) / 2
    assert exact - 1e-11 <= smallest_eigenvalue_bound(matrix) <= exact


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (tensor([[1.0, 2.0], [2.0000000000000004, 1.0]]), "exactly symmetric"),
        (randn(2, 3), "must be square"),
        (randn(3), "must be square"),
        (torch.zeros(0, 0, dtype=torch.float64), "must be square"),
        (tensor([[float("nan")]]), "must be finite, but 1 of 1"),
        (tensor([[float("inf"), 0.0], [0.0, 1.0]]), "must be finite, but 1 of 4"),
        (torch.eye(2), "must be a float64 tensor, got torch.float32"),
        ([[1.0]], "must be a float64 tensor, got list"),
    ],
)
def test_wrong_matrices_are_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        smallest_eigenvalue_bound(matrix)


# Norms


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 3), (30, 70), (70, 30), (60, 60)])
@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e8, 2.0**-1000, 2.0**1000])
def test_the_norm_bound_is_above_and_close(shape, scale):
    matrix = scale * randn(*shape)
    bound = spectral_norm_bound(matrix).item()
    assert norm_below(matrix, bound) is True
    assert norm_below(matrix, bound * (1 - 1e-12)) is False


def test_norms_in_closed_form():
    assert 5.0 <= spectral_norm_bound(tensor([[3.0, 4.0]])) <= 5 + 1e-14
    assert 5.0 <= spectral_norm_bound(tensor([[3.0], [4.0]])) <= 5 + 1e-14
    assert 63 <= spectral_norm_bound(torch.outer(tensor([2.0, 3.0, 6.0]), tensor([1.0, 4.0, 8.0]))) <= 63 * (1 + 1e-14)
    assert 1e-320 <= spectral_norm_bound(tensor([[1e-320]])) <= 1.01e-320
    assert spectral_norm_bound(torch.full((2, 2), 1.7e308, dtype=torch.float64)) == math.inf


def test_norms_of_a_batch_are_those_of_its_matrices():
    batch = randn(2, 3, 5, 4) * 10 ** (100 * randn(2, 3, 1, 1))
    batch[1, 1] = 0
    bounds = spectral_norm_bound(batch)
    assert bounds.shape == (2, 3) and bounds[1, 1] == 0
    single = torch.stack([spectral_norm_bound(matrix) for matrix in batch.reshape(6, 5, 4)]).reshape(2, 3)
    torch.testing.assert_close(bounds, single, rtol=1e-13, atol=0)
    assert spectral_norm_bound(randn(3, 0, 4)).tolist() == [0, 0, 0] and spectral_norm_bound(randn(4, 0)) == 0
    assert spectral_norm_bound(randn(0, 4, 3)).shape == (0,)


def test_large_matrices_have_close_bounds():
    """With k orthonormal rows, scaled: the norm is the largest scale."""
    n = 700
    basis = torch.linalg.qr(randn(n, n)).Q
    matrix = basis * torch.linspace(1, 2, n, dtype=torch.float64)
    norm = torch.linalg.svdvals(matrix)[0].item()
    # LAPACK's value is itself off by some 1e-14.
    assert norm * (1 - 1e-13) <= spectral_norm_bound(matrix) <= norm * (1 + 1e-6)
    # A matrix of one direction, for which the Krylov space has no more than it.
    assert spectral_norm_bound(torch.ones(n, n, dtype=torch.float64)) == pytest.approx(n, rel=1e-7)


def test_long_rows_are_summed_in_pieces():
    length = 300_000
    matrix = torch.stack([torch.ones(length), torch.arange(length) % 2]).double()
    # The Gram matrix is length times [[1, 1/2], [1/2, 1/2]].
    exact = math.sqrt(length * (3 + math.sqrt(5)) / 4)
    bound = spectral_norm_bound(matrix).item()
    assert exact <= bound <= exact * (1 + 1e-12)
    with mock.patch.object(matrices, "PIECE", length):
        assert spectral_norm_bound(matrix).item() > exact * (1 + 1e-11)


@pytest.mark.parametrize("bad", [tensor([[1.0, float("inf")]]), torch.ones(2, 2), randn(3)])
def test_norms_of_wrong_matrices_are_refused(bad):
    with pytest.raises(ValueError, match="finite|float64|shape"):
        spectral_norm_bound(bad)


# The smallest singular value


def singular_above(matrix, number):
    """Whether sigma_min(A) > number, for wide A."""
    with flint.ctx.workdps(verified_eigenvalues.DIGITS):
        a = flint.arb_mat(matrix.tolist())
        rows = (a * a.transpose()).tolist()
        for i, row in enumerate(rows):
            row[i] -= flint.arb(number) ** 2
    return verified_eigenvalues.positive_definite(rows)


@pytest.mark.parametrize("condition", [1.0, 1e4, 1e8, 1e10, 1e11])
@pytest.mark.parametrize("shape", [(2, 2), (10, 30), (40, 60)])
def test_the_singular_value_bound_is_below_and_close(condition, shape):
    n, p = shape
    rows, columns = torch.linalg.qr(randn(n, n)).Q, torch.linalg.qr(randn(p, n)).Q
    matrix = (rows * torch.logspace(0, -math.log10(condition), n, dtype=torch.float64)) @ columns.T * 1e100
    bound = smallest_singular_value_bound(matrix)
    assert singular_above(matrix, bound) is True
    assert singular_above(matrix, bound * (1 + 1e-13 * n**2 * condition)) is False


def test_a_singular_matrix_has_the_bound_zero():
    for seed in range(20):
        x = torch.randint(-9, 10, (8, 5), generator=torch.Generator().manual_seed(seed)).double()
        assert smallest_singular_value_bound(x @ x.T) == 0.0
    assert smallest_singular_value_bound(torch.zeros(2, 3, dtype=torch.float64)) == 0.0
    assert smallest_singular_value_bound(tensor([[1.0, 1e-300], [1.0, 0.0]])) <= 1e-300


def test_a_tall_matrix_is_refused():
    with pytest.raises(ValueError, match="must be wide"):
        smallest_singular_value_bound(randn(4, 3))
