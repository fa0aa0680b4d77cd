"""Paths of weights along which a network with one hidden layer keeps its outputs: chapter 3."""

from dataclasses import dataclass

import scipy.linalg
import torch
from torch import Tensor, nn

from plbook.systems import NetworkSystem

ENDS = ("upper", "lower")


@dataclass(frozen=True, eq=False)
class ConstantPath:
    """A polygon in the space of parameters, on which the outputs on all inputs are the same.

    `points` are its corners, shape (k, p). `num_units` hidden units at most are in use at a block end of it; the others
    have no weight that is not 0.
    """

    points: Tensor
    num_units: int

    @property
    def start(self):
        """The first corner, shape (p,)."""
        return self.points[0]

    @property
    def end(self):
        """The last corner, shape (p,)."""
        return self.points[-1]

    def at(self, position):
        """The point at a position from 0 (start) to 1 (end), every side of the polygon taking equally long; shape (p,)."""
        if not 0 <= position <= 1:
            raise ValueError(f"position must be a number from 0 to 1, got {position}.")
        sides = len(self.points) - 1
        side = min(int(position * sides), sides - 1)
        return torch.lerp(self.points[side], self.points[side + 1], float(position) * sides - side)

    def backward(self):
        """The same path from its end to its start."""
        return ConstantPath(self.points.flip(0), self.num_units)

    def then(self, other):
        """This path followed by one that starts where it ends.

        Raises:
            ValueError: if it starts elsewhere.

        Source: the paper's Lemma 1.
        """
        if not torch.equal(self.end, other.start):
            gap = (self.end - other.start).norm().item()
            raise ValueError(f"the second path starts {gap:.3g} away from the end of the first; join paths that meet.")
        return ConstantPath(torch.cat([self.points, other.points[1:]]), max(self.num_units, other.num_units))


def constant_path(system, w=None, *, end="upper"):
    """A path of constant outputs from w to parameters that use the first ("upper") or the last ("lower") hidden units only.

    With Phi the n x m matrix of what the m hidden units give on the n inputs and V the c x m output weights, the outputs
    are proportional to Phi V^T. If r is the rank of Phi, r <= n of its columns span the others. The path has four sides:

    1. V moves on a straight line to output weights that vanish outside of these r units and give the same Phi V^T.
    2. Input weights of the other units do not matter now. Those that stand where a used unit should be take over its
       input weights, the rest become 0.
    3. V moves on a straight line from each used unit that stands elsewhere to its copy.
    4. The units left behind get input weights 0.

    Args:
        system: a NetworkSystem of a Sequential with two Linear layers without biases, the second one at the end.
        end: "upper" or "lower".

    Returns:
        A ConstantPath; `num_units` is r. Outputs along it differ by rounding: eps |Phi| |V| with the largest V of the path.

    Cost: one evaluation and a QR factorization with pivoting.

    Raises:
        ValueError: for other modules, and another end.

    Source: one hidden layer of the paper's Proposition 7 (Lederer), with n units in place of c (n + 1).
    """
    if end not in ENDS:
        raise ValueError(f'end must be "upper" or "lower", got {end!r}.')
    hidden, output, features = _layers(system, w)
    width = len(hidden)
    triangle, order = scipy.linalg.qr(features.numpy(), mode="r", pivoting=True)
    diagonal = torch.as_tensor(triangle.diagonal().copy()).abs()
    rank = int((diagonal > max(features.shape) * torch.finfo(diagonal.dtype).eps * diagonal[0]).sum())
    used = torch.as_tensor(order[:rank].copy(), dtype=torch.long)
    places = torch.arange(rank) if end == "upper" else torch.arange(width - rank, width)

    sparse = torch.zeros_like(output)
    if rank:
        sparse[:, used] = torch.linalg.lstsq(features[:, used], features @ output.T).solution.T
    stay = torch.isin(used, places)
    moving, free = used[~stay], places[~torch.isin(places, used)]
    copied = torch.zeros_like(hidden)
    copied[used], copied[free] = hidden[used], hidden[moving]
    moved = sparse.clone()
    moved[:, free], moved[:, moving] = sparse[:, moving], 0.0
    cleaned = copied.clone()
    cleaned[moving] = 0.0
    corners = [(hidden, output), (hidden, sparse), (copied, sparse), (copied, moved), (cleaned, moved)]
    return ConstantPath(torch.stack([torch.cat([first.reshape(-1), last.reshape(-1)]) for first, last in corners]), rank)


def _layers(system, w):
    """Hidden weights (m, d), output weights (c, m), and what the output layer sees, (n, m)."""
    module = system.module_at(w) if isinstance(system, NetworkSystem) else None
    layers = list(module) if isinstance(module, nn.Sequential) else []
    weighted = [layer for layer in layers if any(True for _ in layer.parameters())]
    plain = all(isinstance(layer, nn.Linear) and layer.bias is None and layer.weight.requires_grad for layer in weighted)
    if not (len(weighted) == 2 and plain and weighted[1] is layers[-1] and weighted[0].weight is not weighted[1].weight):
        raise ValueError(
            "a constant path needs the NetworkSystem of a Sequential with two trainable Linear layers without biases, the second "
            "one at the end, such as pl.MLP(input_size, [width], output_size)."
        )
    with torch.no_grad():
        features = module[:-1](system._samples)
    return weighted[0].weight.detach(), weighted[1].weight.detach(), features
