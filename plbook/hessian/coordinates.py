"""Few coordinates for the Hessians of single equations.

On the sample of F_i a Linear layer gets q numbers a (with a last one that is 1 if its bias is trained, too) and returns
m of them, s = W a. With d the derivative of F_i by s, the gradient of F_i by W is d a^T, and a change of the parameters
changes it by d' a^T + d a'^T. So whatever H_i is applied to, the part of the result that belongs to W has the form
x a^T + d y^T: m + q numbers in place of m q. On the space of such vectors H_i has all its eigenvalues but zeros.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import grad

from plbook.hessian.products import batched, hessian_map, samples_and_picks
from plbook.systems import NetworkSystem
from plbook.tangent_kernel.tiles import run_pass

# Two products of one vector that differ by less than this, relative to their length, differ by rounding.
AGREEMENT = 1e-9


@dataclass(frozen=True, eq=False)
class Factors:
    """One Linear layer in the Hessians of b equations: a / |a| of shape (b, q) and d / |d| of shape (b, m).

    A vector's part is x u^T + e y^T for u = a / |a|, e = d / |d| and y orthogonal to u: of length |(x, y)|.
    """

    layer: nn.Linear
    names: tuple
    u: Tensor
    e: Tensor

    @property
    def sizes(self):
        """(m, q)."""
        return self.e.shape[1], self.u.shape[1]


class Coordinates:
    """Orthonormal coordinates z, shape (b, size), for the Hessians of b equations at w.

    Each layer of `factors` has its x and y; all other parameters, joined in their order, are their own coordinates. A
    plain System has none but these.
    """

    def __init__(self, system, w, equations):
        self.system, self.w = system, w
        self.samples, self.picks = samples_and_picks(system, equations)
        self.factors = _factors(system, w, equations) if isinstance(system, NetworkSystem) else []
        covered = {name for factors in self.factors for name in factors.names}
        self.values = system._parameters_at(w) if covered else {"w": w}
        self.others = [name for name in self.values if name not in covered]
        self.sizes = [size for factors in self.factors for size in factors.sizes]
        self.sizes += [self.values[name].numel() for name in self.others]
        self.size = sum(self.sizes)

    def start(self, generator):
        """Random vectors, shape (b, size)."""
        z = torch.randn(len(self.samples), self.size, dtype=self.w.dtype, generator=generator)
        return self._projected(z.to(self.w.device), slice(None))

    def product(self, rows, together):
        """The map of coordinates to their images under the Hessians of some of the equations, `rows`.

        Together, the gradients are computed once for all products: about 3 evaluations of each equation's sample now and 3
        for each product, in place of 6.
        """
        equations = self.samples[rows], self.picks[rows], [(factors.u[rows], factors.e[rows]) for factors in self.factors]

        def gradient(sample, pick, frames, z):
            return grad(lambda change: self._sample_value(sample, frames, change) @ pick)(z)

        def image(sample, pick, frames, z):
            return hessian_map(lambda change: gradient(sample, pick, frames, change), self.w.new_zeros(self.size))(z)

        if together:
            images = hessian_map(lambda z: batched(gradient)(*equations, z), self.w.new_zeros(len(equations[1]), self.size))
        else:
            images = partial(batched(image), *equations)
        return lambda z: self._projected(images(self._projected(z, rows)), rows)

    def can_go_together(self, z):
        """Whether both kinds of product agree on these coordinates: torch 2.13 differentiates the gradients of a batch
        wrongly where it has layer norm, for one."""
        first, second = (self.product(slice(None), together)(z) for together in (True, False))
        return bool(((first - second).norm(dim=1) <= AGREEMENT * second.norm(dim=1)).all())

    def vectors(self, z, rows):
        """Unit vectors of shape (len(z), p) that have these coordinates, up to their length."""
        pieces, others = self._split(z)
        parts = dict(zip(self.others, others))
        for factors, (x, y) in zip(self.factors, pieces):
            matrix = torch.einsum("bm,bq->bmq", x, factors.u[rows]) + torch.einsum("bm,bq->bmq", factors.e[rows], y)
            columns = factors.layer.in_features
            # A last column is the bias's.
            parts.update(zip(factors.names, (matrix[..., :columns], matrix[..., columns:])))
        return _unit(torch.cat([parts[name].reshape(len(z), -1) for name in self.values], dim=1))

    def _sample_value(self, sample, frames, change):
        """The equations of one sample, shape (outputs,), where the parameters are changed by the vector with these coordinates."""
        pieces, others = self._split(change)
        if not self.factors:
            return self.system._sample_value(self.w + others[0], sample)
        changed = {name: self.values[name] + piece.view_as(self.values[name]) for name, piece in zip(self.others, others)}
        with ExitStack() as stack:
            for factors, frame, piece in zip(self.factors, frames, pieces):
                hook = _changed(frame, piece, len(frame[0]) > factors.layer.in_features)
                stack.callback(factors.layer.register_forward_hook(hook, with_kwargs=True).remove)
            return self.system._evaluate({**self.values, **changed}, sample.unsqueeze(0)).reshape(-1)

    def _split(self, z):
        """(pairs of x and y, the other parameters' pieces) along the last dimension."""
        pieces, own = z.split(self.sizes, dim=-1), 2 * len(self.factors)
        return list(zip(pieces[:own:2], pieces[1:own:2])), pieces[own:]

    def _projected(self, z, rows):
        """z with every y made orthogonal to its u."""
        pieces, others = self._split(z)
        found = []
        for factors, (x, y) in zip(self.factors, pieces):
            u = factors.u[rows]
            found += [x, y - (y * u).sum(dim=1, keepdim=True) * u]
        return torch.cat([*found, *others], dim=1)


def _changed(frame, piece, with_bias):
    """A hook that adds (x u^T + e y^T) a to what a Linear layer returns."""
    (u, e), (x, y) = frame, piece

    def hook(layer, args, kwargs, output):
        (a,) = (*args, *kwargs.values())
        if with_bias:
            a = torch.cat([a, a.new_ones(len(a), 1)], dim=1)
        return output + (a @ u)[:, None] * x + (a @ y)[:, None] * e

    return hook


def _factors(system, w, equations):
    """The Factors of every Linear layer that has a formula, sees one row per sample, and has more than m + q numbers."""
    outputs = system._outputs
    first = int(equations[0]) // outputs
    samples = system._samples[first : int(equations[-1]) // outputs + 1]
    # Products take each sample alone, which a module may treat differently.
    alone, found = run_pass(system, w, samples[:1], 1).parts, []
    for layer, part in run_pass(system, w, samples, len(samples)).parts.items():
        if not isinstance(layer, nn.Linear) or layer not in alone or part.inputs.ndim != 2 or "weight" not in part.trained:
            continue
        with_bias = "bias" in part.trained
        m, q = layer.out_features, layer.in_features + with_bias
        if m + q >= m * q:
            continue
        a = torch.cat([part.inputs, part.inputs.new_ones(len(samples), 1)], dim=1) if with_bias else part.inputs
        d = torch.stack(part.derivatives, dim=1).flatten(0, 1)
        prefix = next(name for name, owner in system._owners.items() if owner == (layer, "weight")).removesuffix("weight")
        names = tuple(prefix + own for own in ("weight", "bias")[: 1 + with_bias])
        found.append(Factors(layer, names, _unit(a)[equations // outputs - first], _unit(d)[equations - first * outputs]))
    return found


def _unit(rows):
    """Each row divided by its length; zeros stay."""
    length = rows.norm(dim=1, keepdim=True)
    return rows / length.where(length > 0, 1.0)
