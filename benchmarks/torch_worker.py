"""The worker for plbook and for torch.func: each method is a function of no arguments on a ready network."""

import numpy as np
import torch
from torch.func import functional_call, jacrev, jvp, vjp, vmap

import plbook as pl
from benchmarks import workloads
from benchmarks.serving import serve, state

GEMM_SIZE = 2048


def plbook_kernel(network, inputs, targets):
    system = pl.NetworkSystem(network, inputs, targets)
    return lambda: pl.tangent_kernel(system)


def jacobian_product(network, inputs, targets):
    """The per-input Jacobian once, then J J^T: a sum over the weights, since joining them would double the memory."""
    function, parameters = _per_input(network)
    jacobian = vmap(jacrev(function), (None, 0))

    def kernel():
        pieces = [piece.flatten(2).flatten(0, 1) for piece in jacobian(parameters, inputs).values()]
        return sum(piece @ piece.T for piece in pieces)

    return kernel


def jacobian_contraction(network, inputs, targets):
    """torch's tutorial on tangent kernels, first method: a Jacobian for either side, then a contraction."""
    function, parameters = _per_input(network)
    jacobian = vmap(jacrev(function), (None, 0))

    def kernel():
        left, right = ([piece.flatten(2) for piece in jacobian(parameters, inputs).values()] for _ in range(2))
        return sum(torch.einsum("iap,jbp->ijab", a, b) for a, b in zip(left, right))

    return kernel


def vector_products(network, inputs, targets):
    """torch's tutorial, second method: for each pair of inputs the products of its kernel with unit vectors."""
    function, parameters = _per_input(network)

    def pair(x, y):
        value, pullback = vjp(lambda p: function(p, x), parameters)

        def column(unit):
            return jvp(lambda p: function(p, y), (parameters,), pullback(unit))[1]

        return vmap(column)(torch.eye(len(value), dtype=value.dtype))

    return lambda: vmap(vmap(pair, (None, 0)), (0, None))(inputs, inputs)


def _per_input(network):
    def function(parameters, x):
        return functional_call(network, parameters, (x.unsqueeze(0),)).squeeze(0)

    return function, {name: weight.detach() for name, weight in network.named_parameters()}


METHODS = {
    "plbook": plbook_kernel,
    "jacobian product": jacobian_product,
    "jacobian contraction": jacobian_contraction,
    "vector products": vector_products,
}


def load(method, workload, path, dtype):
    state["call"] = METHODS[method](*workloads.load(workload, path, getattr(torch, dtype)))


def load_gemm():
    """Instead of a kernel, the product of two float64 matrices: the speed that the machine has at this moment."""
    a, b = (torch.randn(GEMM_SIZE, GEMM_SIZE, dtype=torch.float64) for _ in range(2))
    state["call"] = lambda: a @ b


def save(path):
    """Store the last kernel, shape (n k, n k)."""
    kernel = state["result"]
    if kernel.ndim == 4:
        kernel = kernel.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    np.save(path, kernel.detach().numpy())


if __name__ == "__main__":
    serve({"load": load, "load_gemm": load_gemm, "save": save})
