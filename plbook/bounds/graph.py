"""A network as a graph of affine maps, activations and sums: what the bounds are computed on."""

import operator
from dataclasses import dataclass
from math import prod

import torch
from torch import fx, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from plbook.bounds import activations
from plbook.systems.guards import same

POOLINGS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
RESHAPING = {torch.flatten, torch.reshape, torch.squeeze, "flatten", "view", "reshape", "squeeze"}
ADDING = {operator.add, torch.add, "add"}
SUBTRACTING = {operator.sub, torch.sub, "sub"}
# What torch itself passes on for silu and gelu.
HARMLESS = ({"inplace": False}, {"approximate": "none"})
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
KINKED_REASON = "the derivative of {name} jumps, so DF has no Lipschitz constant; use a smooth activation such as tanh or GELU"


class NotLayered(ValueError):
    """The module has a part that the certified bounds do not cover."""


class Kinked(ValueError):
    """The module has a part whose derivative jumps: DF has no Lipschitz constant."""


@dataclass(eq=False)
class Node:
    """One step of the forward pass.

    kind: "input"; "affine", function(weight, x) + bias with parameters; "fixed", function(x) linear without parameters;
    "scale", function(x) equal to factor * x, maybe in another shape; "activation"; "shift" by a constant; "sum", the first
    source + factor * the second, with factor 1 or -1.
    `shape` is that of one sample.
    """

    kind: str
    sources: tuple = ()
    function: callable = None
    activation: activations.Activation = None
    weight: str | None = None
    bias: str | None = None
    factor: float = 1.0
    layer: nn.Module = None
    name: str = ""
    shape: tuple = ()

    @property
    def size(self):
        return prod(self.shape)


def read_graph(system):
    """The Nodes of a NetworkSystem's module, in the order of the forward pass; the last one is the output.

    Raises:
        Kinked: for ReLU and its like.
        NotLayered: for anything else that is not an affine layer, a smooth activation, an average pooling, a reshaping, a
            sum or a scaling, and for a parameter that is used twice.
    """
    module = system._module
    _check_modules(module)
    try:
        # In a container, so that a module that is one layer is a step of the trace, too.
        traced = fx.symbolic_trace(nn.Sequential(module))
    except Exception as error:  # the tracer runs the module's own code, which may fail in any way
        raise NotLayered(f"the forward function cannot be traced ({error})") from error
    shapes = _Shapes(traced)
    with torch.no_grad():
        shapes.run(system._samples.clone())
    nodes, numbers = [], {}
    for step in traced.graph.nodes:
        if step.op == "output":
            break
        node = _read(step, traced, numbers)
        if node is not None:
            shape = shapes.found[step]
            if shape[0] != len(system._samples):
                raise NotLayered(f"{step.name} changes the number of samples")
            node.shape = tuple(shape[1:])
            if node.kind == "sum" and any(nodes[source].shape != node.shape for source in node.sources):
                raise NotLayered(f"{step.name} adds tensors of different shapes")
            if node.kind == "reshape":
                node.kind, node.function = "scale", lambda x, shape=node.shape: x.reshape(len(x), *shape)
            numbers[step] = len(nodes)
            nodes.append(node)
    if numbers.get(step.args[0]) != len(nodes) - 1:
        raise NotLayered("the output is not the last step of the forward function")
    _check_parameters(nodes, system)
    _check_trace(traced, system)
    _check_values(nodes, system)
    return nodes


def parameters(system, w):
    """All parameters by name, those of the system at w."""
    fixed = {name: parameter.detach() for name, parameter in system._module.named_parameters()}
    return {**fixed, **system._parameters_at(w)}


class _Shapes(fx.Interpreter):
    """Runs a traced module and keeps the shape of every tensor."""

    def __init__(self, traced):
        super().__init__(traced)
        self.found = {}

    def run_node(self, n):
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            self.found[n] = value.shape
        return value


def forward(nodes, tensors, inputs):
    """The values of all nodes, each of shape (inputs, *node.shape). `tensors` are the parameters by name."""
    values = []
    for node in nodes:
        sources = [values[i] for i in node.sources]
        if node.kind == "input":
            value = inputs
        elif node.kind == "affine":
            value = node.function(tensors[node.weight], sources[0])
            if node.bias is not None:
                value = value + tensors[node.bias].reshape(-1, *[1] * _trailing(node.layer))
        elif node.kind == "activation":
            value = node.activation.function(sources[0])
        elif node.kind == "sum":
            value = sources[0] + node.factor * sources[1]
        else:
            value = node.function(sources[0])
        values.append(value)
    return values


def backward(nodes, tensors, values, outputs):
    """The derivatives of each sample's outputs by each node's value: shape (outputs, inputs, *node.shape) each."""
    samples = len(values[0])
    adjoints = [torch.zeros(outputs, *value.shape, dtype=value.dtype) for value in values]
    last = torch.eye(outputs, dtype=values[0].dtype).unsqueeze(1).expand(-1, samples, -1)
    adjoints[-1] = last.reshape(outputs, *values[-1].shape)
    for i in reversed(range(len(nodes))):
        node, adjoint = nodes[i], adjoints[i]
        for position, source in enumerate(node.sources):
            if node.kind == "activation":
                part = adjoint * node.activation.derivative(values[source])
            elif node.kind in ("sum", "shift"):
                part = adjoint * node.factor if position else adjoint
            else:
                part = transposed(node, tensors.get(node.weight), adjoint.flatten(0, 1), nodes[source].shape)
                part = part.reshape(outputs, *values[source].shape)
            adjoints[source] = adjoints[source] + part
    return adjoints


def linear(node, weight, x):
    """The linear part of an affine, fixed or scale node, applied to x of shape (batch, *source.shape)."""
    return node.function(weight, x) if node.kind == "affine" else node.function(x)


def transposed(node, weight, y, shape):
    """Its transpose, applied to y of shape (batch, *node.shape); `shape` is that of the source."""
    zero = torch.zeros(len(y), *shape, dtype=y.dtype)
    return torch.func.vjp(lambda x: linear(node, weight, x), zero)[1](y.reshape(len(y), *node.shape))[0]


def layer_inputs(node, x, weight, bias):
    """What multiplies the parameters of an affine node, shape (batch, positions, columns), for inputs x of the layer.

    A layer's output at a position is [weight, bias] times a row with a 1 at its end. `weight` and `bias` say which of the
    two count.
    """
    layer = node.layer
    rows = x.reshape(len(x), -1, layer.in_features) if isinstance(layer, nn.Linear) else _unfold(layer, x)
    parts = ([rows] if weight else []) + ([torch.ones_like(rows[:, :, :1])] if bias else [])
    return torch.cat(parts, dim=2)


def overlap(node, source_shape):
    """How many positions an entry of the layer's input counts at, at most: |U x| <= |U|_F sqrt(overlap) |x|."""
    if isinstance(node.layer, nn.Linear):
        return 1
    ones = torch.ones_like(node.layer.weight[:1, :1])
    single = (1, *source_shape[1:])
    zero = torch.zeros(1, *single, dtype=ones.dtype)
    value, pullback = torch.func.vjp(lambda x: node.function(ones, x), zero)
    return round(pullback(torch.ones_like(value))[0].max().item())


def _unfold(layer, x):
    """The patches of a convolution, shape (batch, positions, fan-in)."""
    size = prod(layer.kernel_size) * layer.in_channels
    picks = torch.eye(size, dtype=x.dtype).reshape(size, layer.in_channels, *layer.kernel_size)
    return _convolve(layer)(picks, x).flatten(2).transpose(1, 2)


def _convolve(layer):
    function = {1: nn.functional.conv1d, 2: nn.functional.conv2d, 3: nn.functional.conv3d}[len(layer.kernel_size)]
    return lambda weight, x: function(x, weight, None, layer.stride, layer.padding, layer.dilation)


def _trailing(layer):
    """Dimensions behind the channels, which a bias is repeated over."""
    return 0 if isinstance(layer, nn.Linear) else len(layer.kernel_size)


def _read(step, traced, numbers):
    """The Node of a step of the trace, or None for one that only computes shapes."""
    if step.op == "placeholder":
        if numbers:
            raise NotLayered("the module takes more than one input")
        return Node("input", name="input")
    tensors = [numbers[argument] for argument in step.args if isinstance(argument, fx.Node) and argument in numbers]
    if step.op == "call_module" and len(step.args) == len(tensors) == 1 and not step.kwargs:
        return _read_module(traced.get_submodule(step.target), step.target.partition(".")[2], tensors[0])
    if step.op == "call_method" and step.target == "size" or step.op == "call_function" and _reads_a_shape(step, tensors):
        return None
    if step.op in ("call_function", "call_method") and tensors:
        return _read_function(step, tensors)
    raise NotLayered(f"{step.name} is not an operation that the bounds know")


def _reads_a_shape(step, tensors):
    return step.target is getattr and step.args[1] == "shape" or step.target is operator.getitem and not tensors


def _read_module(module, name, source):
    kind = type(module)
    if kind is nn.Linear or kind in CONVOLUTIONS:
        if kind in CONVOLUTIONS and (module.groups != 1 or module.padding_mode != "zeros"):
            raise NotLayered(f"{name} is a convolution with groups or without zero padding")
        if module.weight.shape != _weight_shape(module):
            raise NotLayered(f"{name} has a weight of another shape than its attributes say")
        function = (lambda weight, x: nn.functional.linear(x, weight)) if kind is nn.Linear else _convolve(module)
        prefix = f"{name}." if name else ""
        bias = f"{prefix}bias" if module.bias is not None else None
        return Node("affine", (source,), function, weight=f"{prefix}weight", bias=bias, layer=module, name=name)
    if kind is nn.Identity or isinstance(module, nn.modules.dropout._DropoutNd):
        return Node("scale", (source,), torch.clone, name=name)
    if kind is nn.Flatten:
        return Node("scale", (source,), module, name=name)
    if kind in POOLINGS and getattr(module, "divisor_override", None) is None:
        return Node("fixed", (source,), module, name=name)
    activation = activations.of_module(module)
    if activation is None or getattr(module, "inplace", False):
        raise NotLayered(f"{name} is a {kind.__name__}")
    return Node("activation", (source,), activation=activation, name=name)


def _weight_shape(layer):
    if isinstance(layer, nn.Linear):
        return (layer.out_features, layer.in_features)
    return (layer.out_channels, layer.in_channels, *layer.kernel_size)


def _read_function(step, sources):
    target, others = step.target, [argument for argument in step.args if not isinstance(argument, fx.Node)]
    name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    if name in activations.KINKED_NAMES or name.startswith(("max_pool", "adaptive_max_pool")):
        raise Kinked(KINKED_REASON.format(name=name))
    if step.kwargs not in ({}, *HARMLESS) and target not in RESHAPING:
        raise NotLayered(f"{name} has options ({', '.join(step.kwargs)})")
    table = activations.METHODS if step.op == "call_method" else activations.FUNCTIONS
    if target in table and len(step.args) == 1:
        return Node("activation", (sources[0],), activation=table[target], name=name)
    if target is nn.functional.gelu and len(step.args) == 1:
        return Node("activation", (sources[0],), activation=activations.of_module(nn.GELU()), name=name)
    if target is nn.functional.softplus and len(step.args) == 1:
        return Node("activation", (sources[0],), activation=activations.of_module(nn.Softplus()), name=name)
    if target in RESHAPING:
        return Node("reshape", (sources[0],), name=name)
    sign = 1.0 if target in ADDING else -1.0 if target in SUBTRACTING else 0.0
    if sign and len(sources) == 2:
        return Node("sum", tuple(sources), factor=sign, name=name)
    if target in ADDING and _is_number(others):
        return Node("shift", (sources[0],), lambda x, c=others[0]: x + c, name=name)
    if target in (operator.mul, torch.mul, "mul") and _is_number(others):
        return Node("scale", (sources[0],), lambda x, c=others[0]: x * c, factor=float(others[0]), name=name)
    if target in (operator.truediv, torch.div, "div") and _is_number(others) and step.args[0] not in others:
        return Node("scale", (sources[0],), lambda x, c=others[0]: x / c, factor=1 / others[0], name=name)
    if target is operator.neg:
        return Node("scale", (sources[0],), torch.neg, factor=-1.0, name=name)
    raise NotLayered(f"{name} is not an operation that the bounds know")


def _is_number(others):
    return len(others) == 1 and isinstance(others[0], (int, float)) and not isinstance(others[0], bool)


def _check_modules(module):
    for name, part in module.named_modules():
        name, kind = name or "the module", type(part).__name__
        if isinstance(part, activations.KINKED) or kind.startswith(("MaxPool", "AdaptiveMaxPool")):
            raise Kinked(KINKED_REASON.format(name=f"{name} ({kind})"))
        if any(getattr(part, hooks, None) for hooks in HOOKS):
            raise NotLayered(f"{name} has hooks, which may change what it computes")


def _check_trace(traced, system):
    """The tracer sees placeholders; with numbers the forward function must run the same operations, one by one."""
    tensors, samples = parameters(system, system.start), system._samples[:2]

    def with_numbers(tensors, x):
        return system._evaluate(tensors, x)

    def by_tracer(tensors, x):
        return functional_call(traced, {f"0.{name}": tensor for name, tensor in tensors.items()}, (x.clone(),))

    if make_fx(with_numbers)(tensors, samples).code != make_fx(by_tracer)(tensors, samples).code:
        raise NotLayered("its forward function takes another way with numbers than when it is traced")


def _check_values(nodes, system):
    """The nodes must give what the module gives, to rounding in every output, at a point without symmetries."""
    w = system.nearby_point()
    read = forward(nodes, parameters(system, w), system._samples)[-1].reshape(-1, system._outputs)
    outputs = system._forward(w, system._samples).reshape(-1, system._outputs)
    if not all(same(a, b) for a, b in zip(read.T, outputs.T)):
        raise NotLayered("its layers, read one by one, do not give the module's output")


def _check_parameters(nodes, system):
    names = [name for node in nodes for name in (node.weight, node.bias) if name is not None]
    known = dict(system._module.named_parameters(remove_duplicate=False))
    if not set(names) <= set(known):
        raise NotLayered("a layer's weight is not a parameter")
    owners = [id(known[name]) for name in names]
    if len(set(owners)) < len(owners):
        raise NotLayered("a parameter is used twice")
    missing = set(system._shapes) - set(names)
    if missing:
        raise NotLayered(f"{', '.join(sorted(missing))} belong(s) to no Linear or convolution")
