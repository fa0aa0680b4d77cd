"""Bounds of eigenvalues and singular values that are true in spite of rounding: chapter 12.

Entries count as exact. Each bound is guessed by a fast method and then proved by a Cholesky factorization R^T R of the
shifted matrix (Rump, "Verification of positive definiteness", BIT 46, 2006). What the factorization lost is not estimated
in advance but looked up: |shifted - R^T R| is computed, with what rounding hides from it, gamma(n) |R^T| |R|. So nothing is
assumed of LAPACK. The size is that of the (n + 1) u |R^T| |R| of Rump and Jeannerod (SIMAX 35, 2014) for a textbook
Cholesky.
"""

import math

import numpy as np
import torch

from plbook.verified.rounding import SLACK, UNIT, down, gamma, up

# Products of long rows are summed in pieces: the error of a sum grows with the length of the pieces and their number.
PIECE = 1024
# Rows of a factorization that are checked at once.
ROWS = 512
# Scaled matrices have entries up to 1, their factors entries up to 2^10. A product of two of them that underflows has an
# error below this, whether it is denormal or flushed to zero.
UNDERFLOW = 2.0**-1000
# Up to this size all eigenvalues are cheap; above, the largest is estimated by block Lanczos.
DENSE = 256


def smallest_eigenvalue_bound(matrix):
    """A number that is at most lambda_min of a symmetric matrix, in spite of rounding.

    Args:
        matrix: shape (n, n), float64, exactly symmetric, finite; the entries count as exact.

    Returns:
        A float. It lies below lambda_min by about n u tr|A|, with u = 2^-53, less if |R| has a small norm; for a positive
        definite matrix with rows of different scale also by only 0.1% of lambda_min. It is negative for an indefinite
        matrix and for one too close to singular.

    Cost: all eigenvalues, two or three Cholesky factorizations; memory 6 n^2 numbers.

    Raises:
        ValueError: for a matrix that is not square, symmetric, float64 and finite.

    Source: Rump 2006; see the module's docstring.
    """
    matrix = _checked(matrix, "matrix")
    if matrix.ndim != 2 or len(matrix) == 0 or not torch.equal(matrix, matrix.mT):
        raise ValueError(
            f"matrix must be square and exactly symmetric, got shape {tuple(matrix.shape)}. "
            "Copy one triangle to the other: (A.tril() + A.tril(-1).T)."
        )
    if len(matrix) == 1 or not matrix.any():
        return matrix[0, 0].item()
    scaled, factor = _scaled(matrix)
    estimate = torch.linalg.eigvalsh(scaled)
    gap = len(scaled) * UNIT * estimate.abs().max()
    bound = _lower_bounds(scaled, estimate[0], gap).item()
    if bound < 0.999 * estimate[0].item() or estimate[0] <= gap:
        bound = max(bound, _graded_bound(scaled))
    return down(down(bound - len(scaled) * UNDERFLOW) / factor.item())


def spectral_norm_bound(matrices):
    """Numbers that are at least the spectral norms |A|_2 of matrices, in spite of rounding.

    Args:
        matrices: shape (..., m, n), float64, finite; the entries count as exact. Vectors are 1 x n.

    Returns:
        A tensor of shape (...). For Gaussian matrices up to 4,096 x 4,096 it lies above |A|_2 by less than 1e-6 of it.

    Cost: a product A A^T of the smaller side k, and a few Cholesky factorizations; memory 6 k^2 numbers a matrix.

    Raises:
        ValueError: for matrices that are not float64 and finite.

    Source: |A|_2^2 = lambda_max(A A^T), bounded as in `smallest_eigenvalue_bound`.
    """
    matrices = _checked(matrices, "matrices")
    if matrices.ndim < 2:
        raise ValueError(f"matrices must have shape (..., m, n), got {tuple(matrices.shape)}. A vector v is v[None].")
    if matrices.numel() == 0:
        return matrices.new_zeros(matrices.shape[:-2])
    scaled, factor = _scaled(matrices)
    product, error = _gram(scaled if scaled.shape[-2] <= scaled.shape[-1] else scaled.mT)
    estimate, gap = _largest(product)
    square = -_lower_bounds(-product, -estimate, gap) + error
    norm = (square * (1 + 4 * UNIT)).sqrt() * (1 + 4 * UNIT) + math.prod(scaled.shape[-2:]) * UNDERFLOW
    return torch.where(matrices.abs().amax((-2, -1)) > 0, _up(_up(norm) / factor), 0.0)


def frobenius_norm_bound(matrix):
    """A number that is at least the Frobenius norm of a matrix, in spite of rounding."""
    scaled, factor = _scaled(_checked(matrix, "matrix"))
    norm = scaled.square().sum().sqrt().item() * SLACK + scaled.numel() * UNDERFLOW
    return up(norm / factor.item()) if scaled.any() else 0.0


def smallest_singular_value_bound(matrix):
    """A number >= 0 that is at most the smallest singular value of a wide matrix A, in spite of rounding.

    With X close to the inverse of the triangular factor of A^T, the rows of Y = X^T A are nearly orthonormal and
    |A^T v| = |Y^T X^-1 v| >= sigma_min(Y) |v| / |X|_2. So condition numbers up to about 1e13 / n are resolved, while the
    eigenvalues of A A^T would lose all beyond 1e8.

    Args:
        matrix: shape (n, p) with n <= p, float64, finite; the entries count as exact.

    Returns:
        A float; 0 where nothing better was proved.

    Cost: a QR factorization and three products, 8 n^2 p operations; memory 3 n p numbers.

    Raises:
        ValueError: for a matrix that is not wide, float64 and finite.
    """
    matrix = _checked(matrix, "matrix")
    if matrix.ndim != 2 or not 0 < len(matrix) <= matrix.shape[1]:
        raise ValueError(f"matrix must be wide, (n, p) with 1 <= n <= p, got shape {tuple(matrix.shape)}. Transpose it.")
    scaled, factor = _scaled(matrix)
    triangle = torch.linalg.qr(scaled.mT, mode="r").R
    if not triangle.diagonal().all():
        return 0.0
    inverse = torch.linalg.solve_triangular(triangle, torch.eye(len(triangle), dtype=triangle.dtype), upper=True)
    if not inverse.isfinite().all():
        return 0.0
    inverse, _ = _scaled(inverse)
    rows, magnified = _scaled(inverse.mT @ scaled)
    # What rounding and underflow hide in `rows`, before they were magnified.
    sizes = [part.square().sum().sqrt().item() for part in (inverse, scaled)]
    lost = (gamma(len(scaled)) * sizes[0] * sizes[1] + 4 * rows.numel() * UNDERFLOW) * SLACK
    product, error = _gram(rows)
    square = smallest_eigenvalue_bound(product) - error.item()
    least = down(down(math.sqrt(max(down(square), 0.0))) / magnified.item()) - lost
    return max(down(down(down(least) / up(spectral_norm_bound(inverse).item())) / factor.item()), 0.0)


def _checked(matrices, name):
    if not isinstance(matrices, torch.Tensor) or matrices.dtype != torch.float64:
        found = getattr(matrices, "dtype", type(matrices).__name__)
        raise ValueError(f"{name} must be a float64 tensor, got {found}. Convert with torch.as_tensor(A).double().")
    if not matrices.isfinite().all():
        bad = int((~matrices.isfinite()).sum())
        raise ValueError(f"{name} must be finite, but {bad} of {matrices.numel()} entries are NaN or infinite.")
    return matrices.detach().cpu()


def _scaled(matrices):
    """The matrices times powers of two, with largest entries between 1/2 and 1 (or within 2^74 of that), and the powers."""
    exponents = torch.frexp(matrices.abs().amax((-2, -1))).exponent.clamp(-1000, 1000)
    factor = torch.as_tensor(np.ldexp(1.0, -exponents.numpy()))
    return matrices * factor[..., None, None], factor


def _up(numbers):
    return numbers.nextafter(numbers.new_tensor(math.inf))


def _down(numbers):
    return numbers.nextafter(numbers.new_tensor(-math.inf))


def _gram(matrices):
    """(P, e) with P exactly symmetric and |P - A A^T|_2 <= e, for scaled A of shape (..., k, l)."""
    length = matrices.shape[-1]
    product = sum(piece @ piece.mT for piece in matrices.split(PIECE, dim=-1))
    product = product.tril() + product.tril(-1).mT
    terms = min(length, PIECE) + math.ceil(length / PIECE)
    # | |A| |A|^T |_2 <= |A|_F^2
    error = gamma(terms) * matrices.square().sum((-2, -1)) + product.shape[-1] * length * UNDERFLOW
    return product, error * SLACK


def _largest(products):
    """(estimate, gap): lambda_max of positive semidefinite matrices, and what may be missing at best."""
    n = products.shape[-1]
    if n <= DENSE:
        estimate = torch.linalg.eigvalsh(products)[..., -1]
        return estimate, n * UNIT * estimate
    block = torch.randn(n, 4, dtype=products.dtype, generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(block).Q.expand(*products.shape[:-1], 4)
    for _ in range(63):
        block = products @ basis[..., -4:]
        for _ in range(2):
            block = block - basis @ (basis.mT @ block)
        basis = torch.cat([basis, torch.linalg.qr(block).Q], -1)
    basis = torch.linalg.qr(basis).Q
    estimate = torch.linalg.eigvalsh(basis.mT @ products @ basis)[..., -1]
    return estimate, 1e-8 * estimate


def _lower_bounds(matrices, estimate, gap):
    """Numbers (...) that are at most lambda_min of scaled symmetric matrices (..., n, n), close to estimate - gap.

    If matrix - shift I = R^T R + D, then lambda_min >= shift - |D|_2.
    """
    diagonal = matrices.diagonal(dim1=-2, dim2=-1)
    gap = gap + UNDERFLOW
    while True:
        shift = estimate - gap
        shifted = matrices.clone()
        shifted.diagonal(dim1=-2, dim2=-1).copy_(diagonal - shift[..., None])
        factor, failed = torch.linalg.cholesky_ex(shifted, upper=True)
        if not failed.any():
            break
        gap = torch.where(failed > 0, 16 * gap, gap)
    lost = _lost(shifted, factor) + UNIT * SLACK * shifted.diagonal(dim1=-2, dim2=-1).abs()
    return _down(shift - _up(lost.amax(-1)))


def _lost(shifted, factor, weights=None):
    """Upper bounds (..., n) of (G z)_i / z_i for G = |shifted - R^T R| and weights z > 0.

    Their maximum bounds |G|_2, hence |shifted - R^T R|_2, and diag(G z / z) >= G as quadratic forms (Collatz and Wielandt).
    """
    n = shifted.shape[-1]
    sizes = factor.abs()

    def spread(z):
        return (sizes.mT @ (sizes @ z[..., None]))[..., 0]

    if weights is None:
        # Close to the Perron vector of |R^T| |R|: the smallest maximum.
        weights = shifted.new_ones(shifted.shape[:-1])
        for _ in range(4):
            weights = spread(weights)
            weights = (weights / weights.amax(-1, keepdim=True)).clamp(min=2.0**-30)
    lost = gamma(n) * spread(weights) + 4 * n * UNDERFLOW * weights.sum(-1, keepdim=True)
    for first in range(0, n, ROWS):
        last = min(first + ROWS, n)
        product = factor[..., :last, first:last].mT @ factor[..., :last, first:]
        difference = (shifted[..., first:last, first:] - product).abs()
        lost[..., first:last] += (difference @ weights[..., first:, None])[..., 0]
        lost[..., last:] += (difference[..., last - first :].mT @ weights[..., first:last, None])[..., 0]
    return lost * SLACK / weights


def _graded_bound(matrix):
    """A lower bound of lambda_min of a scaled matrix, relative to the size of each row; -inf if that proves nothing.

    matrix - shift I - diag(reserve) = R^T R + D, and |D| <= diag(reserve) as quadratic forms, so that matrix >= shift I.
    """
    n, diagonal = len(matrix), matrix.diagonal()
    if not (diagonal > 0).all():
        return -math.inf
    reserve = 2 * n * gamma(n + 3) * diagonal
    factor = _proof(matrix, 0.0, reserve)
    if factor is None:
        return -math.inf
    shifts = (share * _smallest(factor) for share in (0.999, 0.9, 0.5))
    return next((shift for shift in shifts if _proof(matrix, shift, reserve) is not None), 0.0)


def _proof(matrix, shift, reserve):
    """The factor that proves lambda_min >= shift, or None."""
    diagonal, shifted = matrix.diagonal(), matrix.clone()
    shifted.diagonal().copy_((diagonal - shift) - reserve)
    factor, failed = torch.linalg.cholesky_ex(shifted, upper=True)
    if failed:
        return None
    lost = _lost(shifted, factor, diagonal.rsqrt()) + 3 * UNIT * diagonal
    return factor if (lost * SLACK <= reserve).all() else None


def _smallest(factor):
    """lambda_min of R^T R by inverse iteration, an estimate from above."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(len(factor), 1, dtype=factor.dtype, generator=generator)
    for _ in range(20):
        vector = torch.cholesky_solve(vector / vector.abs().max(), factor, upper=True)
    return 1 / vector.abs().max().item()
