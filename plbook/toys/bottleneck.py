"""Two random-feature models with one number between them: chapter 5."""

from math import sqrt

import torch
from torch import nn

from plbook.systems import NetworkSystem


class FourierFeatures(nn.Module):
    """z -> (cos(nu_1 z), ..., cos(nu_m z), sin(nu_1 z), ..., sin(nu_m z)) / sqrt(m), a vector of length 1."""

    def __init__(self, frequencies):
        super().__init__()
        self.register_buffer("frequencies", frequencies)

    def forward(self, x):
        angles = x * self.frequencies
        return torch.cat([angles.cos(), angles.sin()], dim=-1) / sqrt(len(self.frequencies))


def fourier_bottleneck(inputs, targets, num_features, *, spread, seed=0):
    """h = g o f, f(u; x) = u . phi(x) and g(a; z) = a . psi(z): two Fourier feature models with one number z between them.

    phi has frequencies from N(0, 1), psi from N(0, n^2), num_features = m each; they are fixed. The unknowns are (u, a),
    with starts u from N(0, spread^2) and a from N(0, 1). K_f = phi phi^T and K_g = psi psi^T have 1 on the diagonal and, as
    m grows, exp(-|x_i - x_j|^2 / 2) and exp(-n^2 |z_i - z_j|^2 / 2) beside it.

    Args:
        inputs, targets: shape (n,).

    Returns:
        A NetworkSystem of a Sequential of four layers; f is the first two, so `composition_kernels` takes split=2.

    Raises:
        ValueError: as for NetworkSystem; for a spread of some thousands, too, where h turns the rounding errors of z into
            differences that look like inputs which influence each other.

    Source: the paper's Appendix D, as we read equations (46) and (47). The start of a is our choice; K_g does not depend on it.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(size, scale):
        return scale * torch.randn(size, dtype=torch.float64, generator=generator)

    def model(bandwidth, scale):
        outer = nn.utils.skip_init(nn.Linear, 2 * num_features, 1, bias=False, dtype=torch.float64)
        features = FourierFeatures(draw(num_features, bandwidth))
        with torch.no_grad():
            outer.weight.copy_(draw(2 * num_features, scale))
        return [features, outer]

    inputs = torch.as_tensor(inputs, dtype=torch.float64)
    return NetworkSystem(nn.Sequential(*model(1.0, spread), *model(len(inputs), 1.0)), inputs[:, None], targets)
