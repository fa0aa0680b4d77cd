"""Certified constants of a layered network over a ball, by following every derivative through its layers.

Write U for a change of the weights, z for what enters an activation phi, M for the derivative of one node's value by
another's, b for the derivatives of the outputs by a node's value. The change of DF along U, tested in a direction V, is

    sum over activations of <(b phi'') dz[U], dz[V]> + sum over layers of <b, U da[V]> + <b, V da[U]>,

with dz[U] = sum_k M_k (U_k a_k) and a_k the input of layer k. Each factor is bounded over the whole ball; what remains is
a small matrix that acts on (|V_1|, |V_2|, ...) and (|U_1|, |U_2|, ...), whose spectral norm bounds the change. Weighting
dz by the entries of b phi'', the largest of which falls like width^(-1/2), is what makes the bound fall with the width.

For the difference DF(w) - DF(w0): in the first sum b is that of the center, M has the center's weights and derivatives of
phi between those at w0 and w, V meets the layers' inputs at w0 and U those at w; in the other two b is that of w. With
everything anywhere in the ball the sum is a second derivative. Source: chapter 12, which proves both.
"""

from functools import lru_cache
from math import hypot, inf

import torch

from plbook.bounds.graph import backward, forward, layer_inputs, linear, overlap, parameters
from plbook.bounds.maps import TINY, LinearMap, Map, length
from plbook.verified.enclosures import enclose
from plbook.verified.matrices import spectral_norm_bound

# A layer other than Linear is written as a matrix up to this many entries.
MATRIX_ENTRIES = 2**24
# Bounds are sums of products of fewer than 10^4 non-negative numbers, each operation off by a relative 2^-53 at most.
ROUNDING = 1 + 1e-9
# Values that can move farther are not followed: their bounds would leave float64.
FARTHEST = 1e100


class Layered:
    """What the bounds need of a network at the center w of the balls."""

    def __init__(self, system, nodes, w):
        self.nodes = nodes
        self.inputs = system._samples
        self._spread = lru_cache(maxsize=1)(lambda radius: _Spread(self, radius))
        tensors = parameters(system, w)
        outputs = system._outputs

        # Values and adjoints at w0, each with a bound of its own rounding error.
        def center(*numbers):
            named = dict(zip(tensors, numbers))
            values = forward(nodes, named, self.inputs)
            return values, backward(nodes, named, values, outputs)

        values, adjoints = enclose(center, *tensors.values())
        n = len(self.inputs)
        self.values = [value.value.reshape(n, -1) for value in values]
        self.errors = [length(value.error.reshape(n, -1), 1) for value in values]
        rows, errors = ([getattr(part, kind).reshape(outputs, n, -1) for part in adjoints] for kind in ("value", "error"))
        # |b_j| with the outputs taken together, and |b|_2 as a map from unit vectors of the outputs.
        self.adjoint_entries = [length(row.abs() + error, 0) for row, error in zip(rows, errors)]
        self.adjoint_norms = [
            spectral_norm_bound(row.transpose(0, 1).contiguous()) + length(error, (0, 2)) for row, error in zip(rows, errors)
        ]
        self.maps = {i: self._linear_map(system, i, tensors) for i, node in enumerate(nodes) if node.kind in ("affine", "fixed", "scale")}
        # Layers with something to train, the norm of their inputs per sample and of all samples together.
        self.layers, self.input_norms, self.joint_input_norms = [], [], []
        for i, node in enumerate(nodes):
            if node.kind == "affine" and (node.weight in system._shapes or node.bias in system._shapes):
                self.layers.append(i)
                self._add_input_norms(system, node)

    def _linear_map(self, system, i, tensors):
        node = self.nodes[i]
        if node.kind == "scale":
            return LinearMap(None, abs(node.factor), factor=node.factor)
        source = self.nodes[node.sources[0]]
        weight = tensors.get(node.weight)
        growth = overlap(node, source.shape) ** 0.5 if node.weight in system._shapes else 0.0
        if node.kind == "affine" and isinstance(node.layer, torch.nn.Linear) and len(source.shape) == 1:
            return LinearMap(weight, spectral_norm_bound(weight).item(), growth=growth)
        matrix = None
        if source.size * node.size <= MATRIX_ENTRIES:
            columns = torch.eye(source.size, dtype=torch.float64).reshape(-1, *source.shape)
            matrix = linear(node, weight, columns).flatten(1).T.contiguous()
        if node.kind == "fixed":
            # Averages: no entry is negative, so two products give the largest sums of rows and columns.
            ones = torch.ones(1, *source.shape, dtype=torch.float64)
            value, pullback = torch.func.vjp(lambda x: linear(node, weight, x), ones)
            norm = (value.max() * pullback(torch.ones_like(value))[0].max()).sqrt().item() * ROUNDING
        elif matrix is not None:
            norm = spectral_norm_bound(matrix).item()
        else:
            norm = overlap(node, source.shape) ** 0.5 * spectral_norm_bound(weight.flatten(1)).item()
        return LinearMap(matrix, norm, growth=growth)

    def _add_input_norms(self, system, node):
        source = node.sources[0]
        x = self.values[source].reshape(-1, *self.nodes[source].shape)
        rows = layer_inputs(node, x, node.weight in system._shapes, node.bias in system._shapes)
        wrong = self.errors[source] * self.maps[self.nodes.index(node)].growth
        self.input_norms.append(spectral_norm_bound(rows) + wrong)
        self.joint_input_norms.append(spectral_norm_bound(rows.flatten(0, 1)).item() + length(wrong).item())

    def center(self, radius):
        """beta with |DF(v) - DF(w)|_2 <= beta |v - w| for all v in the ball about w."""
        spread = self._spread(radius)
        return _largest_slope(self, spread, spread.maps, 0.0) if spread.bounded else inf

    def anywhere(self, radius):
        """beta with |DF(u) - DF(v)|_2 <= beta |u - v| for all u, v in the ball."""
        spread, grown = self._spread(radius), []
        if not spread.bounded:
            return inf
        for i in range(len(self.nodes)):
            grown.append(_step(self, i, grown, spread.ranges[i], radius))
        return _largest_slope(self, spread, grown, radius)


def _step(network, i, maps, derivative_range, radius):
    """The Maps of node i by every layer before it, from those of its sources."""
    node = network.nodes[i]
    if node.kind == "input":
        return {}
    sources = [maps[j] for j in node.sources]
    if node.kind == "activation":
        found = {k: m.scaled(*derivative_range) for k, m in sources[0].items()}
    elif node.kind == "sum":
        left, right = sources[0], {k: m.times(node.factor) for k, m in sources[1].items()}
        found = {k: left[k].plus(right[k]) if k in left and k in right else left.get(k, right.get(k)) for k in {**left, **right}}
    elif node.kind == "shift":
        found = sources[0]
    else:
        found = {k: m.after(network.maps[i], radius) for k, m in sources[0].items()}
    if i in network.layers:
        found = {**found, i: Map.identity(len(network.inputs), node.size)}
    return found


class _Spread:
    """How far values can move from those at the center while w runs through the ball.

    Per node: `distances` (samples,) and `joint_distances` (all samples as one vector), `ranges` of the derivative of
    activations, `curvatures` (largest |phi''|), `maps` with the center's weights. Per layer: the norms of its inputs,
    anywhere in the ball. `bounded` is False where values go too far; then the rest is missing.
    """

    def __init__(self, network, radius):
        zero = torch.zeros(len(network.inputs), dtype=torch.float64)
        self.radius, self.distances, self.joint_distances, self.maps = radius, [], [], []
        self.ranges, self.curvatures = [None] * len(network.nodes), {}
        self.input_norms, self.joint_input_norms = [], []
        for i, node in enumerate(network.nodes):
            if node.kind == "activation":
                source = node.sources[0]
                reach = (self.distances[source] + network.errors[source])[:, None]
                # The sums are rounded; one float64 number further out they are not too narrow.
                low = (network.values[source] - reach).nextafter(torch.tensor(-inf, dtype=torch.float64))
                high = (network.values[source] + reach).nextafter(torch.tensor(inf, dtype=torch.float64))
                self.ranges[i] = node.activation.derivative_range(low, high)
                self.curvatures[i] = node.activation.largest_curvature(low, high)
            self.maps.append(_step(network, i, self.maps, self.ranges[i], 0.0))
            if i in network.layers:
                number, source = network.layers.index(i), node.sources[0]
                growth = network.maps[i].growth
                self.input_norms.append(network.input_norms[number] + growth * self.distances[source])
                self.joint_input_norms.append(network.joint_input_norms[number] + growth * self.joint_distances[source])
            distance, joint = self._follow(network, i)
            self.distances.append(zero if distance is None else distance)
            self.joint_distances.append(joint)
            self.bounded = bool(self.distances[-1].max() < FARTHEST)
            if not self.bounded:
                break

    def _follow(self, network, i):
        """(per sample, jointly): how far node i moves, by its sources or by the layers before it, whichever is less."""
        node = network.nodes[i]
        if node.kind == "input" or self.radius == 0:
            return None, 0.0
        if node.kind in ("affine", "sum"):
            return self._by_layers(network, i)
        distance, joint = self.distances[node.sources[0]], self.joint_distances[node.sources[0]]
        if node.kind == "activation":
            slopes = torch.maximum(self.ranges[i][0].abs(), self.ranges[i][1].abs()).amax(dim=1)
            return distance * slopes, joint * slopes.max().item()
        size = 1.0 if node.kind == "shift" else network.maps[i].norm
        return distance * size, joint * size

    def _by_layers(self, network, i):
        if not self.maps[i]:
            return None, 0.0
        apart, joint = [], []
        for k, m in self.maps[i].items():
            number = network.layers.index(k)
            apart.append(m.norm * self.input_norms[number])
            joint.append(m.norm.max().item() * self.joint_input_norms[number])
        return self.radius * length(torch.stack(apart), 0), self.radius * hypot(*joint)


def _adjoint_changes(network, spread):
    """How far the derivatives of the outputs by each node's value can be from those at the center, per sample."""
    zero = torch.zeros(len(network.inputs), dtype=torch.float64)
    changes = [zero] * len(network.nodes)
    if spread.radius == 0:
        return changes
    # What an activation or a layer adds where it stands, before it is carried back to earlier nodes.
    added = {}
    for i in reversed(range(len(network.nodes))):
        node = network.nodes[i]
        if i in network.layers:
            # The layers behind this one add their own, carried back by the maps from here.
            behind = {j: part for j, part in added.items() if i in spread.maps[j]}
            composed = sum((spread.maps[j][i].norm * part for j, part in behind.items()), zero)
            changes[i] = torch.minimum(changes[i], composed)
        if node.kind == "activation":
            bends = (network.adjoint_entries[i] * spread.curvatures[i]).amax(dim=1)
            source = node.sources[0]
            slopes = torch.maximum(spread.ranges[i][0].abs(), spread.ranges[i][1].abs()).amax(dim=1)
            added[source] = added.get(source, zero) + bends * spread.distances[source]
            changes[source] = changes[source] + slopes * changes[i] + bends * spread.distances[source]
        elif node.kind in ("sum", "shift"):
            for source in node.sources:
                changes[source] = changes[source] + changes[i]
        elif node.kind != "input":
            source, layer = node.sources[0], network.maps[i]
            grown = layer.growth * spread.radius * (network.adjoint_norms[i] + changes[i])
            added[source] = added.get(source, zero) + grown
            changes[source] = changes[source] + layer.norm * changes[i] + grown
    return changes


def _largest_slope(network, spread, maps, radius):
    """The bound of the module's docstring: with the center's adjoints for radius 0, else with those of the whole ball."""
    changes = _adjoint_changes(network, spread)
    n, count = len(network.inputs), len(network.layers)
    tested = spread.input_norms if radius else network.input_norms
    joint_tested = spread.joint_input_norms if radius else network.joint_input_norms
    slopes = torch.zeros(n, count, count, dtype=torch.float64)
    joint = torch.zeros(count, count, dtype=torch.float64)
    for i, curvature in spread.curvatures.items():
        source = network.nodes[i].sources[0]
        entries = network.adjoint_entries[i] + (changes[i][:, None] if radius else 0.0)
        roots = (entries * curvature).sqrt()
        moved, moved_tested = (torch.zeros(n, count, dtype=torch.float64) for _ in range(2))
        joint_moved = torch.zeros(count, dtype=torch.float64)
        for k, m in maps[source].items():
            number = network.layers.index(k)
            size = m.weighted_norm(roots)
            moved[:, number] = size * spread.input_norms[number]
            moved_tested[:, number] = size * tested[number]
            joint_moved[number] = size.max() * spread.joint_input_norms[number]
        slopes += moved_tested[:, :, None] * moved[:, None, :]
        joint += moved_tested.amax(dim=0)[:, None] * joint_moved[None, :]
    for last, i in enumerate(network.layers):
        size = network.maps[i].growth * (network.adjoint_norms[i] + changes[i])
        for k, m in maps[network.nodes[i].sources[0]].items():
            first, pull = network.layers.index(k), size * m.norm
            slopes[:, first, last] += pull * tested[first]
            slopes[:, last, first] += pull * spread.input_norms[first]
            pull = size.max() * m.norm.max()
            joint[first, last] += pull * joint_tested[first]
            joint[last, first] += pull * spread.joint_input_norms[first]
    if not (slopes.isfinite().all() and joint.isfinite().all()):
        return inf
    apart = length(spectral_norm_bound(slopes)).item()
    return min(apart, spectral_norm_bound(joint).item()) * ROUNDING + TINY
