"""Many small models that share no weights, added up: chapter 6."""

import torch

from plbook.systems import System


def ensemble(inputs, targets, num_models, *, scale, seed=0):
    """F_i(w) = sum_j v_j sin(w_j . x_i) / scale: num_models small models with weights w_j of their own and signs v_j = +-1.

    H_i is block diagonal with blocks -v_j sin(w_j . x_i) x_i x_i^T / scale, so |H_i|_2 = |x_i|^2 max_j |sin(w_j . x_i)| / scale,
    at most |x_i|^2 / scale everywhere.

    Args:
        inputs, targets: shapes (n, d) and (n,). There are num_models d unknowns, w_1 first.
        scale: the paper's s(m), what the sum is divided by.
        seed: of the signs, which are fixed, and of the start, whose entries are from N(0, 1).

    Source: the paper's Appendix C, equation (42), with sin(w . x) for its general models.
    """
    inputs = torch.as_tensor(inputs, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(num_models * inputs.shape[1], dtype=torch.float64, generator=generator)
    signs = torch.randint(2, (num_models,), generator=generator).double() * 2 - 1

    def value(w):
        return torch.sin(inputs @ w.view(num_models, -1).T) @ signs / scale

    return System(value, targets, start)
