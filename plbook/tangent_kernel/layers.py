"""The layer route: each parameter's part of the kernel from what its layer sees, not from a p-column Jacobian.

A parameter of a Linear or Conv layer that is used once has a formula (`contributions`). Every other parameter goes
through its own columns of the Jacobian. `plan` decides, parameter by parameter, and says why.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge

from plbook.systems.guards import same
from plbook.tangent_kernel.contributions import add_bias, add_weight, derivatives_of, positions_of

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)

# Columns that are held at one time take at most this many bytes, one parameter's at least.
COLUMN_BYTES = 2**30


@dataclass(frozen=True)
class Route:
    """How one parameter's part of the kernel is computed, and why."""

    parameter: str
    route: str
    reason: str


def layer_kernel(system, w):
    """(K, routes): the kernel, shape (n, n), and the Route of each parameter."""
    module, inputs = system._module, system._samples
    parameters = {name: piece.detach().requires_grad_() for name, piece in system._parameters_at(w).items()}
    with torch.enable_grad(), _Recorder(module) as recorder:
        output = system._evaluate(parameters, inputs).reshape(len(inputs), -1)
    owners = _owners(module)
    moved = _moved_layers(system, w, recorder)
    routes = plan(recorder, parameters, owners, output, moved)

    kernel = output.new_zeros(system.num_equations, system.num_equations)
    by_layer = {}
    for route in routes:
        if route.route == "layer":
            layer, own = owners[route.parameter]
            by_layer.setdefault(layer, []).append(own)
    if by_layer:
        _add_layers(kernel, by_layer, recorder, output)
    for names in _groups(system, [route.parameter for route in routes if route.route == "jacobian"]):
        columns = system.jacobian_columns(w, names)
        kernel.addmm_(columns, columns.T)
    return kernel, routes


def _add_layers(kernel, by_layer, recorder, output):
    edges = [recorder.calls[layer][0].edge for layer in by_layer]
    # Summing an output over the batch gives every input's own derivatives at once: inputs are not coupled.
    derivatives = [
        torch.autograd.grad(output[:, k].sum(), edges, retain_graph=True, allow_unused=True) for k in range(output.shape[1])
    ]
    for index, (layer, trained) in enumerate(by_layer.items()):
        pieces = [d[index] for d in derivatives]
        if all(piece is None for piece in pieces):
            continue  # the layer's output is not used
        like = next(piece for piece in pieces if piece is not None)
        stacked = torch.stack([torch.zeros_like(like) if piece is None else piece for piece in pieces], dim=1)
        rows = derivatives_of(layer, stacked)
        if "weight" in trained:
            add_weight(kernel, positions_of(layer, recorder.calls[layer][0].input), rows)
        if "bias" in trained:
            add_bias(kernel, rows)


def _moved_layers(system, w, recorder):
    """The layers whose rows are not the inputs in their order: a module may sort its inputs and undo that at the end.

    Up to 8 inputs are each tried alone. Of more, 16 are tried together in a random order: a layer that had its rows
    in another order would have to undo just that one.
    """
    inputs = system._samples
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0)).to(inputs.device)
    moved = set()
    for rows in order.split(1) if len(inputs) <= 8 else [order[:16]]:
        with torch.no_grad(), _Recorder(system._module) as again:
            system._forward(w, inputs[rows])
        for layer, calls in recorder.calls.items():
            for call, alone in zip(calls, again.calls[layer]):
                if len(call.input) == len(inputs) and not same(call.input[rows], alone.input):
                    moved.add(layer)
    return moved


def _groups(system, names):
    """The parameters without a formula, in groups whose columns fit in memory together."""
    group, size = [], 0
    for name in names:
        more = 8 * system.num_equations * system._shapes[name].numel()
        if group and size + more > COLUMN_BYTES:
            yield group
            group, size = [], 0
        group, size = [*group, name], size + more
    if group:
        yield group


def plan(recorder, parameters, owners, output, moved):
    """A Route for each parameter."""
    readers = None if output.grad_fn is None else _readers(output)
    routes = []
    for name, parameter in parameters.items():
        if readers is None:
            reason = "the output does not depend on any parameter"
        else:
            reason = _obstacle(name, parameter, owners, recorder, readers, moved, len(output))
        kind = "jacobian" if reason else "layer"
        routes.append(Route(name, kind, reason or f"{type(owners[name][0]).__name__} used once"))
    return routes


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


@dataclass(frozen=True, eq=False)
class _Call:
    """One call of a layer: its input, the input's version, and the graph's edges at the output and at the input.

    Edges, not tensors: an activation that works in place changes the tensor, never the edge.
    """

    input: torch.Tensor
    version: int
    edge: object
    source: object


class _Recorder:
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
        self.calls[layer].append(_Call(x.detach(), x._version, edge, x.grad_fn))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def _owners(module):
    """Parameter name -> (the module that holds it, its name there)."""
    return {
        f"{prefix}.{own}" if prefix else own: (layer, own)
        for prefix, layer in module.named_modules()
        for own, _ in layer.named_parameters(recurse=False)
    }


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
