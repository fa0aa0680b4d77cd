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


def add_weight(kernel, rows, columns):
    """Add the part of a weight to K(rows, columns), each a pair (positions, derivatives); the cheaper formula is taken."""
    for a, d, b, e in zip(*rows, *columns):
        n, outputs, positions, m = d.shape
        others, q = len(b), a.shape[-1]
        by_gradients = q * m * ((n + others) * outputs * positions + n * others * outputs**2)
        by_positions = n * others * positions**2 * (q + outputs**2 * (m + 2))
        if positions == 1 or by_positions < by_gradients:
            add_by_positions(kernel, a, d, b, e)
        else:
            add_by_gradients(kernel, a, d, b, e)


def add_by_positions(kernel, a, d, b, e):
    """Sum over pairs of positions of (a b^T) (d e^T): never forms a gradient."""
    (n, outputs, positions, m), others = d.shape, len(e)
    flat_b, flat_e = b.reshape(others * positions, -1), e.transpose(1, 2).reshape(others * positions * outputs, m)
    blocks = kernel.view(n, outputs, others, outputs)
    size = max(1, BLOCK_BYTES // (8 * others * (positions * outputs) ** 2))
    for first in range(0, n, size):
        part = slice(first, min(n, first + size))
        gram = a[part].reshape(-1, a.shape[-1]) @ flat_b.T
        products = d[part].transpose(1, 2).reshape(-1, m) @ flat_e.T
        if outputs == positions == 1:
            blocks[part, 0, :, 0] += gram.mul_(products)
            continue
        terms = products.view(-1, positions, outputs, others, positions, outputs)
        terms *= gram.view(-1, positions, 1, others, positions, 1)
        blocks[part] += terms.sum(dim=(1, 4))


def add_by_gradients(kernel, a, d, b, e):
    """Inner products of per-input gradients, a block of the m results at a time."""
    size = max(1, BLOCK_BYTES // (8 * (len(kernel) + kernel.shape[1]) * a.shape[-1]))
    for first in range(0, d.shape[-1], size):
        part = slice(first, first + size)
        left = _gradients(a, d[..., part])
        right = left if d.data_ptr() == e.data_ptr() else _gradients(b, e[..., part])
        kernel.addmm_(left, right.T)


def _gradients(a, d):
    """Shape (inputs * outputs, q m): the gradient of each output on each input, flattened."""
    n, outputs, positions, m = d.shape
    products = torch.bmm(d.transpose(2, 3).reshape(n, outputs * m, positions), a.reshape(n, positions, -1))
    return products.view(n * outputs, -1)


def add_bias(kernel, derivatives, others):
    """Add the part of a bias: its gradient is the sum of the derivative rows over positions."""
    for d, e in zip(derivatives, others):
        left, right = (x.sum(dim=2).reshape(len(x) * x.shape[1], -1) for x in (d, e))
        kernel.addmm_(left, right.T)
