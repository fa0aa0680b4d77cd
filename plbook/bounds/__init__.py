"""Certified Lipschitz constants of DF over a ball, layer by layer: chapter 12.

`graph` reads a network, `activations` knows their derivatives on intervals, `maps` follows derivatives from layer to
layer, `layered` puts the bound together, `estimate` searches where no bound is known, `lipschitz` has the public function,
`ball` what follows for the constants of the theorems.
"""

from plbook.bounds.ball import BallConstants, ball_constants
from plbook.bounds.lipschitz import JacobianLipschitzBound, bounds_about, jacobian_lipschitz_bound

__all__ = ["BallConstants", "JacobianLipschitzBound", "ball_constants", "bounds_about", "jacobian_lipschitz_bound"]
