"""The results that all others must reproduce, by code that none of them shares, and the gates that refuse the rest."""

from dataclasses import replace

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

# Every float64 kernel must agree with the reference to this, relative to its largest entry.
TOLERANCE = 1e-10
# The Jacobian is formed row by row up to this size; above it the formula is used.
JACOBIAN_BYTES = 10**9
# Hessian norms are asked for to this relative accuracy, and must have it; the reference is better by far.
NORM_TOLERANCE, NORM_REFERENCE = 1e-2, 1e-8


class Inaccurate(Exception):
    """A result is wrong, so that its time means nothing."""


def relative_error(kernel, exact):
    """max |K - K_exact| / max |K_exact|."""
    return float(np.abs(kernel.astype(np.float64) - exact).max() / np.abs(exact).max())


def check(name, kernel, exact):
    """The relative error; a float64 kernel above the tolerance, or with a NaN, raises Inaccurate."""
    error = relative_error(kernel, exact)
    if kernel.dtype == np.float64 and not error <= TOLERANCE:
        raise Inaccurate(f"{name}: the kernel is off by {error:.2g} of its largest entry; allowed is {TOLERANCE:g}.")
    return error


def smallest_eigenvalue_error(kernel, exact):
    """The relative error of lambda_min when `kernel` is solved in float64."""
    smallest, truth = (np.linalg.eigvalsh(matrix.astype(np.float64))[0] for matrix in (kernel, exact))
    return float(abs(smallest - truth) / abs(truth))


def kernel_by_rows(network, inputs):
    """One backward pass for each output of each input, then J J^T."""
    rows, parameters = [], list(network.parameters())
    for x in inputs:
        for value in network(x.unsqueeze(0)).reshape(-1):
            gradient = torch.autograd.grad(value, parameters, retain_graph=True)
            rows.append(torch.cat([piece.reshape(-1) for piece in gradient]))
    jacobian = torch.stack(rows).numpy()
    return jacobian @ jacobian.T


def kernel_by_formula(inputs, weights):
    """The kernel of a tanh MLP in the paper's scaling, layer by layer in numpy.

    With A_l the inputs of layer l, m_l of them, and D_l the derivatives of the outputs by what it returns, the kernel
    is the sum over l of (D_l D_l^T) o (A_l A_l^T) / m_l: chapter 6.
    """
    layers = [inputs]
    for weight in weights[:-1]:
        layers.append(np.tanh(layers[-1] @ weight.T / np.sqrt(weight.shape[1])))
    n, outputs = len(inputs), len(weights[-1])
    derivatives = np.broadcast_to(np.eye(outputs), (n, outputs, outputs))
    kernel = np.zeros((n, outputs, n, outputs))
    for a, weight in zip(reversed(layers), reversed(weights)):
        flat = derivatives.reshape(n * outputs, -1)
        kernel += (flat @ flat.T).reshape(kernel.shape) * (a @ a.T / a.shape[1])[:, None, :, None]
        derivatives = (flat @ weight).reshape(n, outputs, -1) / np.sqrt(a.shape[1]) * (1 - a**2)[:, None, :]
    return kernel.reshape(n * outputs, n * outputs)


def exact_kernel(workload):
    """By rows where the Jacobian is small, else by the formula, which must first agree with the rows on a small twin."""
    network = workload.network()
    size = 8 * workload.n * workload.outputs * sum(weight.numel() for weight in network.parameters())
    if workload.kind == "conv" or size <= JACOBIAN_BYTES:
        return kernel_by_rows(network, workload.inputs())
    small = replace(workload, n=8, widths=(16,) * len(workload.widths))
    check("the formula", _formula(small), kernel_by_rows(small.network(), small.inputs()))
    return _formula(workload)


def _formula(workload):
    weights = [weight.detach().numpy() for weight in workload.network().parameters()]
    return kernel_by_formula(workload.inputs().numpy(), weights)


def exact_hessian_norms(workload):
    """The spectral norm of each equation's Hessian: two backward passes a product, to a tolerance far below the others'."""
    network, norms = workload.network(), []
    parameters = list(network.parameters())
    size = sum(weight.numel() for weight in parameters)
    for x in workload.inputs():
        for value in network(x.unsqueeze(0)).reshape(-1):
            pieces = torch.autograd.grad(value, parameters, create_graph=True)
            gradient = torch.cat([piece.reshape(-1) for piece in pieces])

            def product(vector):
                pieces = torch.autograd.grad(gradient, parameters, torch.from_numpy(vector.reshape(-1)), retain_graph=True)
                return torch.cat([piece.reshape(-1) for piece in pieces]).numpy()

            start = np.random.default_rng(1).standard_normal(size)
            operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
            (found,) = eigsh(operator, k=1, which="LM", v0=start, tol=NORM_REFERENCE, return_eigenvectors=False)
            norms.append(abs(found))
    return np.array(norms)


def check_norms(name, norms, exact):
    """The largest relative error; above the tolerance, or with a NaN, it raises Inaccurate."""
    error = float((np.abs(norms - exact) / exact).max())
    if not error <= NORM_TOLERANCE:
        raise Inaccurate(f"{name}: a Hessian norm is off by {error:.2g} of itself; asked for was {NORM_TOLERANCE:g}.")
    return error
