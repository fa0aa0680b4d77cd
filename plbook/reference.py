"""The slow, obvious twin of every fast routine: the oracle of the tests, imported by nothing else.

Everything is dense, row by row, with torch.autograd on the whole system; no code is shared with what it checks.
"""

import torch


def jacobian(system, w):
    """DF(w) one equation at a time."""
    w = w.detach().clone().requires_grad_()
    value = system.value(w)
    rows = [torch.autograd.grad(f, w, retain_graph=True, allow_unused=True)[0] for f in value]
    return torch.stack([torch.zeros_like(w) if row is None else row for row in rows]).detach()


def tangent_kernel(system, w):
    rows = jacobian(system, w)
    return torch.stack([torch.stack([(a * b).sum() for b in rows]) for a in rows])


def hessians(system, w):
    """H_{F_i}(w), shape (n, p, p)."""
    return torch.stack(
        [torch.autograd.functional.hessian(lambda v, i=i: system.value(v)[i], w) for i in range(system.num_equations)]
    )


def hessian_norms(system, w):
    return torch.linalg.eigvalsh(hessians(system, w)).abs().amax(dim=1)


def one_hidden_layer_hessian_eigenvalues(inner, outer, x):
    """All eigenvalues of the Hessian of f = v^T tanh(U x / sqrt(d)) / sqrt(m) by (U, v) but zeros, for U = inner, v = outer.

    After a rotation it splits into a 2 x 2 block for each neuron, [[v tanh''(a) s^2, tanh'(a) s], [tanh'(a) s, 0]] / sqrt(m)
    with s = |x| / sqrt(d) and a its entry of U x / sqrt(d).
    """
    a, s = inner @ x / len(x) ** 0.5, x.norm() / len(x) ** 0.5
    first = 1 - a.tanh() ** 2
    second = -2 * a.tanh() * first
    blocks = torch.stack([torch.stack([outer * second * s**2, first * s], 1), torch.stack([first * s, 0 * a], 1)], 1)
    return torch.linalg.eigvalsh(blocks / len(outer) ** 0.5).reshape(-1).sort().values


def loss_hessians(system, w):
    """The Hessian of the loss, DF^T DF and the sum of r_i H_i, each by its own formula."""
    residual = system.value(w) - system.targets
    whole = torch.autograd.functional.hessian(lambda v: 0.5 * ((system.value(v) - system.targets) ** 2).sum(), w)
    matrix = jacobian(system, w)
    return whole, matrix.T @ matrix, torch.einsum("i,ipq->pq", residual, hessians(system, w))


def pl_ratio(system, w):
    w = w.detach().clone().requires_grad_()
    loss = 0.5 * ((system.value(w) - system.targets) ** 2).sum()
    (gradient,) = torch.autograd.grad(loss, w)
    return (0.5 * (gradient**2).sum() / loss).item()


def gradient_descent(system, w, step_size, steps):
    """The losses of plain gradient descent."""
    losses = []
    for _ in range(steps + 1):
        residual = system.value(w).detach() - system.targets
        losses.append(0.5 * (residual**2).sum().item())
        w = w - step_size * jacobian(system, w).T @ residual
    return torch.tensor(losses, dtype=torch.float64)


def linearized_losses(system, w, step_size, steps):
    """Gradient descent on the linearization, step by step."""
    matrix, residual = jacobian(system, w), system.value(w).detach() - system.targets
    losses = []
    for _ in range(steps + 1):
        losses.append(0.5 * (residual**2).sum().item())
        residual = residual - step_size * matrix @ (matrix.T @ residual)
    return torch.tensor(losses, dtype=torch.float64)
