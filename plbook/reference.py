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
