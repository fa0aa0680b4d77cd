"""What a system refuses, and the words that say why: data, modules, and functions that are not functions."""

import numpy as np
import torch
from torch import Tensor, nn

# Two evaluations of one function may differ by the order of their sums, hence by rounding, and by nothing else.
ROUNDING = 1e-10


def as_tensor(values):
    """`values` as a tensor. Python's floats stay double: torch.as_tensor would cut a list of them to float32."""
    return values if isinstance(values, Tensor) else torch.as_tensor(np.array(values))


def as_data(values, name, *, keep_integers=False):
    """`values` as a detached float64 copy; ValueError if empty or not finite. Integers may stay (indices)."""
    values = as_tensor(values).detach()
    if values.numel() == 0:
        raise ValueError(f"{name} must not be empty, got shape {tuple(values.shape)}.")
    if keep_integers and not values.is_floating_point():
        return values.clone()
    values = values.to(torch.float64, copy=True)
    if not values.isfinite().all():
        bad = int((~values.isfinite()).sum())
        raise ValueError(f"{name} must be finite, but {bad} of {values.numel()} entries are NaN or infinite.")
    return values


def as_points(points, num_parameters):
    """`points` as a float64 tensor of shape (k, num_parameters), one point a row; ValueError if they are not that."""
    points = torch.as_tensor(points, dtype=torch.float64)
    if points.ndim != 2 or points.shape[1] != num_parameters or len(points) == 0:
        raise ValueError(
            f"points must have shape (k, {num_parameters}) with k >= 1, one point a row; got "
            f"{tuple(points.shape)}. A single point w goes in as w[None]."
        )
    if not points.isfinite().all():
        raise ValueError("points must be finite, but some entries are NaN or infinite.")
    return points


def check_targets_kind(targets):
    targets = as_tensor(targets)
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
    scale = torch.maximum(a.abs().max(), b.abs().max())
    return bool((a - b).abs().max() <= ROUNDING * scale)
