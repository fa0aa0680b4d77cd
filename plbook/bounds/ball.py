"""The constants that the paper's theorems take over a ball: L_F, beta_F and the largest residual."""

from dataclasses import dataclass

from plbook.bounds.lipschitz import jacobian_lipschitz_bound
from plbook.verified.kernel import kernel_bounds
from plbook.verified.rigour import weakest

# The rounding of the few operations below is a relative 1e-15.
SLACK = 1 + 1e-12


@dataclass(frozen=True)
class BallConstants:
    """Upper bounds over the closed ball of this radius about w.

    `jacobian_norm` of |DF|_2, which is L_F; `jacobian_lipschitz` of the Lipschitz constant of DF, which is beta_F;
    `residual_norm` of |F - y|. `start_residual_norm` bounds |F(w) - y| at the center.
    """

    radius: float
    jacobian_norm: float
    jacobian_lipschitz: float
    residual_norm: float
    start_residual_norm: float
    rigour: str

    @property
    def step_size(self):
        """Theorem 6's 1 / (L_F^2 + beta_F |F(w) - y|), with constants that hold on the whole ball."""
        return 1 / (self.jacobian_norm * self.jacobian_norm + self.jacobian_lipschitz * self.start_residual_norm) / SLACK


def ball_constants(system, radius, w=None):
    """L_F, beta_F and the largest residual on the ball of this radius about w: BallConstants.

    With |DF(v) - DF(w)|_2 <= beta |v - w|: |DF(v)|_2 <= |DF(w)|_2 + beta R, and |F(v) - y| <= |F(w) - y| + |DF(w)|_2 R
    + beta R^2 / 2. Certified where `jacobian_lipschitz_bound` and `plbook.verified.kernel_bounds` are; otherwise `rigour` says
    how far to trust them.

    Cost: those two functions. Raises ValueError as `jacobian_lipschitz_bound` does.

    Source: the paper's Theorem 6, which assumes such constants; chapter 12.
    """
    bound = jacobian_lipschitz_bound(system, radius, w)
    known = kernel_bounds(system, w)
    radius, slope = bound.radius, known.jacobian_norm
    return BallConstants(
        radius=radius,
        jacobian_norm=(slope + bound.center * radius) * SLACK,
        jacobian_lipschitz=bound.value,
        residual_norm=(known.residual_norm + (slope + bound.center * radius / 2) * radius) * SLACK,
        start_residual_norm=known.residual_norm,
        rigour=weakest((bound.rigour, known.rigour)),
    )
