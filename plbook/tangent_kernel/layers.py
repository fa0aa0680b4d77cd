"""The layer route: the kernel of a fully connected network without its Jacobian."""

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge
from torch.func import functional_call

from plbook.systems import NetworkSystem


class _Recorder:
    """Watches the Linear layers during one forward pass: what goes in, and where in the graph it comes out."""

    def __init__(self, module):
        self.names = {layer: name for name, layer in module.named_modules() if type(layer) is nn.Linear}
        self.calls = {layer: [] for layer in self.names}
        self.handles = [layer.register_forward_hook(self._record, with_kwargs=True) for layer in self.names]

    def _record(self, layer, args, kwargs, output):
        (activations,) = (*args, *kwargs.values())
        # The edge, not the tensor: an activation that works in place changes the tensor, never the edge.
        self.calls[layer].append((activations.detach(), activations._version, output.grad_fn and get_gradient_edge(output)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def layer_kernel(system, w):
    """(K, None), or (None, why the layer route does not apply)."""
    if not isinstance(system, NetworkSystem):
        return None, "the system is a plain function, not a network of layers"
    module, inputs = system._module, system._samples
    owners = _owners(module)
    for name in system._shapes:
        if name not in owners:
            return None, f"parameter {name} does not belong to a torch.nn.Linear layer"

    parameters = {name: piece.detach().requires_grad_() for name, piece in system._parameters_at(w).items()}
    with torch.enable_grad(), _Recorder(module) as recorder:
        output = functional_call(module, parameters, (inputs.clone(),)).reshape(len(inputs), -1)
    layers = {owners[name][0] for name in parameters}
    obstacle = _obstacle(recorder, layers, parameters, owners, output, len(inputs))
    if obstacle:
        return None, obstacle

    layers = [layer for layer in recorder.names if layer in layers]
    edges = [recorder.calls[layer][0][2] for layer in layers]
    # Summing an output over the batch gives every input's own derivatives at once: inputs are not coupled.
    derivatives = [
        torch.autograd.grad(output[:, k].sum(), edges, retain_graph=True, allow_unused=True) for k in range(output.shape[1])
    ]
    n, outputs = output.shape
    kernel = output.new_zeros(n, outputs, n, outputs)
    trained = {(owners[name][0], owners[name][1]) for name in parameters}
    for index, layer in enumerate(layers):
        like = recorder.calls[layer][0][0].new_zeros(n, layer.out_features)
        rows = torch.stack([like if d[index] is None else d[index] for d in derivatives], dim=1).reshape(n * outputs, -1)
        activations = recorder.calls[layer][0][0]
        gram = activations.new_zeros(n, n)
        if (layer, "weight") in trained:
            gram += activations @ activations.T
        if (layer, "bias") in trained:
            gram += 1.0
        kernel += gram[:, None, :, None] * (rows @ rows.T).view(n, outputs, n, outputs)
    kernel = kernel.view(n * outputs, n * outputs)
    # One backward pass checks the whole formula, on a random u: u^T K u = |DF^T u|^2.
    u = torch.randn(len(kernel), dtype=kernel.dtype, generator=torch.Generator().manual_seed(0)).to(kernel.device)
    pulled = torch.autograd.grad(output.reshape(-1) @ u, list(parameters.values()), allow_unused=True)
    square = sum(piece.square().sum() for piece in pulled if piece is not None)
    if abs(u @ kernel @ u - square) > 1e-8 * kernel.trace():
        return None, "inside the module, the rows of a layer are not the inputs in their order"
    return kernel, None


def _owners(module):
    """Parameter name -> (its Linear layer, "weight" or "bias")."""
    return {
        f"{name}.{own}" if name else own: (layer, own)
        for name, layer in module.named_modules()
        if type(layer) is nn.Linear
        for own in ("weight", "bias")
    }


def _obstacle(recorder, layers, parameters, owners, output, n):
    """Why the layer formula does not give the kernel of this module, or None."""
    for layer in layers:
        name, calls = recorder.names[layer], recorder.calls[layer]
        if len(calls) != 1:
            return f"layer {name} is called {len(calls)} times"
        activations, version, edge = calls[0]
        if activations.ndim != 2 or len(activations) != n:
            return f"layer {name} takes an input of shape {tuple(activations.shape)}, not (inputs, features)"
        if activations._version != version:
            return f"the input of layer {name} is changed in place"
        if edge is None:
            return f"the output of layer {name} carries no derivatives"
    if output.grad_fn is None:
        return "the output does not depend on any parameter"
    readers = _readers(output)
    for name, parameter in parameters.items():
        layer = owners[name][0]
        if readers.get(parameter, []) not in ([], [recorder.calls[layer][0][2].node]):
            return f"parameter {name} is used outside its layer, or more than once"
    return None


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
