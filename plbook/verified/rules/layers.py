"""Rules of torch's operations for layers: convolutions, pooling, normalizations, softmax."""

from math import prod

from plbook.verified.arithmetic import Enclosure, NotEnclosed, each, errors, positive_linear, product, total, widened
from plbook.verified.arithmetic import mean as mean_of
from plbook.verified.functions import exp, log, relu, rsqrt
from plbook.verified.rules.table import aten, rule


def per_channel(numbers, x):
    """One number for each channel of x, ready to be broadcast; 1 for None."""
    return 1 if numbers is None else each(lambda part: part.reshape(-1, *[1] * (x.value.ndim - 2)), numbers)


# Convolutions: sums of products of an input and a weight


@rule(aten.convolution.default)
def _convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups):
    def convolved(a, b):
        return aten.convolution(a, b, None, stride, padding, dilation, transposed, output_padding, groups)

    inputs = weight.value.shape[0] // groups if transposed else weight.value.shape[1]
    result = product(convolved, x, weight, inputs * prod(weight.value.shape[2:]))
    return result if bias is None else result + per_channel(bias, x)


@rule(aten.convolution_backward.default)
def _convolution_backward(grad, x, weight, bias_sizes, stride, padding, dilation, transposed, output_padding, groups, mask):
    def backward(grad, x, weight, index):
        only = [index == i for i in range(3)]
        return aten.convolution_backward(
            grad, x, weight, bias_sizes, stride, padding, dilation, transposed, output_padding, groups, only
        )[index]

    size, results = weight.value.shape, [None, None, None]
    if mask[0]:
        outputs = size[1] if transposed else size[0] // groups
        results[0] = product(lambda g, w: backward(g, x.value, w, 0), grad, weight, outputs * prod(size[2:]))
    if mask[1]:
        positions = prod((x if transposed else grad).value.shape[2:])
        results[1] = product(lambda g, a: backward(g, a, weight.value, 1), grad, x, len(x.value) * positions)
    if mask[2]:
        results[2] = total(grad, [0, *range(2, grad.value.ndim)])
    return results


# Pooling


@rule(aten.avg_pool2d.default, aten.avg_pool3d.default)
def _avg_pool(x, kernel, *args):
    if len(args) == 5 and args[-1] is not None:
        raise NotEnclosed("there is no rule for a divisor of one's own.")
    operation = aten.avg_pool2d if len(kernel) == 2 else aten.avg_pool3d
    return positive_linear(lambda part: operation(part, kernel, *args), x, prod(kernel) + 2)


@rule(aten.avg_pool2d_backward.default)
def _avg_pool_backward(grad, x, kernel, *args):
    return positive_linear(lambda part: aten.avg_pool2d_backward(part, x.value, kernel, *args), grad, prod(kernel) + 2)


@rule(aten._adaptive_avg_pool2d.default)
def _adaptive_avg_pool(x, size):
    return positive_linear(lambda part: aten._adaptive_avg_pool2d(part, size), x, prod(x.value.shape[-2:]) + 2)


@rule(aten._adaptive_avg_pool2d_backward.default)
def _adaptive_avg_pool_backward(grad, x):
    terms = prod(grad.value.shape[-2:]) + 2
    return positive_linear(lambda part: aten._adaptive_avg_pool2d_backward(part, x.value), grad, terms)


@rule(aten.max_pool2d_with_indices.default)
def _max_pool(x, *args):
    """A maximum changes by at most the largest change. Which entry is largest is not enclosed."""
    value, error = (aten.max_pool2d_with_indices(part, *args)[0] for part in (x.value, errors(x)))
    return Enclosure(value, error), None


@rule(aten.leaky_relu.default)
def _leaky_relu(x, slope=0.01):
    return relu(x) - slope * relu(-x)


# Normalizations


@rule(aten.native_batch_norm.default, aten.cudnn_batch_norm.default)
def _batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps):
    if training:
        raise NotEnclosed("it is in training mode. Call module.eval() first.")
    result = (x - per_channel(running_mean, x)) * per_channel(rsqrt(running_var + eps), x) * per_channel(weight, x)
    # Torch saves nothing for the derivative in this mode.
    saved = Enclosure(x.value.new_empty(0))
    return (result if bias is None else result + per_channel(bias, x)), saved, saved


@rule(aten.native_batch_norm_backward.default)
def _batch_norm_backward(grad, x, weight, running_mean, running_var, save_mean, save_invstd, train, eps, mask):
    if train:
        raise NotEnclosed("it is in training mode. Call module.eval() first.")
    dims, scale = [0, *range(2, x.value.ndim)], per_channel(rsqrt(running_var + eps), x)
    normalized = (x - per_channel(running_mean, x)) * scale
    return [
        grad * scale * per_channel(weight, x) if mask[0] else None,
        total(grad * normalized, dims) if mask[1] else None,
        total(grad, dims) if mask[2] else None,
    ]


@rule(aten.native_layer_norm.default)
def _layer_norm(x, shape, weight, bias, eps):
    dims = list(range(-len(shape), 0))
    center = mean_of(x, dims, keepdim=True)
    centered = x - center
    scale = rsqrt(mean_of(centered * centered, dims, keepdim=True) + eps)
    result = centered * scale
    result = result if weight is None else result * weight
    return (result if bias is None else result + bias), center, scale


@rule(aten.native_layer_norm_backward.default)
def _layer_norm_backward(grad, x, shape, center, scale, weight, bias, mask):
    dims, batch = list(range(-len(shape), 0)), list(range(x.value.ndim - len(shape)))
    normalized = (x - center) * scale
    weighted = grad if weight is None else grad * weight
    inner = mean_of(weighted, dims, keepdim=True) + normalized * mean_of(weighted * normalized, dims, keepdim=True)
    return [
        scale * (weighted - inner) if mask[0] else None,
        total(grad * normalized, batch) if mask[1] else None,
        total(grad, batch) if mask[2] else None,
    ]


@rule(aten.native_group_norm.default)
def _group_norm(x, weight, bias, samples, channels, size, groups, eps):
    grouped = each(lambda part: part.reshape(samples, groups, -1), x)
    result, center, scale = _layer_norm(grouped, grouped.value.shape[-1:], None, None, eps)
    result = each(lambda part: part.reshape(x.value.shape), result)
    result = result * per_channel(weight, x)
    flat = [each(lambda part: part.reshape(samples, groups), part) for part in (center, scale)]
    return (result if bias is None else result + per_channel(bias, x)), *flat


# Softmax: the largest argument is subtracted first, which changes nothing. Errors up to e in the arguments change the sum of
# exponentials by a factor of at most exp(e).


def shifted(x, dims):
    """The values, without their errors, less the largest one; and the largest error."""
    return Enclosure(x.value) - Enclosure(x.value.amax(dims, keepdim=True)), errors(x).amax(dims, keepdim=True)


@rule(aten._softmax.default, aten._safe_softmax.default)
def _softmax(x, dim, *args, **options):
    smaller, largest_error = shifted(x, [dim])
    powers = exp(smaller)
    result = powers / total(powers, [dim], keepdim=True)
    return widened(result, result.magnitude * (errors(x) + largest_error).expm1())


@rule(aten._softmax_backward_data.default)
def _softmax_backward(grad, result, dim, dtype):
    return result * (grad - total(grad * result, [dim], keepdim=True))


@rule(aten._log_softmax.default)
def _log_softmax(x, dim, *args):
    smaller, largest_error = shifted(x, [dim])
    return widened(smaller - log(total(exp(smaller), [dim], keepdim=True)), errors(x) + largest_error)


@rule(aten._log_softmax_backward_data.default)
def _log_softmax_backward(grad, result, dim, dtype):
    return grad - exp(result) * total(grad, [dim], keepdim=True)


@rule(aten.logsumexp.default)
def _logsumexp(x, dims, keepdim=False):
    smaller, largest_error = shifted(x, dims)
    result = Enclosure(x.value.amax(dims, keepdim=True)) + log(total(exp(smaller), dims, keepdim=True))
    result = widened(result, largest_error)
    return result if keepdim else each(lambda part: part.squeeze(dims), result)
