"""Lipschitz constants of DF over a ball, certified where the layers allow it: the public functions of this folder."""

from dataclasses import dataclass
from functools import cache
from math import inf, isfinite, nextafter

from plbook.bounds.estimate import largest_curvature_found
from plbook.bounds.graph import NotLayered, read_graph
from plbook.bounds.layered import Layered
from plbook.systems import NetworkSystem
from plbook.verified.arithmetic import NotEnclosed
from plbook.verified.rigour import ESTIMATE, VERIFIED


@dataclass(frozen=True)
class JacobianLipschitzBound:
    """Lipschitz constants of DF over the ball of this radius about a center w.

    |DF(u) - DF(v)|_2 <= `value` |u - v| for all u, v in the ball, and so |H_i(v)|_2 <= `value` for every equation;
    |DF(v) - DF(w)|_2 <= `center` |v - w|, which is what certificates need and never larger. Both are inf where the bounds
    leave float64. `reason` says what the rigour rests on; of an "estimate" the truth may be larger.
    """

    value: float
    center: float
    radius: float
    rigour: str
    reason: str


def jacobian_lipschitz_bound(system, radius, w=None):
    """How fast DF can change within the closed ball of this radius about w: a JacobianLipschitzBound.

    F is the mathematical function that the code stands for: softplus is log(1 + exp(x)), also where torch's code is the identity.

    - A System that was given a proven constant: that constant.
    - A network of Linear and convolution layers, smooth activations (tanh, sigmoid, softplus, GELU, SiLU, erf, sin), average
      pooling, flattening, sums of branches and scalings by numbers: certified, in spite of rounding. It tends to the
      bound at the center as the radius goes to 0, and falls like sqrt(log(width) / width).
    - Anything else: the largest curvature that a search finds. An estimate, forbidden inside certificates.

    The inputs are taken one by one, |(beta_1, ..., beta_n)|_2, or together, with the spectral norm of all inputs of a
    layer, whichever is less. Cost of the certified bound: an enclosure of a forward and a backward pass, and for n inputs,
    width m and L layers some n L^2 m^3 operations; where that is too much, norms of products become products of norms.

    Raises:
        ValueError: for a negative or infinite radius, and for ReLU and other activations whose derivative jumps (no
            constant exists).

    Source: chapter 12, which proves the bound; the paper asks for such constants in Theorems 2 and 6.
    """
    return bounds_about(system, w).over(radius)


def bounds_about(system, w=None):
    """The same for several radii about one center: an object with `over(radius)`, a JacobianLipschitzBound."""
    w = system.point(w)
    if system.jacobian_lipschitz is not None:
        return _Given(system.jacobian_lipschitz)
    if not isinstance(system, NetworkSystem):
        return _Searched(system, w, "the system is a function without layers, and no proven constant was given")
    try:
        return _Layers(Layered(system, read_graph(system), w))
    except (NotLayered, NotEnclosed) as obstacle:
        return _Searched(system, w, str(obstacle))


class _Bounds:
    """What is known about one center. `over(radius)` is the record, `center(radius)` its `center` alone, in half the time."""

    rigour = VERIFIED

    def over(self, radius):
        radius = _checked(radius)
        anywhere = self._anywhere(radius)
        return JacobianLipschitzBound(anywhere, min(anywhere, self._center(radius)), radius, self.rigour, self.reason)

    def center(self, radius):
        return self._center(_checked(radius))


class _Given(_Bounds):
    reason = "the proven constant that the system was given"

    def __init__(self, constant):
        self.constant = float(constant)
        if self.constant < constant:
            self.constant = nextafter(self.constant, inf)

    def _anywhere(self, radius):
        return self.constant

    _center = _anywhere


class _Searched(_Bounds):
    rigour = ESTIMATE

    def __init__(self, system, w, obstacle):
        self.system, self.w, self.reason = system, w, f"a search of the ball, since {obstacle}"

    @cache
    def _anywhere(self, radius):
        return largest_curvature_found(self.system, radius, self.w)

    _center = _anywhere


class _Layers(_Bounds):
    reason = "bounded layer by layer"

    def __init__(self, network):
        self._anywhere, self._center = cache(network.anywhere), cache(network.center)


def _checked(radius):
    if not (isfinite(radius) and radius >= 0):
        raise ValueError(f"radius must be a finite number >= 0, got {radius}.")
    return float(radius)
