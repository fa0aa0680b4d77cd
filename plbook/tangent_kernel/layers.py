"""Which parameters have a layer formula: watch a module's layers during one forward pass, and read its graph.

A parameter of a Linear or Conv layer that is used once has a formula (`contributions`). Every other parameter goes
through its own columns of the Jacobian. `plan` decides, parameter by parameter, and says why.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge

from plbook.systems.guards import same

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


@dataclass(frozen=True)
class Route:
    """How one parameter's part of the kernel is computed, and why."""

    parameter: str
    route: str
    reason: str


def plan(system, n, parameters, recorder, output, probes, first):
    """A Route for each parameter, from a forward pass on n inputs: those from `first` on of the ones that were probed."""
    owners, moved = system._owners, _moved_layers(recorder.calls, n, probes, first)
    readers = None if output.grad_fn is None else _readers(output)
    routes = []
    for name, parameter in parameters.items():
        if readers is None:
            reason = "the output does not depend on any parameter"
        else:
            reason = _obstacle(name, parameter, owners, recorder, readers, moved, n)
        kind = "jacobian" if reason else "layer"
        routes.append(Route(name, kind, reason or f"{type(owners[name][0]).__name__} used once"))
    return tuple(routes)


def _obstacle(name, parameter, owners, recorder, readers, moved, n):
    """Why no layer formula covers this parameter, or None."""
    layer = owners.get(name, (None,))[0]
    if type(layer) not in LAYERS:
        return f"belongs to {type(layer).__name__}, not to a Linear, Conv1d or Conv2d layer"
    if layer in recorder.hooked:
        return "a hook may change what its layer does"
    calls = recorder.calls[layer]
    if len(calls) != 1:
        return f"its layer is called {len(calls)} times"
    call = calls[0]
    batched = call.input.ndim >= 2 if isinstance(layer, nn.Linear) else call.input.ndim == len(layer.kernel_size) + 2
    if not batched or len(call.input) != n:
        return f"its layer takes an input of shape {tuple(call.input.shape)}, not one row per input"
    if call.input._version != call.version:
        return "the input of its layer is changed in place"
    if layer in moved:
        return "the rows of its layer are not the inputs in their order"
    if call.edge is None:
        return "the output of its layer carries no derivatives"
    uses = readers.get(parameter, [])
    if len(uses) > 1 or not set(uses) <= _between(call):
        return "it is used outside its layer, or more than once"
    return None


def probe(system, w, inputs):
    """What the layers are given on a few of the inputs: pairs of (which inputs, layer -> its calls).

    Up to 8 inputs are each tried alone. Of more, 16 are tried together in a random order.
    """
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0)).to(inputs.device)
    found = []
    for rows in order.split(1) if len(inputs) <= 8 else [order[:16]]:
        with torch.no_grad(), Recorder(system._module) as recorder:
            system._forward(w, inputs[rows])
        found.append((rows, recorder.calls))
    return found


def _moved_layers(calls, n, probes, first):
    """The layers whose rows are not the inputs in their order: a module may sort its inputs and undo that at the end.

    The n inputs in these calls are those from `first` on of the inputs that were probed. A layer that had its rows in
    another order would have to undo just the random order of the probe.
    """
    moved = set()
    for rows, alone in probes:
        inside = ((rows >= first) & (rows < first + n)).nonzero()[:, 0]
        here = rows[inside] - first
        for layer, found in calls.items():
            for call, single in zip(found, alone[layer]):
                if len(inside) and len(call.input) == n:
                    if len(single.input) != len(rows) or not same(call.input[here], single.input[inside]):
                        moved.add(layer)
    return moved


@dataclass(frozen=True, eq=False)
class _Call:
    """One call of a layer: its input and that one's version, the shape of its result, the graph's edges at both ends.

    Edges, not tensors: an activation that works in place changes the tensor, never the edge.
    """

    input: torch.Tensor
    version: int
    shape: torch.Size
    edge: object
    source: object


class Recorder:
    """Watches the layers during one forward pass."""

    def __init__(self, module):
        self.calls = {layer: [] for layer in module.modules() if type(layer) in LAYERS}
        self.hooked = {
            layer for layer in self.calls if layer._forward_hooks or layer._backward_hooks or layer._backward_pre_hooks
        }
        self.handles = [layer.register_forward_hook(self._record, with_kwargs=True) for layer in self.calls]

    def _record(self, layer, args, kwargs, output):
        (x,) = (*args, *kwargs.values())
        edge = None if output.grad_fn is None else get_gradient_edge(output)
        self.calls[layer].append(_Call(x.detach(), x._version, output.shape, edge, x.grad_fn))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def _between(call):
    """The nodes of the graph that the call made: from its output back to its input."""
    seen, stack = set(), [call.edge.node]
    while stack:
        node = stack.pop()
        if node is None or node is call.source or node in seen:
            continue
        seen.add(node)
        stack += [child for child, _ in node.next_functions]
    return seen


def _readers(output):
    """Leaf tensor -> the nodes of the graph that read it, through a transposition or directly."""
    readers, seen, stack = {}, set(), [(None, output.grad_fn)]
    while stack:
        reader, node = stack.pop()
        if node.name() == "TBackward0":
            # Linear reads its weight as the transpose: whoever reads the transpose reads the weight.
            stack.append((reader, node.next_functions[0][0]))
            continue
        if hasattr(node, "variable"):
            readers.setdefault(node.variable, []).append(reader)
        elif node not in seen:
            seen.add(node)
            stack += [(node, child) for child, _ in node.next_functions if child is not None]
    return readers
