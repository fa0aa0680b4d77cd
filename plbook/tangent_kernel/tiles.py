"""The layer route, tile by tile: each parameter's part of the kernel from what its layer sees.

A pass runs the network forward and back on one tile of inputs and keeps what the formulas need. A tile of the kernel
takes two passes, one for its rows and one for its columns; no p-column matrix exists unless a parameter needs one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from plbook.tangent_kernel.contributions import LayerPart, add_layer, join
from plbook.tangent_kernel.layers import Recorder, plan, probe

# As many inputs show which parameters have a formula.
FEW = 16
# Formulas get blocks of at least this many bytes.
SMALL = 2**22
# A tile may take long, so the bar moves with each layer of it.
PROGRESS = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"


@dataclass(frozen=True, eq=False)
class Pass:
    """What one forward pass and the backward passes leave: each layer's part, and the Jacobian's other columns."""

    routes: tuple
    parts: dict
    columns: Tensor | None


@dataclass(frozen=True)
class PassCost:
    """What a pass takes for one input, in bytes, and which share of a tile goes through the network at once.

    `activations` are what the layers are given, or what they return if that is more. With k outputs a pass needs k + 2
    times as much: the layers' inputs, k derivatives of what they return, and what autograd saves. `needed` adds the
    Jacobian's columns of parameters without a formula. When the pass is over, `free` is what of the k + 2 activations
    it no longer needs. Convolutions unfold their input, to more than all activations: so `share` is what keeps the
    unfolded input of the largest within what autograd may have.
    """

    activations: int
    needed: int
    free: int
    share: float


def planned_routes(system, w):
    """The Route of each parameter, from a pass over a few inputs."""
    few = system._samples[:FEW]
    return _forward(system, w, few, probe(system, w, few), 0)[0]


def pass_cost(system, probes):
    """The PassCost of such inputs as were probed."""
    rows, by_layer = probes[0]
    calls = [(layer, call) for layer, found in by_layer.items() for call in found]
    sizes = [(call.input.numel(), call.shape.numel()) for _, call in calls]
    given, returned = (sum(numbers) // len(rows) for numbers in zip(*sizes, (0, 0)))
    # Each result of a convolution was made of one position's row, which the channels of a group share.
    unfolded = [call.shape.numel() * layer.weight[0].numel() * getattr(layer, "groups", 1) / len(layer.weight) for layer, call in calls]
    once = {layer for layer, found in by_layer.items() if len(found) == 1}
    columns = sum(shape.numel() for name, shape in system._shapes.items() if system._owners[name][0] not in once)
    activations, outputs = max(given, returned, 1), system._outputs
    needed = given + (outputs + 1) * returned + 2 * outputs * columns + 1
    free = (outputs + 2) * activations - (given + outputs * returned)
    return PassCost(8 * activations, 8 * needed, 8 * free, min(1, activations * len(rows) / max(unfolded, default=1)))


@dataclass(frozen=True)
class Tiling:
    """The tiles of a kernel: slices of its rows' inputs and of its columns' inputs, and the bytes that formulas may use.

    At most `chunk` inputs go through the network at once.
    """

    rows: tuple
    columns: tuple
    symmetric: bool
    workspace: int
    chunk: int

    @property
    def tiles(self):
        """Pairs (i, j); of a symmetric kernel those on and below the diagonal, row by row."""
        return [(i, j) for i in range(len(self.rows)) for j in range(i + 1 if self.symmetric else len(self.columns))]


def tiling(system, rows, columns, probes, memory_budget, *, pieces=1):
    """Tiles that stay within the budget, at least `pieces` of them to a side (if there are as many inputs)."""
    n, others = len(rows), None if columns is None else len(columns)
    cost, passes = pass_cost(system, probes), 0.75 * memory_budget
    if columns is None and n * cost.needed <= passes and pieces == 1:
        size = n
    else:
        size = max(1, min(int(passes // (2 * cost.needed)), -(-n // pieces)))
    # The formulas may use what the passes no longer need, and one tile.
    sizes = size, size if others is None else min(size, others)
    free = 8 * sizes[0] * sizes[1] * system._outputs**2 + (sizes[0] + (sizes[1] if others else 0)) * cost.free
    workspace = int(max(SMALL, min(free, memory_budget // 4)))
    chunk = max(1, int(cost.share * size))
    return Tiling(_even(n, size), _even(n if others is None else others, size), others is None, workspace, chunk)


def _even(n, size):
    count = -(-n // size)
    edges = [n * i // count for i in range(count + 1)]
    return tuple(slice(*pair) for pair in zip(edges, edges[1:]))


def layer_kernel(system, w, rows, columns, memory_budget):
    """(K, routes): the kernel between two sets of inputs (columns None: between the rows), and the Route of each parameter."""
    probes, kernel = probe(system, w, rows), new_kernel(system, rows, columns)
    layout = tiling(system, rows, columns, probes, memory_budget)
    return kernel, add_tiles(kernel, system, w, rows, columns, layout, layout.tiles, probes)


def new_kernel(system, rows, columns):
    """Zeros where the kernel will be."""
    return system.start.new_zeros(len(rows) * system._outputs, len(rows if columns is None else columns) * system._outputs)


def add_tiles(kernel, system, w, rows, columns, layout, tiles, probes):
    """Fill these tiles of the kernel, in place; the Route of each parameter. `probes` are those of all rows."""
    columns = rows if columns is None else columns
    outputs, routes, done = system._outputs, None, -1
    with tqdm(total=len(tiles), desc="tangent kernel", bar_format=PROGRESS, disable=None, delay=2, leave=False) as progress:
        for i, j in tiles:
            first, second = layout.rows[i], layout.columns[j]
            if i != done:
                left = None  # its memory is needed for the next
                left, done = run_pass(system, w, rows[first], layout.chunk, routes, probes if len(layout.rows) == 1 else None), i
                routes = left.routes
            diagonal = layout.symmetric and i == j
            right = left if diagonal else run_pass(system, w, columns[second], layout.chunk, routes)
            rows_of, columns_of = (slice(some.start * outputs, some.stop * outputs) for some in (first, second))
            _add(kernel[rows_of, columns_of], left, right, layout.workspace, progress)
            if diagonal:
                _mirror(kernel[rows_of, columns_of])
            elif layout.symmetric:
                kernel[columns_of, rows_of] = kernel[rows_of, columns_of].T
            right = None
    return routes


def _mirror(block, step=512):
    """Copy the lower triangle to the upper one."""
    for first in range(0, len(block), step):
        part = slice(first, first + step)
        block[:first, part] = block[part, :first].T
        corner = block[part, part]
        corner.tril_().add_(corner.tril(-1).T)


def _forward(system, w, inputs, probes, first):
    """One forward pass under watch: (the Route of each parameter, the recorder, the output). For the last two see `plan`."""
    parameters = {name: piece.detach().requires_grad_() for name, piece in system._parameters_at(w).items()}
    with torch.enable_grad(), Recorder(system._module) as recorder:
        output = system._evaluate(parameters, inputs).reshape(len(inputs), -1)
    return plan(system, len(inputs), parameters, recorder, output, probes, first), recorder, output


def run_pass(system, w, inputs, chunk, routes=None, probes=None):
    """Forward and, per output, backward, with at most `chunk` inputs at once; ValueError if routes differ from these."""
    passes, probes = [], probes or probe(system, w, inputs)
    for first in range(0, len(inputs), chunk):
        passes.append(_one_pass(system, w, inputs[first : first + chunk], probes, first))
        routes = routes or passes[0].routes
        if passes[-1].routes != routes:
            raise ValueError(
                "the module treats some inputs differently from others: "
                f"{next(b for a, b in zip(routes, passes[-1].routes) if a != b)}. Use method=\"jacobian\"."
            )
    if len(passes) == 1:
        return passes[0]
    parts = {layer: join([one.parts.pop(layer) for one in passes]) for layer in list(passes[0].parts)}
    return Pass(routes, parts, None if passes[0].columns is None else torch.cat([one.columns for one in passes]))


def _one_pass(system, w, inputs, probes, first):
    routes, recorder, output = _forward(system, w, inputs, probes, first)
    by_layer = {}
    for route in routes:
        if route.route == "layer":
            layer, own = system._owners[route.parameter]
            by_layer.setdefault(layer, []).append(own)
    others = [route.parameter for route in routes if route.route == "jacobian"]
    columns = system.jacobian_columns(w, others, inputs) if others else None
    return Pass(routes, _parts(by_layer, recorder, output) if by_layer else {}, columns)


def _parts(by_layer, recorder, output):
    calls, outputs = {layer: recorder.calls[layer][0] for layer in by_layer}, output.shape[1]
    edges = [call.edge for call in calls.values()]
    # Summing an output over the batch gives every input's own derivatives at once: inputs are not coupled.
    derivatives = [
        torch.autograd.grad(output[:, k].sum(), edges, retain_graph=k + 1 < outputs, allow_unused=True) for k in range(outputs)
    ]
    parts = {}
    for (layer, trained), pieces in zip(by_layer.items(), zip(*derivatives)):
        nothing = output.new_zeros(()).expand(calls[layer].shape)
        pieces = tuple(nothing if piece is None else piece for piece in pieces)
        parts[layer] = LayerPart(layer, tuple(trained), calls[layer].input, pieces)
    return parts


def _add(block, left, right, workspace, progress):
    """Add up what all parameters contribute to one tile."""
    for layer, part in left.parts.items():
        add_layer(block, part, right.parts[layer], workspace)
        progress.update(1 / (len(left.parts) + 1))
    if left.columns is not None:
        block.addmm_(left.columns, right.columns.T)
    progress.update(1 / (len(left.parts) + 1))
