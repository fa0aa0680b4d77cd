"""Systems of equations F(w) = y: chapter 2.

A `System` is a map F from parameters to values, its targets y and a start w0. A `NetworkSystem` is the
system of a torch module that is to fit its training data: one equation per input and output.
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, jvp, vjp, vmap

# Jacobian rows are formed in chunks of at most this many bytes beside the result.
CHUNK_BYTES = 2**28

# Two evaluations of one function may differ by the order of their sums, hence by rounding, and by nothing else.
ROUNDING = 1e-10


class System:
    """The equations F(w) = y in p unknowns, with the square loss L(w) = 1/2 |F(w) - y|^2.

    Args:
        function: F, from a float64 tensor of shape (p,) to one of shape (n,), made of torch operations.
        targets: y, shape (n,).
        start: w0, shape (p,).
        jacobian_lipschitz: a proven beta with |DF(w) - DF(v)|_2 <= beta |w - v| for all w and v, if there is one.

    Everything is computed in float64. Costs below are in evaluations of F.

    Raises:
        ValueError: for data that is empty, not finite or of the wrong shape, and for a function that is random.

    Source: the paper's Section 2, equations (1) and (2).
    """

    def __init__(self, function, targets, start, *, jacobian_lipschitz=None):
        start = as_data(start, "start")
        targets = as_data(targets, "targets")
        if start.ndim != 1 or targets.ndim != 1:
            raise ValueError(
                f"start and targets must be vectors, of shapes (p,) and (n,); got {tuple(start.shape)} and "
                f"{tuple(targets.shape)}. Flatten them with .reshape(-1)."
            )
        if jacobian_lipschitz is not None and not 0 <= jacobian_lipschitz < math.inf:
            raise ValueError(
                f"jacobian_lipschitz must be a finite number >= 0, got {jacobian_lipschitz}. "
                "Leave it out if no constant has been proved."
            )
        self._setup(function, targets, start)
        self.jacobian_lipschitz = jacobian_lipschitz
        check_value(self, function(start), function(start))

    def _setup(self, function, targets, start):
        self._function = function
        self._targets = targets
        self._start = start
        # A system is a list of samples with a few equations each; a plain one is a single sample.
        self._samples = torch.zeros(1, dtype=torch.float64)
        self._outputs = len(targets)

    def _sample_value(self, w, sample):
        """The equations of one sample, shape (outputs,): what derivatives per equation are taken of."""
        return self._function(w)

    @property
    def num_parameters(self):
        """p, the number of unknowns (the paper's m)."""
        return len(self._start)

    @property
    def num_equations(self):
        """n, the number of equations; for a network, inputs times outputs."""
        return len(self._targets)

    @property
    def start(self):
        """w0, shape (p,)."""
        return self._start

    @property
    def targets(self):
        """y, shape (n,)."""
        return self._targets

    def point(self, w):
        """`w` as a float64 vector of this system, `start` for None; ValueError if its shape is wrong."""
        if w is None:
            return self._start
        w = torch.as_tensor(w, dtype=torch.float64, device=self._start.device)
        if w.shape != self._start.shape:
            raise ValueError(
                f"w must have shape ({self.num_parameters},), one number per parameter; got {tuple(w.shape)}."
            )
        return w

    def value(self, w):
        """F(w), shape (n,). Cost: 1 evaluation."""
        return self._function(self.point(w))

    def residual(self, w):
        """F(w) - y, shape (n,). Cost: 1 evaluation."""
        return self.value(w) - self._targets

    def loss(self, w):
        """1/2 |F(w) - y|^2, a scalar tensor. Cost: 1 evaluation."""
        residual = self.residual(w)
        return 0.5 * residual @ residual

    def gradient(self, w):
        """The gradient DF(w)^T (F(w) - y) of the loss, shape (p,). Cost: about 3 evaluations."""
        return self._residual_and_gradient(w)[1]

    def _residual_and_gradient(self, w):
        value, pullback = vjp(self._function, self.point(w))
        residual = value - self._targets
        return residual, pullback(residual)[0]

    def jacobian(self, w):
        """DF(w), shape (n, p). Cost: n backward passes; memory 8 n p bytes."""
        return jacrev(self._function)(self.point(w))

    def jvp(self, w, v):
        """DF(w) v, shape (n,), for v of shape (p,). Cost: about 2 evaluations (forward mode)."""
        return jvp(self._function, (self.point(w),), (self.point(v),))[1]

    def vjp(self, w, u):
        """DF(w)^T u, shape (p,), for u of shape (n,). Cost: about 3 evaluations (reverse mode)."""
        u = torch.as_tensor(u, dtype=torch.float64, device=self._start.device)
        if u.shape != self._targets.shape:
            raise ValueError(f"u must have shape ({self.num_equations},), one number per equation; got {tuple(u.shape)}.")
        return vjp(self._function, self.point(w))[1](u)[0]


class NetworkSystem(System):
    """The equations f(w; x_i) = y_i of a network that is to fit its data exactly.

    Args:
        module: any torch module whose outputs depend on one input each and are not random. It is copied, in
            float64, and never changed; put it in evaluation mode first if it has dropout or batch norm.
        inputs: shape (inputs, ...), what the module takes.
        targets: shape (inputs,) for one output, (inputs, outputs) for several; floating point, so class labels
            go in as one-hot vectors.

    The unknowns are the parameters with requires_grad, in the order of named_parameters; a tied one counts once.
    Equations are sample-major: all outputs of the first input, then of the second. The start is the module's state.

    Raises:
        ValueError: for data that is empty, not finite or does not fit, for class labels, for a module that is
            random, couples its inputs or has nothing to train.

    Source: the paper's Section 2, with footnote 1 for several outputs.
    """

    def __init__(self, module, inputs, targets):
        if not isinstance(module, nn.Module):
            raise ValueError(f"module must be a torch.nn.Module, got {type(module).__name__}. For a function use plbook.System.")
        check_modules(module)
        inputs = as_data(inputs, "inputs", keep_integers=True)
        targets = check_targets_kind(targets)
        if inputs.ndim == 0:
            raise ValueError("inputs must have a first dimension that counts the inputs; got a single number.")
        self._module = copy.deepcopy(module).double()
        trainable = {name: p for name, p in self._module.named_parameters() if p.requires_grad}
        if not trainable:
            raise ValueError(f"{type(module).__name__} has no parameter with requires_grad: there is nothing to solve for.")
        self._shapes = {name: p.shape for name, p in trainable.items()}
        start = as_data(torch.cat([p.detach().reshape(-1) for p in trainable.values()]), "the module's parameters")

        try:
            output = self._forward(start, inputs)
        except RuntimeError as error:
            raise ValueError(f"the module does not take inputs of shape {tuple(inputs.shape)} and {inputs.dtype}: {error}") from error
        self._check_output(output, inputs, targets)
        self._setup(lambda w: self._forward(w, inputs).reshape(-1), targets.reshape(-1), start)
        self._samples = inputs
        self._outputs = self.num_equations // len(inputs)
        self.jacobian_lipschitz = None
        check_value(self, output.reshape(-1), self._forward(start, inputs).reshape(-1))
        self._check_coupling(output)
        try:
            self.gradient(start)
        except RuntimeError as error:
            raise ValueError(
                f"torch.func cannot differentiate the module (checkpointing and some in-place operations stop it): {error}"
            ) from error

    def _forward(self, w, inputs):
        return functional_call(self._module, self._parameters_at(w), (inputs,))

    def _parameters_at(self, w):
        pieces = w.split([shape.numel() for shape in self._shapes.values()])
        return {name: piece.view(shape) for (name, shape), piece in zip(self._shapes.items(), pieces)}

    def _sample_value(self, w, sample):
        return self._forward(w, sample.unsqueeze(0)).reshape(-1)

    def jacobian(self, w):
        """DF(w), shape (n, p). Cost: n backward passes of one input each; memory 8 n p bytes."""
        w = self.point(w)
        jacobian = w.new_empty(self.num_equations, self.num_parameters)
        picks = torch.eye(self._outputs, dtype=w.dtype, device=w.device)

        # One vmap, not one inside another: torch's PReLU returns wrong derivatives under two (2.13).
        def rows_of(sample):
            pullback = vjp(lambda point: self._sample_value(point, sample), w)[1]
            return torch.stack([pullback(pick)[0] for pick in picks])

        chunk = max(1, CHUNK_BYTES // (8 * self._outputs * self.num_parameters))
        for first in range(0, len(self._samples), chunk):
            rows = vmap(rows_of)(self._samples[first : first + chunk]).reshape(-1, self.num_parameters)
            jacobian[first * self._outputs : first * self._outputs + len(rows)] = rows
        return jacobian

    def module_at(self, w):
        """A float64 copy of the module with parameters w; the caller's module and the system's stay as they are."""
        module = copy.deepcopy(self._module)
        values = self._parameters_at(self.point(w).detach())
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if name in values:
                    parameter.copy_(values[name])
        return module

    def _check_output(self, output, inputs, targets):
        if not isinstance(output, Tensor):
            raise ValueError(f"the module must return one tensor, got {type(output).__name__}. Wrap it in a module that picks one.")
        if output.ndim == 0 or len(output) != len(inputs):
            raise ValueError(
                f"the module must return one row per input: {len(inputs)} inputs gave an output of shape {tuple(output.shape)}."
            )
        outputs = output.numel() // len(output)
        expected = [(len(inputs), outputs)] + ([(len(inputs),)] if outputs == 1 else [])
        if tuple(targets.shape) not in expected:
            raise ValueError(
                f"targets must have shape {' or '.join(map(str, expected))} to match the module's {outputs} output(s) "
                f"on {len(inputs)} inputs; got {tuple(targets.shape)}."
            )

    def _check_coupling(self, output):
        # The first input alone, then every other one: any mixing within the batch that is not contrived shows.
        for rows in (slice(0, 1), slice(0, None, 2), slice(1, None, 2)):
            part = self._samples[rows]
            if len(part) == len(output) or len(part) == 0:
                continue
            try:
                alone = self._forward(self._start, part)
            except RuntimeError as error:
                raise ValueError(f"the module does not take a batch of {len(part)} inputs: {error}") from error
            if alone.shape != output[rows].shape or not same(alone, output[rows]):
                raise ValueError(
                    "the module couples the inputs of a batch: an output changes when other inputs are left out. "
                    "Its per-input derivatives are not defined. Call module.eval(), or replace the layer that mixes inputs."
                )


def as_data(values, name, *, keep_integers=False):
    """`values` as a detached float64 copy; ValueError if empty or not finite. Integers may stay (indices)."""
    values = torch.as_tensor(values).detach()
    if values.numel() == 0:
        raise ValueError(f"{name} must not be empty, got shape {tuple(values.shape)}.")
    if keep_integers and not values.is_floating_point():
        return values.clone()
    values = values.to(torch.float64, copy=True)
    if not values.isfinite().all():
        bad = int((~values.isfinite()).sum())
        raise ValueError(f"{name} must be finite, but {bad} of {values.numel()} entries are NaN or infinite.")
    return values


def check_targets_kind(targets):
    targets = torch.as_tensor(targets)
    if not targets.is_floating_point():
        raise ValueError(
            f"targets must be floating point, got {targets.dtype}: these look like class labels. The square loss needs "
            "one-hot vectors: torch.nn.functional.one_hot(labels).double(), with one network output per class."
        )
    return as_data(targets, "targets")


def check_modules(module):
    """Refuse, by name, layers that are random or couple the batch, and parameters without values."""
    for name, layer in module.named_modules():
        label = f"{type(layer).__name__} ({name or 'the module itself'})"
        if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.training and layer.p > 0:
            raise ValueError(f"{label} is in training mode, so the network is random. Call module.eval() first.")
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            if layer.running_mean is None:
                raise ValueError(
                    f"{label} keeps no running statistics, so it couples the inputs of a batch in every mode. "
                    "Use track_running_stats=True and module.eval(), or another normalization."
                )
            if layer.training:
                raise ValueError(f"{label} is in training mode and couples the inputs of a batch. Call module.eval() first.")
    for name, parameter in module.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ValueError(f"parameter {name} has no value yet. Run the lazy module once on an input first.")


def check_value(system, value, again):
    """What a system's function returned at the start, twice: a float64 vector of the targets' shape, the same each time."""
    expected = (system.num_equations,)
    if not isinstance(value, Tensor) or tuple(value.shape) != expected:
        found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"F(start) must be a tensor of shape {expected}, one value per target; got {found}.")
    if value.dtype != torch.float64:
        raise ValueError(f"F must compute in float64, but returned {value.dtype}. Build its constants with dtype=torch.float64.")
    if not value.isfinite().all():
        raise ValueError("F(start) is not finite. Scale the data or choose another start.")
    if not same(value, again):
        raise ValueError(
            "F is random: two evaluations at the start differ. Call module.eval() to switch randomness off, "
            "or draw the random numbers once, outside F."
        )


def same(a, b):
    scale = max(a.abs().max().item(), b.abs().max().item())
    return (a - b).abs().max().item() <= ROUNDING * scale
