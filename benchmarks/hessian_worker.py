"""The worker for Hessian norms: each method is a function of no arguments on a ready network; those of peers use eigsh."""

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn
from torch.func import functional_call, grad, jvp, vjp

import plbook as pl
from benchmarks import workloads
from benchmarks.reference import NORM_TOLERANCE
from benchmarks.serving import serve, state


def plbook_norms(network, inputs, targets, eigsh_tolerance):
    system = pl.NetworkSystem(network, inputs, targets)
    return lambda: pl.hessian_norms(system, rtol=NORM_TOLERANCE).per_equation.numpy()


def forward_over_reverse(network, inputs, targets, eigsh_tolerance):
    """torch.func's own recommendation: the directional derivative of the gradient."""
    w, values = _flat(network)

    def operator(x, output):
        gradient = grad(lambda v: values(v, x)[output])
        return _operator(len(w), lambda v: jvp(gradient, (w,), (v,))[1])

    return _loop(operator, inputs, targets, len(w), eigsh_tolerance)


def reverse_over_reverse(network, inputs, targets, eigsh_tolerance):
    """The gradient is computed once per equation, and each product is a backward pass through it."""
    w, values = _flat(network)

    def operator(x, output):
        pullback = vjp(grad(lambda v: values(v, x)[output]), w)[1]
        return _operator(len(w), lambda v: pullback(v, create_graph=False)[0])

    return _loop(operator, inputs, targets, len(w), eigsh_tolerance)


class Picked(nn.Module):
    """A loss function whose Hessian is that of one output."""

    reduction = "sum"

    def forward(self, prediction, unit):
        return (prediction * unit).sum()


def curvlinops(network, inputs, targets, eigsh_tolerance):
    """The Hessian operator of a data set that is one input, with a loss that is one output."""
    from curvlinops import HessianLinearOperator

    parameters = list(network.parameters())
    units = torch.eye(targets.numel() // len(targets), dtype=targets.dtype)

    def operator(x, output):
        data = [(x.unsqueeze(0), units[output].unsqueeze(0))]
        return HessianLinearOperator(network, Picked(), parameters, data, check_deterministic=False).to_scipy(np.float64)

    return _loop(operator, inputs, targets, sum(weight.numel() for weight in parameters), eigsh_tolerance)


def _flat(network):
    """The parameters as one vector, and the outputs of one input as a function of such a vector."""
    weights = {name: weight.detach() for name, weight in network.named_parameters()}

    def values(vector, x):
        pieces = vector.split([weight.numel() for weight in weights.values()])
        parameters = {name: piece.view_as(weights[name]) for name, piece in zip(weights, pieces)}
        return functional_call(network, parameters, (x.unsqueeze(0),)).reshape(-1)

    return torch.cat([weight.reshape(-1) for weight in weights.values()]), values


def _operator(size, product):
    return LinearOperator((size, size), matvec=lambda v: product(torch.from_numpy(v.reshape(-1))).numpy(), dtype=np.float64)


def _loop(operator, inputs, targets, size, tolerance):
    """scipy's eigsh for one equation after the other, from one seeded start."""
    outputs, start = targets.numel() // len(targets), np.random.default_rng(0).standard_normal(size)

    def norm(x, output):
        return abs(eigsh(operator(x, output), k=1, which="LM", v0=start, tol=tolerance, return_eigenvectors=False)[0])

    return lambda: np.array([norm(x, output) for x in inputs for output in range(outputs)])


METHODS = {
    "plbook": plbook_norms,
    "forward over reverse": forward_over_reverse,
    "reverse over reverse": reverse_over_reverse,
    "curvlinops": curvlinops,
}


def load(method, workload, path, eigsh_tolerance=NORM_TOLERANCE):
    state["call"] = METHODS[method](*workloads.load(workload, path, torch.float64), eigsh_tolerance)


def save(path):
    """Store the last norms, shape (equations,)."""
    np.save(path, state["result"])


if __name__ == "__main__":
    serve({"load": load, "save": save})
