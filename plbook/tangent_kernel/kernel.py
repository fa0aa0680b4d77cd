"""The tangent kernel by either route."""

from plbook.systems import NetworkSystem
from plbook.tangent_kernel.layers import layer_kernel

METHODS = ("auto", "jacobian", "layers")


def tangent_kernel(system, w=None, *, method="auto"):
    """The tangent kernel K(w) = DF(w) DF(w)^T, shape (n, n), symmetric to the last bit.

    Args:
        system: a System or NetworkSystem with n equations and p parameters.
        w: shape (p,); None means system.start.
        method: "jacobian" forms DF(w): memory 8 n p bytes, n^2 p products. "layers" works for networks whose
            trainable parameters all belong to torch.nn.Linear layers, each used once on inputs of shape (inputs, features):
            one forward pass, one backward pass per output, then n^2 products per layer width. "auto" takes
            "layers" where it applies and "jacobian" elsewhere. Both are exact up to rounding.

    Raises:
        ValueError: for an unknown method, or if "layers" is asked of a system that it cannot handle (it says why).

    Source: the paper's Section 1, equation (4); the layer formula is the chain rule, chapter 6.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}.")
    w = system.point(w)
    if method == "layers" or (method == "auto" and isinstance(system, NetworkSystem)):
        kernel, obstacle = layer_kernel(system, w)
        if obstacle is None:
            return (kernel + kernel.T) / 2
        if method == "layers":
            raise ValueError(f'method "layers" cannot be used: {obstacle}. Use method="jacobian".')
    jacobian = system.jacobian(w)
    kernel = jacobian @ jacobian.T
    return (kernel + kernel.T) / 2
