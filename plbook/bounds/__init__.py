"""Certified Lipschitz constants of DF over a ball, layer by layer: chapter 12.

`graph` reads a network, `activations` knows their derivatives on intervals, `maps` follows derivatives from layer to
layer, `layered` puts the bound together, `estimate` searches where no bound is known, `lipschitz` has the public functions.
"""

from plbook.bounds.lipschitz import JacobianLipschitzBound, bounds_about, jacobian_lipschitz_bound

__all__ = ["JacobianLipschitzBound", "bounds_about", "jacobian_lipschitz_bound"]
