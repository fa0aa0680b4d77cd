"""What one Linear or Conv layer adds to the kernel.

At each of T positions (one for a plain Linear layer, the output pixels of a convolution) the layer multiplies a row
a of q numbers by its weight, and output k of the network has a derivative row d with respect to the m results. The
gradient of output k on input i is the sum over positions of d a^T, and the kernel is the inner products of these.
Grouped convolutions are several such layers side by side: tensors below have a leading dimension of groups.

Everything goes in blocks that fit a given workspace. Where rows and columns are the same inputs, only the blocks that
meet the lower triangle are computed: half of the work.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The lower triangle goes in this many steps, of at least so many inputs (fewer with several outputs, which are as many
# rows each): smaller products would run slower.
STEPS, STEP_INPUTS = 8, 100


@dataclass(frozen=True, eq=False)
class LayerPart:
    """One layer's share of a pass over some inputs.

    `trained` names its parameters that count, `inputs` is what it was given, and `derivatives` has, for each output of
    the network, the derivatives with respect to what the layer returned.
    """

    layer: nn.Module
    trained: tuple
    inputs: Tensor
    derivatives: tuple

    def __len__(self):
        return len(self.inputs)

    @property
    def sizes(self):
        """(groups, outputs of the network, T, m, q)."""
        results = self.derivatives[0].shape[1:]
        groups = getattr(self.layer, "groups", 1)
        channels = results[-1] if isinstance(self.layer, nn.Linear) else results[0]
        return groups, len(self.derivatives), results.numel() // channels, channels // groups, self.layer.weight[0].numel()

    def positions(self, rows):
        """The rows that the weight multiplies, shape (groups, inputs, T, q)."""
        layer, x = self.layer, self.inputs[rows]
        if isinstance(layer, nn.Linear):
            return x.reshape(1, len(x), -1, x.shape[-1])
        n, groups = len(x), layer.groups
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
        for axis, (size, dilation, stride) in enumerate(zip(layer.kernel_size, layer.dilation, layer.stride), start=2):
            x = x.unfold(axis, dilation * (size - 1) + 1, stride)[..., ::dilation]
        # Channels, then output pixels, then the kernel's pixels; copied once, with the output pixels last.
        axes = len(layer.kernel_size)
        x = x.permute(0, 1, *range(2 + axes, 2 + 2 * axes), *range(2, 2 + axes))
        return x.reshape(n, groups, layer.weight[0].numel(), -1).permute(1, 0, 3, 2)

    def derivative_rows(self, rows):
        """Derivative rows, shape (groups, inputs, outputs, T, m)."""
        pieces = [derivative[rows] for derivative in self.derivatives]
        stacked = torch.stack(pieces, dim=1) if len(pieces) > 1 else pieces[0].unsqueeze(1)
        n, outputs = stacked.shape[:2]
        if isinstance(self.layer, nn.Linear):
            return stacked.reshape(1, n, outputs, -1, stacked.shape[-1])
        groups, _, _, m, _ = self.sizes
        return stacked.reshape(n, outputs, groups, m, -1).permute(2, 0, 1, 4, 3)


def join(parts):
    """One part for all inputs, from the layer's parts for some inputs each."""
    inputs = torch.cat([part.inputs for part in parts])
    derivatives = tuple(torch.cat(pieces) for pieces in zip(*[part.derivatives for part in parts]))
    return LayerPart(parts[0].layer, parts[0].trained, inputs, derivatives)


def add_layer(block, left, right, workspace):
    """Add the layer's part of K(left, right) to the block; temporaries take about `workspace` bytes.

    If left is right, entries above the diagonal are left unfinished.
    """
    groups, outputs, positions, m, q = left.sizes
    n, others = len(left), len(right)
    by_gradients = q * m * ((n + others) * outputs * positions + n * others * outputs**2)
    by_positions = n * others * positions**2 * (q + outputs**2 * (m + 2))
    if "weight" in left.trained and groups == outputs == positions == 1:
        add_products(block, left, right, workspace)
        return
    if "weight" in left.trained and (positions == 1 or by_positions < by_gradients):
        add_by_positions(block, left, right, workspace)
        return
    if "weight" in left.trained:
        add_by_gradients(block, left, right, workspace)
    if "bias" in left.trained:
        add_bias(block, left, right)


def add_products(block, left, right, workspace):
    """(A B^T + 1) o (D E^T), the 1 being for a bias: what the next formula is with one position and one output."""
    a, b, d, e = (x.reshape(len(x), -1) for x in (left.inputs, right.inputs, left.derivatives[0], right.derivatives[0]))
    height = max(1, min(_step(left), workspace // (16 * len(right))))
    for rows in _slices(len(left), height):
        columns = slice(rows.stop if left is right else len(right))
        gram = a[rows] @ b[columns].T
        if "bias" in left.trained:
            gram += 1
        block[rows, columns].addcmul_(gram, d[rows] @ e[columns].T)


def add_by_positions(block, left, right, workspace):
    """Sum over pairs of positions of (a b^T + 1) (d e^T), the 1 being for a bias: never forms a gradient."""
    groups, outputs, positions, m, q = left.sizes
    # Numbers in the copies that one input needs, and in the products that a pair of inputs needs.
    single, pair = groups * positions * (q + outputs * m), positions**2 * (1 + 2 * outputs**2)
    height = max(1, min(_step(left), workspace // (32 * single)))
    width = max(1, workspace // (16 * (single + height * pair)))
    entries = block.view(len(left), outputs, len(right), outputs)
    for rows in _slices(len(left), height):
        a, d = left.positions(rows), left.derivative_rows(rows)
        for columns in _slices(rows.stop if left is right else len(right), width):
            b, e = right.positions(columns), right.derivative_rows(columns)
            for group in range(groups):
                gram = a[group].reshape(-1, q) @ b[group].reshape(-1, q).T
                if "bias" in left.trained:
                    gram += 1
                products = d[group].transpose(1, 2).reshape(-1, m) @ e[group].transpose(1, 2).reshape(-1, m).T
                if positions == 1:
                    block_of = entries[rows, :, columns]
                    block_of.addcmul_(products.view(block_of.shape), gram.view(len(gram), 1, -1, 1))
                    continue
                products = products.view(a.shape[1], positions, outputs, b.shape[1], positions, outputs)
                products *= gram.view(a.shape[1], positions, 1, b.shape[1], positions, 1)
                entries[rows, :, columns] += products.sum(dim=(1, 4))


def add_by_gradients(block, left, right, workspace):
    """Inner products of per-input gradients, some of the m results at a time."""
    groups, outputs, positions, m, q = left.sizes
    inputs = len(left) if left is right else len(left) + len(right)
    # An eighth of the workspace is for the positions of some inputs, copied out of their images again for each block.
    blocks = -(-m // max(1, workspace * 7 // (64 * inputs * outputs * q)))
    for group in range(groups):
        for results in _slices(m, -(-m // blocks)):
            rows = _gradients(left, group, results, workspace)
            columns = rows if left is right else _gradients(right, group, results, workspace)
            _add_product(block, rows, columns, outputs * _step(left))
            del rows, columns  # before the next ones are made


def _gradients(part, group, results, workspace):
    """Shape (inputs * outputs, results * q): the gradient of each output on each input, flattened."""
    groups, outputs, positions, m, q = part.sizes
    count = results.stop - results.start
    gradients = part.inputs.new_empty(len(part), outputs, count, q)
    for rows in _slices(len(part), max(1, workspace // (64 * groups * positions * (q + outputs * m)))):
        a, d = part.positions(rows)[group], part.derivative_rows(rows)[group][..., results]
        results_first = d.transpose(2, 3).reshape(len(a), outputs * count, positions)
        torch.bmm(results_first, a, out=gradients[rows].view(len(a), outputs * count, q))
    return gradients.view(len(part) * outputs, count * q)


def add_bias(block, left, right):
    """The gradient by a bias is the sum of the derivative rows over positions."""
    everything, groups = slice(None), left.sizes[0]
    rows = left.derivative_rows(everything).sum(dim=3)
    columns = rows if left is right else right.derivative_rows(everything).sum(dim=3)
    for group in range(groups):
        left_sums, right_sums = (sums[group].reshape(-1, sums.shape[-1]) for sums in (rows, columns))
        _add_product(block, left_sums, left_sums if left is right else right_sums, len(left_sums))


def _add_product(block, rows, columns, step):
    """block += rows columns^T, and only on and below the diagonal if both are the same."""
    for some in _slices(len(rows), step):
        stop = some.stop if rows is columns else len(columns)
        block[some, :stop].addmm_(rows[some], columns[:stop].T)


def _step(part):
    return max(round(STEP_INPUTS / len(part.derivatives) ** 0.5), -(-len(part) // STEPS))


def _slices(length, size):
    return [slice(first, min(length, first + size)) for first in range(0, length, size)]
