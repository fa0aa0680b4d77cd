"""Products of Hessians with vectors."""

import warnings

import torch
from torch.func import grad, vjp, vmap


def hessian_map(gradient, point):
    """The map v -> H v, for the derivative H of a gradient at a point.

    H is symmetric, so it is the transpose that one backward pass applies. The gradient is computed once; its graph lives
    as long as the map, and no product leaves one.
    """
    pullback = vjp(gradient, point)[1]
    return lambda vector: pullback(vector, create_graph=False)[0]


def batched(function):
    """torch's vmap without its advice to its own developers where it has no batched form of a derivative and loops."""

    def rows(*arguments):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="There is a performance drop")
            return vmap(function)(*arguments)

    return rows


def hessian_products(system, w, equations, vectors):
    """The rows H_i(w) v_i, shape (k, p), for equation numbers of shape (k,) and vectors of shape (k, p).

    Cost: one backward pass through a gradient per row, about 6 evaluations of that equation's sample.
    """

    def product(sample, pick, vector):
        return hessian_map(grad(lambda point: system._sample_value(point, sample) @ pick), w)(vector)

    return batched(product)(*samples_and_picks(system, equations), vectors)


def samples_and_picks(system, equations):
    """The sample of each equation, and the unit vector that picks it among the equations of its sample."""
    units = torch.eye(system._outputs, dtype=system.start.dtype, device=system.start.device)
    return system._samples[equations // system._outputs], units[equations % system._outputs]
