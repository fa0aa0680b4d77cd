"""Random, graded and nearly singular matrices against 50 digits: the seeded cases of two test suites.

Entries are float64 numbers and count as exact. A number is below lambda_min if the Cholesky factorization of
A - number I runs to completion in ball arithmetic, and not below if a pivot is a ball of negative numbers.
"""

from dataclasses import dataclass

import flint
import torch
from near_duplicates import Draw

from plbook.verified import smallest_eigenvalue_bound
from plbook.verified.rounding import UNIT

DIGITS = 50
COLUMNS = 24
SEEDS = range(1000, 2000)


# The cases


def symmetric(matrix):
    return matrix.tril() + matrix.tril(-1).T


def gaussian(draw, n):
    return draw.normal(n, n)


def gram(draw, n):
    x = draw.normal(n, n + draw.integer(0, n))
    return x @ x.T


def graded(draw, n):
    sizes = 10 ** (-draw.uniform(0, 15) * torch.rand(n, 1, dtype=torch.float64, generator=draw.generator))
    return sizes * gram(draw, n) * sizes.T


def nearly_singular(draw, n):
    basis = torch.linalg.qr(draw.normal(n, n)).Q
    eigenvalues = torch.rand(n, dtype=torch.float64, generator=draw.generator)
    eigenvalues[: draw.integer(1, 3)] = 10 ** draw.uniform(-18, -8)
    return (basis * eigenvalues) @ basis.T


def near_duplicates(draw, n):
    x = draw.normal(n, 2 * n)
    x[-1] = x[0] + 10 ** draw.uniform(-9, -4) * x[-1]
    return x @ x.T


def singular(draw, n):
    """Integers, of rank below n: lambda_min = 0 exactly."""
    x = torch.randint(-9, 10, (n, draw.integer(1, n - 1)), generator=draw.generator).double()
    return x @ x.T


KINDS = {function.__name__: function for function in (gaussian, gram, graded, nearly_singular, near_duplicates, singular)}


def draw_case(seed):
    """(kind, A): 2 to 200 rows, one in five above 60, entries of size 1e-8 to 1e8 or, in one case of ten, far from that."""
    draw = Draw(seed)
    kind = list(KINDS)[seed % len(KINDS)]
    n = draw.integer(*draw.choice([(2, 9), (2, 9), (10, 60), (10, 60), (61, 200)]))
    exponent = draw.choice([-900, 900]) if draw.integer(0, 9) == 0 else draw.integer(-26, 26)
    return kind, symmetric(KINDS[kind](draw, n)) * 2.0**exponent


# The reference


def positive_definite(rows):
    """Whether a symmetric matrix of balls (its lower triangle counts) is: True, False, or None if 50 digits do not tell.

    By Cholesky factorization, some columns at a time: what they leave of the others is one product of matrices.
    """
    with flint.ctx.workdps(DIGITS):
        while rows:
            factor = []
            for i, given in enumerate(rows):
                row = []
                for j in range(min(i, COLUMNS)):
                    rest = given[j]
                    for left, right in zip(row, factor[j]):
                        rest -= left * right
                    row.append(rest / factor[j][j])
                if i < COLUMNS:
                    pivot = given[i]
                    for left in row:
                        pivot -= left * left
                    if not pivot > 0:
                        return False if pivot < 0 else None
                    row.append(pivot.sqrt())
                factor.append(row)
            below = flint.arb_mat(factor[COLUMNS:] or [[0]])
            spent = (below * below.transpose()).tolist()
            rows = [[a - b for a, b in zip(row[COLUMNS:], taken)] for row, taken in zip(rows[COLUMNS:], spent)]
    return True


def above(matrix, number):
    """Whether lambda_min(A) > number."""
    with flint.ctx.workdps(DIGITS):
        rows = flint.arb_mat(matrix.tolist()).tolist()
        for i, row in enumerate(rows):
            row[i] -= flint.arb(number)
    return positive_definite(rows)


def norm_below(matrix, number):
    """Whether |A|_2 < number, from number^2 I - A A^T."""
    with flint.ctx.workdps(DIGITS):
        a = flint.arb_mat(matrix.tolist())
        rows = [[-entry for entry in row] for row in (a * a.transpose()).tolist()]
        for i, row in enumerate(rows):
            row[i] += flint.arb(number) ** 2
    return positive_definite(rows)


@dataclass(frozen=True)
class Result:
    seed: int
    kind: str
    rows: int
    bound: float
    true: bool  # the bound is below lambda_min
    close: bool  # and lambda_min is at most 0.2% or 4 n u tr|A| above
    naive: bool  # the smallest eigenvalue that LAPACK returns is below lambda_min


def measure(seed):
    kind, matrix = draw_case(seed)
    bound = smallest_eigenvalue_bound(matrix)
    allowed = max(0.002 * abs(bound), 4 * len(matrix) * UNIT * matrix.diagonal().abs().sum().item())
    if kind == "gaussian":
        # Indefinite: the matrix that is factored, A - bound I, has a larger diagonal.
        allowed = max(allowed, 8 * len(matrix) ** 2 * UNIT * abs(bound))
    naive = torch.linalg.eigvalsh(matrix)[0].item()
    return Result(
        seed,
        kind,
        len(matrix),
        bound,
        above(matrix, bound) is True,
        above(matrix, bound + allowed) is False,
        above(matrix, naive) is True,
    )


def summary(results):
    """The failures, and by kind of matrix: how many bounds are positive, and how often LAPACK's own number is above the truth."""
    failures, kinds = [], {}
    for result in results:
        row = kinds.setdefault(result.kind, {"cases": 0, "most rows": 0, "positive bounds": 0, "LAPACK's value above the truth": 0})
        row["cases"] += 1
        row["most rows"] = max(row["most rows"], result.rows)
        row["positive bounds"] += result.bound > 0
        row["LAPACK's value above the truth"] += not result.naive
        if not (result.true and result.close):
            failures.append({"seed": result.seed, "kind": result.kind, "above the truth": not result.true})
    return {"failures": failures, "kinds": kinds}
