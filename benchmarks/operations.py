"""How many floating-point operations a workload's kernel takes by the layer formulas."""

from benchmarks.workloads import PIXELS


def kernel_operations(workload):
    """Forward pass, backward passes and products of one kernel; a multiply-add counts 2, activations count nothing.

    A layer multiplies rows of q numbers, T of them an input, by a weight with m columns (T = 1 for a Linear layer, the
    positions of a convolution); n inputs, k outputs.

        forward     2 n T q m
        backward    2 n k T q m, for every layer but the first, whose inputs need no derivatives
        products    for n (n + 1) / 2 pairs of inputs the cheaper of two: by positions, 2 T^2 (q + k^2 (m + 1)) a pair;
                    by gradients, 2 k^2 q m a pair, after 2 n k T q m to form them

    Pairs are counted once, as symmetry allows: plbook works on little more, its peers on all n^2.
    """
    n, k, total = workload.n, workload.outputs, 0
    pairs = n * (n + 1) // 2
    for position, (t, q, m) in enumerate(_layers(workload)):
        passes = 2 * n * t * q * m * (1 if position == 0 else 1 + k)
        by_positions = 2 * pairs * t**2 * (q + k**2 * (m + 1))
        by_gradients = 2 * n * k * t * q * m + 2 * pairs * k**2 * q * m
        total += passes + min(by_positions, by_gradients)
    return total


def _layers(workload):
    """(T, q, m) of each layer with a weight."""
    if workload.kind == "mlp":
        sizes = [PIXELS, *workload.widths, workload.outputs]
        return [(1, q, m) for q, m in zip(sizes, sizes[1:])]
    channels = [1, *workload.widths]
    convolutions = [(PIXELS, 9 * q, m) for q, m in zip(channels, channels[1:])]
    return [*convolutions, (1, channels[-1], workload.outputs)]
