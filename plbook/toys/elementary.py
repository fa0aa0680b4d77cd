"""One formula each: the systems that several chapters share."""

import torch

from plbook.systems import System


def linear(matrix, targets, start=None):
    """F(w) = A w. DF = A and K = A A^T everywhere, so for A of full row rank L is PL* on the whole
    space with mu = sigma_min(A)^2, no more.

    The start is 0 unless given.
    """
    matrix = torch.as_tensor(matrix, dtype=torch.float64)
    start = torch.zeros(matrix.shape[1], dtype=torch.float64) if start is None else start
    return System(lambda w: matrix @ w, targets, start, jacobian_lipschitz=0.0)


def product(target=1.0, start=(2.0, 1.0)):
    """F(w) = w1 w2. K = |w|^2, so the only singular point is 0; the solutions w1 w2 = y are a hyperbola."""
    return System(lambda w: w[:1] * w[1:], [target], start, jacobian_lipschitz=1.0)


def cubic(target=0.0, start=(-2.0, 1.5)):
    """F(w) = w1^3/3 - w1 + w2^2/2. DF = (w1^2 - 1, w2), K = (w1^2 - 1)^2 + w2^2.

    `target` is y. Two singular points, (1, 0) where F = -2/3 and (-1, 0) where F = 2/3; for |y| < 2/3 the solutions are an oval
    and an open branch.
    """
    return System(lambda w: (w[0] ** 3 / 3 - w[0] + w[1] ** 2 / 2)[None], [target], start)


def sines(matrix, targets, start=None):
    """F(w) = sin(A w), entry by entry. DF = diag(cos(A w)) A, largest at w = 0, so L_F = |A|_2; H_i = -sin(a_i w) a_i a_i^T.

    DF has Lipschitz constant at most |A|_2 times the largest row norm of A. The start is 0 unless given.
    """
    matrix = torch.as_tensor(matrix, dtype=torch.float64)
    start = torch.zeros(matrix.shape[1], dtype=torch.float64) if start is None else start
    beta = torch.linalg.matrix_norm(matrix, 2) * matrix.norm(dim=1).max()
    return System(lambda w: (matrix @ w).sin(), targets, start, jacobian_lipschitz=beta.item())


def square(target=-1.0, start=1.0):
    """F(w) = w^2, one equation and one unknown. The PL ratio is 4 w^2 for every y; for y < 0 there is no solution."""
    return System(lambda w: w**2, [target], [start], jacobian_lipschitz=2.0)


def repeated(targets=(0.0, 0.0), start=1.0):
    """F(w) = (w, w), one unknown and two equations. K has rank 1, yet for y = 0 the PL ratio is 2 everywhere."""
    return System(lambda w: torch.cat([w, w]), targets, [start], jacobian_lipschitz=0.0)


def chain(targets=(1.0, 1.0), start=(1.0, 2.0, -1.0)):
    """F(w) = (w1 w2, w2 w3). DF = [[w2, w1, 0], [0, w3, w2]], K = [[w1^2 + w2^2, w1 w3], [w1 w3, w2^2 + w3^2]].

    DF loses rank exactly where w2 = 0: a plane, although 3 unknowns and 2 equations suggest a curve.
    """
    return System(lambda w: w[:2] * w[1:], targets, start)


def copies(num_equations):
    """F_i(w) = w^2/2 for every i. Each Hessian is 1, but DF = (w, ..., w)^T has Lipschitz constant sqrt(n)."""
    return System(lambda w: (w**2 / 2).expand(num_equations), [0.0] * num_equations, [1.0], jacobian_lipschitz=num_equations**0.5)


def sharpest(target, num_equations=1, num_parameters=2):
    """F(w) = (w1 - |w|^2/2, w2, ..., wn), y = (target, 0, ..., 0), start 0: where the PL*-Kantorovich theorem is sharp.

    DF(0) = [I 0] and |DF(w) - DF(v)|_2 = |w - v|, so lambda0 = beta = 1 and h = target. The solutions, w2 = ... = wn = 0
    and |w - e1|^2 = 1 - 2 target, form a sphere around e1; its nearest point to the start is 1 - sqrt(1 - 2 target) away.
    There are none for target > 1/2.
    """

    def value(w):
        return torch.cat([w[:1] - w @ w / 2, w[1:num_equations]])

    targets = torch.zeros(num_equations, dtype=torch.float64)
    targets[0] = target
    return System(value, targets, torch.zeros(num_parameters), jacobian_lipschitz=1.0)


def quadratics(num_equations, num_parameters, *, seed=0):
    """F_i(w) = <b_i, w> + 1/2 <w, C_i w> with symmetric C_i, everything Gaussian. Row i of DF is b_i + C_i w.

    Nothing but chance relates the equations: the generic case. Start and targets are Gaussian, too.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    slopes = draw(num_equations, num_parameters)
    curvatures = draw(num_equations, num_parameters, num_parameters)
    curvatures = (curvatures + curvatures.transpose(1, 2)) / 2
    targets, start = draw(num_equations), draw(num_parameters)
    return System(lambda w: slopes @ w + 0.5 * (curvatures @ w) @ w, targets, start)
