"""The tangent kernel K(w) = DF(w) DF(w)^T and its spectrum: chapters 2, 4 and 6.

Two exact routes. "jacobian" forms DF(w) and works for every system. "layers" never forms it: in a fully
connected network, a layer with inputs A and back-propagated derivatives D contributes (A A^T) o (D D^T), and
its bias (1 1^T) o (D D^T).
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge
from torch.func import functional_call

from plbook.systems import NetworkSystem

# The spectrum comes from singular values of DF while DF takes at most this many bytes.
JACOBIAN_BYTES = 2**31

METHODS = ("auto", "jacobian", "layers")


def tangent_kernel(system, w=None, *, method="auto"):
    """The tangent kernel K(w) = DF(w) DF(w)^T, shape (n, n), symmetric to the last bit.

    Args:
        system: a System or NetworkSystem with n equations and p parameters.
        w: shape (p,); None means system.start.
        method: "jacobian" forms DF(w): memory 8 n p bytes, n^2 p products. "layers" works for networks whose
            trainable parameters all belong to torch.nn.Linear layers, each used once on inputs of shape (inputs, features):
            one forward pass, one backward pass per output, then n^2 products per layer width. "auto" takes
            "layers" where it applies and "jacobian" elsewhere. Both are exact up to rounding.

    Raises:
        ValueError: for an unknown method, or if "layers" is asked of a system that it cannot handle (it says why).

    Source: the paper's Section 1, equation (4); the layer formula is the chain rule, chapter 6.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}.")
    w = system.point(w)
    if method == "layers" or (method == "auto" and isinstance(system, NetworkSystem)):
        kernel, obstacle = _layer_kernel(system, w)
        if obstacle is None:
            return (kernel + kernel.T) / 2
        if method == "layers":
            raise ValueError(f'method "layers" cannot be used: {obstacle}. Use method="jacobian".')
    jacobian = system.jacobian(w)
    kernel = jacobian @ jacobian.T
    return (kernel + kernel.T) / 2


@dataclass(frozen=True)
class KernelSpectrum:
    """Both ends of the spectrum of K, with one absolute error bar for both."""

    smallest: float
    largest: float
    error: float

    @property
    def resolved(self):
        """Whether the smallest eigenvalue stands clear of the error bar; if not, the bar does not tell it from 0."""
        return self.smallest > self.error

    @property
    def condition_number(self):
        """largest / smallest, and inf if the smallest is not resolved."""
        return self.largest / self.smallest if self.resolved else inf


def kernel_spectrum(system, w=None):
    """The smallest and largest eigenvalue of K(w), with an error bar.

    lambda_min(K) = sigma_min(DF)^2 is taken from the singular values of DF where DF fits in 2 GiB, else from K.
    The bar is 2 max(n, p) u |DF|_2^2 (with u = 2^-52; |DF|_F in place of |DF|_2 on the second route): the usual
    bound for backward-stable singular values of a matrix whose entries are known to that relative accuracy. It is a
    float64 estimate, not an enclosure. With p < n the kernel is singular and `smallest` is exactly 0.

    Cost: DF and its singular values, n^2 p products; on the second route K and its eigenvalues.
    """
    w = system.point(w)
    n, p = system.num_equations, system.num_parameters
    unit = 2 * max(n, p) * torch.finfo(torch.float64).eps
    if 8 * n * p <= JACOBIAN_BYTES:
        singular = torch.linalg.svdvals(system.jacobian(w))
        largest, smallest = (singular[0] ** 2).item(), (singular[-1] ** 2).item()
        error = unit * largest
    else:
        eigenvalues = torch.linalg.eigvalsh(tangent_kernel(system, w))
        largest, smallest = eigenvalues[-1].item(), eigenvalues[0].item()
        error = unit * eigenvalues.sum().item()
    return KernelSpectrum(smallest if p >= n else 0.0, largest, error)


def jacobian_norm(system, w=None):
    """|DF(w)|_2 = sqrt(lambda_max(K(w))). Cost: the tangent kernel and its eigenvalues."""
    return torch.linalg.eigvalsh(tangent_kernel(system, w))[-1].clamp(min=0).sqrt().item()


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


def _layer_kernel(system, w):
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
