"""The certificate that a solution exists near a point."""

from dataclasses import dataclass
from fractions import Fraction
from math import inf, isfinite, isnan, nan, nextafter, sqrt

from plbook.bounds import bounds_about
from plbook.bounds.graph import Kinked
from plbook.systems import NetworkSystem
from plbook.verified.kernel import kernel_bounds
from plbook.verified.rigour import ESTIMATE, VERIFIED, weakest

# Balls that are tried, in units of r0 / sqrt(lambda0): a solution cannot be guaranteed nearer than 1 and need not be
# looked for beyond 2. Smaller balls have smaller constants.
RADII = (2.0, 1.75, 1.5, 1.3, 1.15, 1.05)
# The ball is shrunk to the radius that its own constant gives, as long as that saves this factor.
WORTH_SHRINKING = 1.01
# The relative rounding of the few operations of a radius is far below this.
SLACK = 1e-12
# The ball for gradient descent is larger than its path by this much, so that rounding does not matter.
ROOM = 1e-6


@dataclass(frozen=True)
class Ingredient:
    """A number that goes into a certificate, what it rests on and how far that goes."""

    name: str
    value: float
    rigour: str
    reason: str


@dataclass(frozen=True)
class DescentGuarantee:
    """What gradient descent does from the point: steps of `step_size` stay within `radius`, L(w_t) <= `factor`^t L(w_0)."""

    step_size: float
    factor: float
    radius: float
    mu: float


@dataclass(frozen=True)
class Certificate:
    """The outcome of `certify_solution`.

    `holds`: some w* with F(w*) = y exactly lies within `radius` of w, and on that ball 1/2 |grad L|^2 >= `mu` L.
    `kantorovich_number` is h = beta r0 / lambda0 with beta = `jacobian_lipschitz`, r0 = `residual_norm` (both upper bounds)
    and lambda0 = `smallest_eigenvalue` of K(w) (a lower bound); it must stay below 1/2. `rigour` is the weakest of
    the three `ingredients`. If it does not hold, `status` says why and what would help; radius and mu are nan. `descent` is
    what gradient descent is guaranteed from here, or None.
    """

    holds: bool
    status: str
    radius: float
    mu: float
    kantorovich_number: float
    smallest_eigenvalue: float
    residual_norm: float
    jacobian_lipschitz: float
    rigour: str
    ingredients: tuple
    descent: DescentGuarantee | None

    def __str__(self):
        lines = [self.status]
        width = max(len(part.name) for part in self.ingredients) if self.ingredients else 0
        lines += [f"  {part.name:<{width}}  {part.value:<10.3g} {part.rigour}: {part.reason}" for part in self.ingredients]
        if self.descent is not None:
            lines.append(
                f"  gradient descent: steps of {self.descent.step_size:.3g}, each lowers the loss by at least a fraction "
                f"{1 - self.descent.factor:.3g}, within {self.descent.radius:.3g}"
            )
        return "\n".join(lines)


def certify_solution(system, w=None):
    """Whether F(w*) = y has a solution w* near w, by the PL*-Kantorovich theorem: a Certificate.

    With r0 = |F(w) - y|, lambda0 = lambda_min(K(w)) and |DF(v) - DF(w)|_2 <= beta |v - w| on the ball: if
    h = beta r0 / lambda0 < 1/2, a solution lies within s* = 2 r0 / (sqrt(lambda0) + sqrt(lambda0 - 2 beta r0)) of w, and
    the loss is PL* with mu = lambda0 - 2 beta r0 on that ball.

    lambda0 is bounded from below and r0, beta from above, in spite of rounding (`plbook.verified`, `plbook.bounds`); the
    inequality is decided exactly. Balls of radius between r0 / sqrt(lambda0) and twice that are tried, the one that works
    is shrunk. Bring a trained network near enough by `polish` first. The certificate never holds on an estimate, nor
    where rounding is not accounted for: then the status begins with "plausible" if the inequality is met.

    `descent`: with theta = min(1, 1 - 2 h), steps of theta / (L_F^2 + beta_F r0) keep L(w_t) <= (1 - (2 - theta) eta mu)^t L(w_0)
    and stay within a ball; L_F and beta_F are certified on that ball.

    Cost: an enclosure of DF (memory 8 n p bytes, several times), a factorization of K, and `jacobian_lipschitz_bound`
    for a few radii.

    Source: chapter 12, which proves both parts. The constant 1/2 is that of the Newton-Kantorovich theorem; compare Polyak
    and Tremba, "Solving underdetermined nonlinear equations by Newton-like method", arXiv 1703.07810.
    """
    w = system.point(w)
    if not w.isfinite().all():
        raise ValueError("w must be finite, but some of its entries are NaN or infinite.")
    known = kernel_bounds(system, w)
    smallest, residual = known.smallest_eigenvalue, known.residual_norm
    reason = known.reason or "F and DF with a bound of their own rounding"
    parts = tuple(
        Ingredient(name, value, known.rigour, reason)
        for name, value in (("smallest eigenvalue", smallest), ("residual norm", residual))
    )

    def failed(status, beta=nan):
        return _certificate(False, status, nan, nan, known, parts, beta)

    if not isfinite(residual):
        return failed("fails: F or DF at w is not finite, or too large for float64")
    if not smallest > 0:
        return failed(_singular(system, known))
    try:
        bounds = bounds_about(system, w)
    except Kinked as obstacle:
        return failed(f"fails: {obstacle}")
    beta, radius, s = _ball(bounds, residual, smallest)
    h = _number(beta, residual, smallest)
    parts = (*parts, Ingredient("Lipschitz constant of DF", beta, bounds.rigour, bounds.reason))
    if isnan(s):
        return failed(_too_curved(known, beta, radius, h, isinstance(system, NetworkSystem)), beta)
    doubts = {part.reason: f"{part.name} ({part.rigour}: {part.reason})" for part in parts if part.rigour != VERIFIED}
    if doubts:
        return failed(f"plausible: h = {h:.3g} is below 1/2, but not all of it is proved: {'; '.join(doubts.values())}", beta)
    mu = _smallest_on_ball(smallest, beta, s)
    status = f"holds: a solution lies within {s:.3g} of w (h = {h:.3g} is below 1/2)"
    return _certificate(True, status, s, mu, known, parts, beta, _descent(bounds, known))


def _certificate(holds, status, radius, mu, known, parts, beta, descent=None):
    return Certificate(
        holds=holds,
        status=status,
        radius=radius,
        mu=mu,
        kantorovich_number=_number(beta, known.residual_norm, known.smallest_eigenvalue),
        smallest_eigenvalue=known.smallest_eigenvalue,
        residual_norm=known.residual_norm,
        jacobian_lipschitz=beta,
        rigour=weakest(part.rigour for part in parts),
        ingredients=parts,
        descent=descent,
    )


def _ball(bounds, residual, smallest):
    """(beta, radius of its ball, s*) with s* the radius that proves a solution; nan if none of the balls does."""
    unit, tried = residual / sqrt(smallest), []
    for factor in RADII:
        radius = _up(unit * factor)
        beta = bounds.center(radius) if isfinite(radius) else inf
        s = _solution_radius(beta, residual, smallest)
        if s <= radius:
            break
        tried.append((beta, radius, nan))
        if bounds.rigour == ESTIMATE:
            return tried[0]
    else:
        return tried[0]
    # The constant of a smaller ball may be smaller, and then the ball is smaller still.
    while s > WORTH_SHRINKING * unit:
        smaller = bounds.center(s)
        shorter = _solution_radius(smaller, residual, smallest)
        if not shorter <= s:
            break
        worthwhile = shorter < s / WORTH_SHRINKING
        beta, radius, s = smaller, s, shorter
        if not worthwhile:
            break
    return beta, radius, s


def _solution_radius(beta, residual, smallest):
    """s* of the theorem, rounded up; nan unless h < 1/2, which is decided exactly."""
    if not isfinite(beta):
        return nan
    rest = Fraction(smallest) - 2 * Fraction(beta) * Fraction(residual)
    if rest <= 0:
        return nan
    return _up(2 * residual / (sqrt(smallest) + sqrt(_down(rest))))


def _descent(bounds, known):
    """The DescentGuarantee of the theorem's second part, or None."""
    smallest, residual = known.smallest_eigenvalue, known.residual_norm
    # With theta = 1 - 2 h the path is no longer than 2 r0 / sqrt(lambda0).
    ball = 2 * residual / sqrt(smallest) * (1 + ROOM)
    beta = bounds.over(ball)
    theta = min(1.0, 1 - 2 * _number(beta.center, residual, smallest))
    if not theta > 0:
        return None
    path = _up(2 * residual / (2 - theta))  # the largest value of sqrt(lambda0) s - beta s^2 / 2 along the run
    rest = Fraction(smallest) - 2 * Fraction(beta.center) * Fraction(path)
    if rest <= 0:
        return None
    radius = _up(2 * path / (sqrt(smallest) + sqrt(_down(rest))))
    steepest = _up(known.jacobian_norm + beta.center * radius)
    step_size = theta / _up(steepest * steepest + beta.value * residual) * (1 - SLACK)
    mu = _smallest_on_ball(smallest, beta.center, radius)
    if not (radius <= ball and step_size > 0 and mu > 0):
        return None
    return DescentGuarantee(step_size, min(1.0, _up(1 - (2 - theta) * step_size * mu)), radius, mu)


def _smallest_on_ball(smallest, beta, radius):
    """A lower bound of lambda_min(K) on the ball: (sqrt(lambda0) - beta radius)^2, rounded down."""
    root = sqrt(smallest) * (1 - SLACK) - _up(beta * radius)
    return max(root, 0.0) ** 2 * (1 - SLACK)


def _number(beta, residual, smallest):
    """h = beta r0 / lambda0, rounded up."""
    if not (isfinite(beta) and smallest > 0):
        return inf
    exact = Fraction(beta) * Fraction(residual) / Fraction(smallest)
    try:
        return nextafter(float(exact), inf)
    except OverflowError:
        return inf


def _up(x):
    return nextafter(x * (1 + SLACK), inf)


def _down(exact):
    """A Fraction as a float that is not larger."""
    return max(nextafter(float(exact), -inf), 0.0) if exact > 0 else float(exact)


def _singular(system, known):
    n, p = system.num_equations, system.num_parameters
    if p < n:
        return (
            f"fails: {p} unknowns for {n} equations, so K is singular everywhere; more parameters are needed, at least one "
            "per equation"
        )
    return (
        f"fails: K(w) is not shown to be nonsingular (its smallest eigenvalue is at least {known.smallest_eigenvalue:.3g}, "
        f"its largest about {known.jacobian_norm * known.jacobian_norm:.3g}); equal or nearly equal inputs make it so, as do saturated "
        "activations; what helps is more different inputs, more parameters or more width"
    )


def _too_curved(known, beta, radius, h, widen):
    if not isfinite(beta):
        return "fails: the Lipschitz constant of DF is not bounded on the ball; a smaller residual makes the ball smaller"
    needed = known.smallest_eigenvalue / (2 * beta)
    return (
        f"fails: h = {h:.3g} is not below 1/2 (on the ball of radius {radius:.3g}); there the residual, {known.residual_norm:.3g}, "
        f"would have to be below {needed:.3g}: train longer, then `polish`"
        + ("; or widen the network, as h falls about like 1 / sqrt(width)" if widen else "")
    )
