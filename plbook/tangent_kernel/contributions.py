"""What one Linear or Conv layer adds to the kernel.

At each of T positions (one for a plain Linear layer, the output pixels of a convolution) the layer multiplies a row
a of q numbers by its weight, and output k of the network has a derivative row d with respect to the m results. The
gradient of output k on input i is the sum over positions of d a^T, and the kernel is the inner products of these.
Grouped convolutions are several such layers side by side: tensors below have a leading dimension of groups.
"""

import torch
import torch.nn.functional as F
from torch import nn

# Temporary blocks of the two formulas take at most this many bytes.
BLOCK_BYTES = 2**26


def positions_of(layer, x):
    """The rows that the weight multiplies, shape (groups, inputs, T, q)."""
    if isinstance(layer, nn.Linear):
        return x.reshape(1, len(x), -1, x.shape[-1])
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        x, padding = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode), 0
    else:
        padding = layer.padding
    geometry = [layer.kernel_size, layer.dilation, padding, layer.stride]
    if isinstance(layer, nn.Conv1d):
        # A one-dimensional convolution is a two-dimensional one on images of height 1.
        x = x.unsqueeze(2)
        geometry = [(neutral, *option) if option else 0 for neutral, option in zip((1, 1, 0, 1), geometry)]
    patches = F.unfold(x, *geometry)
    n, rows, positions = patches.shape
    return patches.view(n, layer.groups, rows // layer.groups, positions).permute(1, 0, 3, 2)


def derivatives_of(layer, derivatives):
    """Derivative rows, shape (groups, inputs, outputs, T, m), from shape (inputs, outputs, *what the layer returns)."""
    n, outputs = derivatives.shape[:2]
    if isinstance(layer, nn.Linear):
        return derivatives.reshape(1, n, outputs, -1, derivatives.shape[-1])
    channels = derivatives.shape[2] // layer.groups
    return derivatives.reshape(n, outputs, layer.groups, channels, -1).permute(2, 0, 1, 4, 3)


def add_weight(kernel, rows, derivatives):
    """Add the part of a weight: the cheaper of two formulas, for each group."""
    for a, d in zip(rows, derivatives):
        n, outputs, positions, m = d.shape
        q = a.shape[-1]
        by_gradients = n * outputs * positions * q * m + (n * outputs) ** 2 * q * m
        by_positions = (n * positions) ** 2 * (q + outputs**2 * (m + 2))
        if positions == 1 or by_positions < by_gradients:
            _add_by_positions(kernel, a, d)
        else:
            _add_by_gradients(kernel, a, d)


def _add_by_positions(kernel, a, d):
    """Sum over pairs of positions of (a a'^T) (d d'^T): never forms a gradient."""
    n, outputs, positions, m = d.shape
    flat_a, flat_d = a.reshape(n * positions, -1), d.transpose(1, 2).reshape(n * positions * outputs, m)
    blocks = kernel.view(n, outputs, n, outputs)
    size = max(1, BLOCK_BYTES // (8 * n * (positions * outputs) ** 2)) if positions > 1 else n
    for first in range(0, n, size):
        last = min(n, first + size)
        gram = flat_a[first * positions : last * positions] @ flat_a.T
        products = flat_d[first * positions * outputs : last * positions * outputs] @ flat_d.T
        if outputs == 1 and positions == 1:
            blocks[first:last, 0, :, 0] += gram.mul_(products)
            continue
        shape = (last - first, positions, 1, n, positions, 1)
        terms = products.view(last - first, positions, outputs, n, positions, outputs).mul_(gram.view(shape))
        blocks[first:last] += terms.sum(dim=(1, 4))


def _add_by_gradients(kernel, a, d):
    """Inner products of per-input gradients, a block of the m results at a time."""
    n, outputs, positions, m = d.shape
    size = max(1, BLOCK_BYTES // (8 * n * outputs * a.shape[-1]))
    for first in range(0, m, size):
        block = d[..., first : first + size].transpose(2, 3).reshape(n, -1, positions)
        gradients = torch.bmm(block, a.reshape(n, positions, -1)).view(n * outputs, -1)
        kernel.addmm_(gradients, gradients.T)


def add_bias(kernel, derivatives):
    """Add the part of a bias: its gradient is the sum of the derivative rows over positions."""
    for d in derivatives:
        gradients = d.sum(dim=2).reshape(len(kernel), -1)
        kernel.addmm_(gradients, gradients.T)
