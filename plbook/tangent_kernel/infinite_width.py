"""The tangent kernel of a random network in the limit of infinite width."""

from functools import cache
from math import pi, sqrt

import torch

from plbook.networks import ACTIVATIONS
from plbook.systems.guards import as_data

# The kernel is computed in square tiles of this side: a handful of temporaries of 2 MB, whatever the number of inputs.
TILE = 512
# The quadrature doubles its nodes, from the first number, until the change is below the tolerance, at most to the last.
FIRST_NODES, LAST_NODES, TOLERANCE = 32, 2048, 1e-10


def infinite_width_kernel(inputs, other=None, *, depth, activation):
    """The tangent kernel of plbook.MLP with `depth` hidden layers as their widths tend to infinity: not random any more.

    Let X = inputs, Y = other, S_0 = X Y^T / d, K_1 = S_0 and, for l = 1, ..., depth, entry by entry,

        S_l = E[sigma(u) sigma(v)],   T_l = E[sigma'(u) sigma'(v)],   K_{l+1} = S_l + T_l o K_l,

    with (u, v) Gaussian of mean 0 and the variances and covariance that S_{l-1} holds for the two inputs. The result is
    K_{depth+1}. Why: f = sum_k w_k sigma(u_k) / sqrt(m), where the units u_k become independent, Gaussian of covariance
    S_{l-1}, each with tangent kernel K_l. The weights w contribute sum_k sigma(u_k) sigma(v_k) / m, which tends to S_l.
    Those below contribute sum_k w_k^2 sigma'(u_k) sigma'(v_k) K_l / m, gradients of different units being uncorrelated,
    and E[w_k^2] = 1 makes that T_l o K_l.

    With a, b the variances, c the covariance, A = sqrt(a b - c^2) and theta = atan2(A, c), the angle between the inputs:

        relu       S = (A + (pi - theta) c) / (2 pi)           T = (pi - theta) / (2 pi)
        erf        S = (2 / pi) atan2(2 c, R)                  T = 4 / (pi R),   R^2 = 1 + 2 (a + b) + 4 A^2
        identity   S = c                                       T = 1
        others     S = sum_k s_k(a) s_k(b) (c / sqrt(a b))^k   T: the same with sigma' in place of sigma

    Here s_k(a) = E[sigma(sqrt(a) z) h_k(z)], with the orthonormal Hermite polynomials h_k (Mehler's formula), comes from
    q-point Gauss-Hermite quadrature, and k < q. Where c = sqrt(a b) the sum is exactly the q-point rule for E[sigma^2].

    Args:
        inputs: shape (n, d), scaled as for the network, whose first layer divides by sqrt(d).
        other: shape (m, d); None means `inputs`.
        depth: the number of hidden layers, a whole number >= 0. The output layer is linear; 0 gives the linear model.
        activation: the name of one of plbook.networks.ACTIVATIONS.

    Returns:
        Shape (n, m), float64; for other=None symmetric to the last bit, and positive semidefinite up to rounding.

    Accuracy: relu and erf 1e-15 of sqrt(K_ii K_jj), measured against 50 digits for up to 5 layers, also for inputs that
    (almost) coincide or are opposite. The others 1e-14: the nodes are doubled, 32, 64, ..., 2048, until that changes no
    variance by more than 1e-10 of itself, summed without signs, and the finer rule is used, whose error is far smaller.
    Inputs of squared norm d take 64 to 256 nodes. Larger ones bring the singularities of the activation in the complex
    plane closer to the real line and need more: tanh is refused from squared norms of about 10 d, the others not before
    about 38 d.

    Cost: 3 n m d products and, per layer, n m angles (relu, erf) or 2 n m q products; half of it with other=None. Memory:
    the result, copies of the inputs, 16 (n + m) q bytes per layer, and tiles that take 20 MB together.

    Raises:
        ValueError: for wrong shapes, data that is empty or not finite, an unknown activation, a depth that is not a whole
            number, and inputs too large for float64 or for the quadrature.

    Source: Jacot, Gabriel and Hongler (2018), Theorem 1, without biases; relu: Cho and Saul (2009); erf: Williams (1996).
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 0:
        raise ValueError(f"depth must be a whole number >= 0, the number of hidden layers; got {depth!r}.")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ValueError(f"activation must be the name of one of {', '.join(ACTIVATIONS)}; got {activation!r}.")
    points = _checked(inputs, "inputs")
    n, start = len(points), 0  # where the columns' points begin
    if other is not None:
        other = _checked(other, "other")
        if other.shape[1] != points.shape[1]:
            raise ValueError(f"other must have as many columns as inputs, {points.shape[1]}; got {other.shape[1]}.")
        points, start = torch.cat([points, other]), n

    layers, scales = [], points.norm(dim=1) / sqrt(points.shape[1])
    for _ in range(depth):
        layers.append(LAYERS.get(activation, _Quadrature)(activation, scales))
        scales = layers[-1].output_scales

    kernel = points.new_empty(n, len(points) - start)
    for rows in _slices(0, n):
        for columns in _slices(start, len(points)):
            tile = kernel[rows, columns.start - start : columns.stop - start]
            if other is None and columns.start < rows.start:
                tile.copy_(kernel[columns, rows].T)
                continue
            tile.copy_(_tile(points, layers, rows, columns))
            if other is None and columns == rows:
                # Vectorized functions may round an entry and its mirror image differently.
                tile.copy_((tile + tile.T) / 2)
    return kernel


def _checked(values, name):
    values = as_data(values, name)
    if values.ndim != 2:
        raise ValueError(f"{name} must have shape (inputs, features), got {tuple(values.shape)}. Flatten images first.")
    if not (values.norm(dim=1) <= 1e150).all():
        raise ValueError(f"{name} are too large for float64: norms must be at most 1e150. Scale them to squared norm = dimension.")
    return values


def _slices(first, last):
    return [slice(i, min(i + TILE, last)) for i in range(first, last, TILE)]


def _tile(points, layers, rows, columns):
    """The kernel between two slices of the points."""
    x, y = points[rows], points[columns]
    kernel = covariance = x @ y.T / points.shape[1]
    area = _area(x, y) if layers and layers[0].takes_area else None
    for layer in layers:
        covariance, area, slope = layer.moments(rows, columns, covariance, area)
        kernel = covariance + slope * kernel
    return kernel


def _area(x, y):
    """sqrt(a b - c^2) = |x| |y| sin(theta) / d, to full accuracy relative to |x| |y| / d: Kahan's formula for angles.

    For almost parallel x and y, a b - c^2 would lose all its digits, and theta half of them.
    """
    norms = x.norm(dim=1)[:, None], y.norm(dim=1)[:, None]
    x, y = (points / norm.where(norm > 0, 1.0) for points, norm in zip((x, y), norms))
    apart, opposite = (torch.cdist(x, z, compute_mode="donot_use_mm_for_euclid_dist") for z in (y, -y))
    return norms[0] * norms[1].T / x.shape[1] * apart * opposite / 2


class _Identity:
    takes_area = False

    def __init__(self, _, scales):
        self.output_scales = scales

    def moments(self, rows, columns, covariance, area):
        return covariance, area, 1.0


class _ReLU:
    takes_area = True

    def __init__(self, _, scales):
        self.output_scales = scales / sqrt(2)

    def moments(self, rows, columns, covariance, area):
        theta = torch.atan2(area, covariance)
        # 1 - cos of the next angle, without the cancellation: its square root must be right to the last digits, too.
        versine = 2 * (theta / 2).sin() ** 2 - (theta.sin() - theta * theta.cos()) / pi
        sine = (versine * (2 - versine)).sqrt()
        next_area = self.output_scales[rows, None] * self.output_scales[columns] * sine
        return (area + (pi - theta) * covariance) / (2 * pi), next_area, (pi - theta) / (2 * pi)


class _Erf:
    takes_area = True

    def __init__(self, _, scales):
        self.variances = scales**2
        self.output_variances = 2 / pi * torch.atan2(2 * self.variances, (1 + 4 * self.variances).sqrt())
        self.output_scales = self.output_variances.sqrt()

    def moments(self, rows, columns, covariance, area):
        a, b = self.variances[rows, None], self.variances[columns]
        root = torch.hypot((1 + 2 * (a + b)).sqrt(), 2 * area)
        outputs = 2 / pi * torch.atan2(2 * covariance, root)
        # Below 1 from here on, so the cancellation is harmless beside the 1 in `root`: 1e-16, of either sign.
        next_area = (self.output_variances[rows, None] * self.output_variances[columns] - outputs**2).abs().sqrt()
        return outputs, next_area, 4 / pi / root


class _Quadrature:
    """Mehler's formula with coefficients by Gauss-Hermite quadrature."""

    takes_area = False

    def __init__(self, name, scales):
        function = ACTIVATIONS[name]()
        self.scales = scales.where(scales > 0, 1.0)
        self.values = _coefficients(name, function, scales)
        self.slopes = _coefficients(name, lambda z: _derivative(function, z), scales)
        self.output_scales = self.values.norm(dim=1)

    def moments(self, rows, columns, covariance, area):
        correlation = covariance / self.scales[rows, None] / self.scales[columns]
        values, slopes = (_mehler(c[rows], c[columns], correlation) for c in (self.values, self.slopes))
        return values, area, slopes


def _mehler(left, right, correlation):
    """sum_k left_ik right_jk correlation_ij^k, by Horner's rule."""
    total = torch.zeros_like(correlation)
    for a, b in zip(left.T.flip(0).contiguous(), right.T.flip(0).contiguous()):
        total.mul_(correlation).addr_(a, b)
    return total


def _coefficients(name, function, scales):
    """E[function(scale z) h_k(z)], shape (scales, nodes), with enough nodes for every scale."""
    nodes, coarse = FIRST_NODES, None
    while nodes <= LAST_NODES:
        z, vectors = (piece.to(scales.device) for piece in _rule(nodes))
        fine = (function(scales[:, None] * z) * vectors[0]) @ vectors.T
        if coarse is not None:
            change = fine.square()
            change[:, : coarse.shape[1]] -= coarse.square()
            # Added up without signs: no correlation, of an input with itself, changes its sum by more.
            if (change.abs().sum(dim=1) <= TOLERANCE * fine.square().sum(dim=1)).all():
                return fine
        nodes, coarse = 2 * nodes, fine
    raise ValueError(
        f"{name} needs more than {LAST_NODES} quadrature nodes for pre-activations of standard deviation {scales.max():.3g}. "
        "Scale the inputs to squared norm = dimension, which makes it 1 in the first layer, or use relu or erf."
    )


@cache
def _rule(nodes):
    """Gauss-Hermite nodes z_i and the orthogonal matrix h_k(z_i) sqrt(weight_i), k by i (Golub and Welsch 1969)."""
    side = torch.arange(1, nodes, dtype=torch.float64).sqrt()
    return torch.linalg.eigh(torch.diag(side, -1))


def _derivative(function, z):
    z = z.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(function(z).sum(), z)[0]


LAYERS = {"identity": _Identity, "relu": _ReLU, "erf": _Erf}
