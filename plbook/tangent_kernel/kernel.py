"""The tangent kernel by either route, and an account of the routes."""

from dataclasses import dataclass

from plbook.systems import NetworkSystem
from plbook.systems.guards import as_data
from plbook.tangent_kernel.layers import Route
from plbook.tangent_kernel.tiles import layer_kernel, planned_routes

METHODS = ("auto", "jacobian", "layers")


def tangent_kernel(system, w=None, *, other=None, method="auto", memory_budget=2**31):
    """The tangent kernel K(w) = DF(w) DF(w)^T, shape (n, n), symmetric to the last bit.

    Args:
        system: a System or NetworkSystem with n equations and p parameters.
        w: shape (p,); None means system.start.
        other: further inputs of a network; then K = DF(w) DF_other(w)^T, with a column for each of their outputs.
        method: "jacobian" forms DF(w): memory 8 n p bytes, n^2 p products. "layers" takes each weight's part from its
            layer's inputs and back-propagated derivatives: one forward pass, one backward pass per output, then n^2
            products per layer width; it covers Linear, Conv1d and Conv2d layers that are used once. "auto" does the
            same and sends every other parameter through its own columns of DF. All are exact up to rounding.
            `explain_kernel` tells which parameter goes which way.
        memory_budget: about how many bytes the last two may use beside K. K goes in as few tiles as that allows; with t
            of them to a side the network runs over the inputs (t + 1) / 2 times. For layers with a formula and
            elementwise activations a tile takes at most its own size and, for k outputs, k + 2 times the activations of
            the inputs of its rows and columns (or 4 MB, if that is more); measured on the book's status page.

    Raises:
        ValueError: for an unknown method, for `other` inputs that do not fit, or if "layers" is asked of a system that
            it cannot handle (it says why).

    Source: the paper's Section 1, equation (4); the layer formulas are the chain rule, chapter 6.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}.")
    if not memory_budget > 0:
        raise ValueError(f"memory_budget must be a positive number of bytes, got {memory_budget}.")
    w, other = system.point(w), other_inputs(system, other)
    if method != "jacobian" and isinstance(system, NetworkSystem):
        kernel, routes = layer_kernel(system, w, system._samples, other, memory_budget)
        obstacles = [f"{r.parameter}: {r.reason}" for r in routes if r.route == "jacobian"]
        if method == "auto" or not obstacles:
            return kernel
        raise ValueError(f'method "layers" cannot be used. {"; ".join(obstacles)}. Use method="auto".')
    if method == "layers":
        raise ValueError(f'method "layers" cannot be used. {_PLAIN.reason}. Use method="auto".')
    jacobian = system.jacobian(w)
    if other is not None:
        return jacobian @ system.jacobian_columns(w, system._shapes, other).T
    kernel = jacobian @ jacobian.T
    return kernel.add_(kernel.T.clone()).div_(2)


def kernel_vector_product(system, vector, w=None):
    """K(w) v, shape (n,), without K: DF(w) (DF(w)^T v). Cost: about 5 evaluations of F, whatever n is."""
    w = system.point(w)
    return system.jvp(w, system.vjp(w, vector))


@dataclass(frozen=True)
class KernelRoutes:
    """The Route of each parameter; prints as a table."""

    routes: tuple

    def __str__(self):
        width = max(len(r.parameter) for r in self.routes)
        return "\n".join(f"{r.parameter:<{width}}  {r.route:<8}  {r.reason}" for r in self.routes)


def explain_kernel(system, w=None):
    """Which route each parameter takes in `tangent_kernel`, and why: a KernelRoutes. Cost: a pass over a few inputs."""
    if not isinstance(system, NetworkSystem):
        return KernelRoutes((_PLAIN,))
    return KernelRoutes(planned_routes(system, system.point(w)))


_PLAIN = Route("w", "jacobian", "the system is a plain function, not a network of layers")


def other_inputs(system, other):
    """Checked further inputs of a network, or None."""
    if other is None:
        return None
    if not isinstance(system, NetworkSystem):
        raise ValueError("other inputs need a NetworkSystem: a plain function has none.")
    other = as_data(other, "other", keep_integers=True).to(system._samples.device)
    if other.shape[1:] != system._samples.shape[1:] or other.dtype != system._samples.dtype:
        raise ValueError(
            f"other must hold inputs like the system's, of shape (any number, {', '.join(map(str, system._samples.shape[1:]))}) "
            f"and {system._samples.dtype}; got {tuple(other.shape)} and {other.dtype}."
        )
    return other
