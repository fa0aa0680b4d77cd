"""The layer route, tile by tile: each parameter's part of the kernel from what its layer sees.

A pass runs the network forward and back on one tile of inputs and keeps what the formulas need. A block of the kernel
takes two passes, one for its rows and one for its columns; no p-column matrix exists unless a parameter needs one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from plbook.tangent_kernel.contributions import add_bias, add_weight, derivatives_of, positions_of
from plbook.tangent_kernel.layers import Recorder, owners_of, plan

# As many inputs are enough to see which parameters have a formula.
FEW = 16


@dataclass(frozen=True, eq=False)
class _Part:
    """One layer's share of a pass: which of its parameters are trained, its rows and its derivative rows."""

    trained: tuple
    positions: Tensor
    derivatives: Tensor


@dataclass(frozen=True, eq=False)
class _Pass:
    routes: tuple
    parts: dict
    columns: Tensor | None


def planned_routes(system, w):
    """The Route of each parameter, from a pass over a few inputs."""
    return _run(system, w, system._samples[:FEW]).routes


def layer_kernel(system, w, rows, columns, memory_budget):
    """(K, routes): the kernel between two sets of inputs (columns None: between the rows), and the Route of each parameter."""
    # A block needs two passes, and while one runs autograd holds about as much again.
    size = int(max(1, memory_budget // (3 * _bytes_per_input(system, w, rows))))
    first = rows.split(size)
    second = first if columns is None else columns.split(size)
    outputs = system._outputs
    kernel = w.new_zeros(len(rows) * outputs, (len(rows) if columns is None else len(columns)) * outputs)
    blocks = [(i, j) for i in range(len(first)) for j in range(i + 1 if columns is None else len(second))]
    with tqdm(total=len(blocks), desc="tangent kernel", disable=None, delay=2, leave=False) as progress:
        done, routes = -1, None
        for i, j in blocks:
            if i != done:
                left, done = _run(system, w, first[i], routes), i
                routes = left.routes
            right = left if second is first and i == j else _run(system, w, second[j], routes)
            part = slice(i * size * outputs, (i * size + len(first[i])) * outputs)
            other = slice(j * size * outputs, (j * size + len(second[j])) * outputs)
            # A block of its own, since a formula needs its memory in one piece.
            block = w.new_zeros(part.stop - part.start, other.stop - other.start)
            _add(block, left, right)
            kernel[part, other] = block
            if second is first:
                kernel[other, part] = (block + block.T) / 2 if i == j else block.T
            progress.update()
    return kernel, routes


def _bytes_per_input(system, w, inputs):
    """What a pass keeps of one input, from the sizes that its layers see."""
    with torch.no_grad(), Recorder(system._module) as recorder:
        system._forward(w, inputs[:1])
    # Each result was made of one position's row, which a convolution shares among the channels of a group.
    layers = sum(
        call.results * (layer.weight[0].numel() * getattr(layer, "groups", 1) / len(layer.weight) + system._outputs)
        for layer, calls in recorder.calls.items()
        for call in calls
    )
    owners = owners_of(system._module)
    columns = sum(shape.numel() for name, shape in system._shapes.items() if owners[name][0] not in recorder.calls)
    return 8 * (layers + system._outputs * columns + 1)


def _run(system, w, inputs, routes=None):
    """One forward pass and one backward pass per output."""
    parameters = {name: piece.detach().requires_grad_() for name, piece in system._parameters_at(w).items()}
    with torch.enable_grad(), Recorder(system._module) as recorder:
        output = system._evaluate(parameters, inputs).reshape(len(inputs), -1)
    found = plan(system, w, inputs, parameters, recorder, output)
    if routes is not None and found != routes:
        raise ValueError(
            "the module treats some inputs differently from others: "
            f"{next(b for a, b in zip(routes, found) if a != b)}. Use method=\"jacobian\"."
        )
    by_layer, owners = {}, owners_of(system._module)
    for route in found:
        if route.route == "layer":
            layer, own = owners[route.parameter]
            by_layer.setdefault(layer, []).append(own)
    others = [route.parameter for route in found if route.route == "jacobian"]
    columns = system.jacobian_columns(w, others, inputs) if others else None
    return _Pass(found, _parts(by_layer, recorder, output) if by_layer else {}, columns)


def _parts(by_layer, recorder, output):
    edges = [recorder.calls[layer][0].edge for layer in by_layer]
    # Summing an output over the batch gives every input's own derivatives at once: inputs are not coupled.
    derivatives = [
        torch.autograd.grad(output[:, k].sum(), edges, retain_graph=True, allow_unused=True) for k in range(output.shape[1])
    ]
    parts = {}
    for layer, trained, pieces in zip(by_layer, by_layer.values(), zip(*derivatives)):
        used = next((piece for piece in pieces if piece is not None), None)
        if used is not None:
            stacked = torch.stack([torch.zeros_like(used) if piece is None else piece for piece in pieces], dim=1)
            positions = positions_of(layer, recorder.calls[layer][0].input)
            parts[layer] = _Part(tuple(trained), positions, derivatives_of(layer, stacked))
    return parts


def _add(block, left, right):
    """Add up what all parameters contribute to one block."""
    for layer, one in left.parts.items():
        other = right.parts.get(layer)
        if other is None:
            continue  # a layer that these inputs do not use
        if "weight" in one.trained:
            add_weight(block, (one.positions, one.derivatives), (other.positions, other.derivatives))
        if "bias" in one.trained:
            add_bias(block, one.derivatives, other.derivatives)
    if left.columns is not None:
        block.addmm_(left.columns, right.columns.T)
