"""The system of a network that is to fit its data."""

import copy
import warnings
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from plbook.systems.guards import as_data, check_modules, check_targets_kind, check_value, same
from plbook.systems.system import System

# Jacobian rows are formed in chunks of at most this many bytes beside the result.
CHUNK_BYTES = 2**28


@contextmanager
def plain_attention():
    """Attention by its formula: torch's fused kernels have no forward-mode or second derivatives."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class NetworkSystem(System):
    """The equations f(w; x_i) = y_i of a network that is to fit its data exactly.

    Args:
        module: any torch module whose outputs depend on one input each and are not random. It is copied, in
            float64, and never changed; put it in evaluation mode first if it has dropout or batch norm.
        inputs: shape (inputs, ...), what the module takes.
        targets: shape (inputs,) for one output, (inputs, outputs) for several; floating point, so class labels
            go in as one-hot vectors.

    Everything is computed on the device of the module's parameters; inputs and targets are brought there.
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
        # Parameter name -> (the module that holds it, its name there).
        self._owners = {
            f"{prefix}.{own}" if prefix else own: (layer, own)
            for prefix, layer in self._module.named_modules()
            for own, _ in layer.named_parameters(recurse=False)
        }
        start = as_data(torch.cat([p.detach().reshape(-1) for p in trainable.values()]), "the module's parameters")
        inputs, targets = inputs.to(start.device), targets.to(start.device)

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
        self._check_coupling(start, output)
        try:
            self.gradient(start)
        except RuntimeError as error:
            raise ValueError(
                f"torch.func cannot differentiate the module (checkpointing and some in-place operations stop it): {error}"
            ) from error

    def _forward(self, w, inputs):
        return self._evaluate(self._parameters_at(w), inputs)

    def _evaluate(self, parameters, inputs):
        # A copy of the inputs: a first layer that works in place must not change the data.
        with plain_attention():
            return functional_call(self._module, parameters, (inputs.clone(),))

    def _parameters_at(self, w):
        pieces = w.split([shape.numel() for shape in self._shapes.values()])
        return {name: piece.view(shape) for (name, shape), piece in zip(self._shapes.items(), pieces)}

    def _sample_value(self, w, sample):
        return self._forward(w, sample.unsqueeze(0)).reshape(-1)

    def jacobian(self, w):
        """DF(w), shape (n, p). Cost: n backward passes of one input each; memory 8 n p bytes."""
        return self.jacobian_columns(w, self._shapes)

    def jacobian_columns(self, w, names, inputs=None):
        """The columns of DF(w) that belong to the named parameters, on these inputs or the system's. Cost as for `jacobian`."""
        inputs = self._samples if inputs is None else inputs
        values = self._parameters_at(self.point(w))
        chosen = {name: values[name] for name in names}
        size = sum(piece.numel() for piece in chosen.values())
        picks = torch.eye(self._outputs, dtype=self._start.dtype, device=self._start.device)

        # One vmap, not one inside another: torch's PReLU returns wrong derivatives under two (2.13).
        def rows_of(sample):
            pullback = vjp(lambda pieces: self._evaluate({**values, **pieces}, sample.unsqueeze(0)).reshape(-1), chosen)[1]
            return torch.stack([torch.cat([piece.reshape(-1) for piece in pullback(pick)[0].values()]) for pick in picks])

        columns = picks.new_empty(len(inputs) * self._outputs, size)
        chunk = max(1, CHUNK_BYTES // (8 * self._outputs * size))
        with warnings.catch_warnings():
            # Where torch has no batched form of a derivative it loops, and advises its own developers of that.
            warnings.filterwarnings("ignore", message="There is a performance drop")
            for first in range(0, len(inputs), chunk):
                rows = vmap(rows_of)(inputs[first : first + chunk]).reshape(-1, size)
                columns[first * self._outputs : first * self._outputs + len(rows)] = rows
        return columns

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

    def _check_coupling(self, w, output):
        # The first input alone, then every other one: any mixing within the batch that is not contrived shows.
        for rows in (slice(0, 1), slice(0, None, 2), slice(1, None, 2)):
            part = self._samples[rows]
            if len(part) == len(output) or len(part) == 0:
                continue
            try:
                alone = self._forward(w, part)
            except RuntimeError as error:
                raise ValueError(f"the module does not take a batch of {len(part)} inputs: {error}") from error
            if alone.shape == output[rows].shape and same(alone, output[rows]):
                continue
            if w is self._start:
                # Where outputs cancel to almost 0, as in an antisymmetric start, rounding alone makes them differ.
                nearby = self.nearby_point()
                return self._check_coupling(nearby, self._forward(nearby, self._samples))
            raise ValueError(
                "the module couples the inputs of a batch: an output changes when other inputs are left out. "
                "Its per-input derivatives are not defined. Call module.eval(), or replace the layer that mixes inputs."
            )

    def nearby_point(self):
        """A point about 1% away from the start, in a seeded direction: without the symmetries that a start may have."""
        noise = torch.randn(self.num_parameters, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        size = self._start.abs() + self._start.abs().mean()
        return self._start + 0.01 * size * noise.to(self._start.device)
