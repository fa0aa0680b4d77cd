"""The tangent kernel by either route, and an account of the routes."""

from dataclasses import dataclass

from plbook.systems import NetworkSystem
from plbook.tangent_kernel.layers import Route, layer_kernel

METHODS = ("auto", "jacobian", "layers")


def tangent_kernel(system, w=None, *, method="auto"):
    """The tangent kernel K(w) = DF(w) DF(w)^T, shape (n, n), symmetric to the last bit.

    Args:
        system: a System or NetworkSystem with n equations and p parameters.
        w: shape (p,); None means system.start.
        method: "jacobian" forms DF(w): memory 8 n p bytes, n^2 p products. "layers" takes each weight's part from its
            layer's inputs and back-propagated derivatives: one forward pass, one backward pass per output, then n^2
            products per layer width; it covers Linear, Conv1d and Conv2d layers that are used once. "auto" does the
            same and sends every other parameter through its own columns of DF. All are exact up to rounding.
            `explain_kernel` tells which parameter goes which way.

    Raises:
        ValueError: for an unknown method, or if "layers" is asked of a system that it cannot handle (it says why).

    Source: the paper's Section 1, equation (4); the layer formulas are the chain rule, chapter 6.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}.")
    w = system.point(w)
    kernel, routes = (None, []) if method == "jacobian" else _by_layers(system, w)
    obstacles = [f"{r.parameter}: {r.reason}" for r in routes if r.route == "jacobian"]
    if method == "layers" and obstacles:
        raise ValueError(f'method "layers" cannot be used. {"; ".join(obstacles)}. Use method="auto".')
    if kernel is None:
        jacobian = system.jacobian(w)
        kernel = jacobian @ jacobian.T
    return (kernel + kernel.T) / 2


@dataclass(frozen=True)
class KernelRoutes:
    """The Route of each parameter; prints as a table."""

    routes: tuple

    def __str__(self):
        width = max(len(r.parameter) for r in self.routes)
        return "\n".join(f"{r.parameter:<{width}}  {r.route:<8}  {r.reason}" for r in self.routes)


def explain_kernel(system, w=None):
    """Which route each parameter takes in `tangent_kernel`, and why: a KernelRoutes. Cost: that of the kernel."""
    return KernelRoutes(tuple(_by_layers(system, system.point(w))[1]))


def _by_layers(system, w):
    """(K, routes); K is None for a system without layers."""
    if not isinstance(system, NetworkSystem):
        return None, [Route("w", "jacobian", "the system is a plain function, not a network of layers")]
    return layer_kernel(system, w)
