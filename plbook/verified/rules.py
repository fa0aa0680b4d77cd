"""One rule for each torch operation: how it acts on enclosures (chapter 12).

RULES maps an operation to a function of its arguments, with enclosures in place of float64 tensors. Tensors of integers and
booleans are exact and stay tensors.
"""

import math
import operator

import torch

from plbook.verified import functions
from plbook.verified.arithmetic import (
    Enclosure,
    NotEnclosed,
    absolute,
    add,
    divide,
    each,
    enclosed,
    errors,
    matmul,
    mean,
    multiply,
    positive_linear,
    total,
    widened,
)
from plbook.verified.rounding import gamma

aten = torch.ops.aten
RULES = {operator.getitem: operator.getitem}
# The operations that compute nothing.
MOVING = set()


def rule(*operations):
    def register(function):
        RULES.update(dict.fromkeys(operations, function))
        return function

    return register


# Entries that move


def moves(operation, *names):
    def apply(x, *args, **kwargs):
        return each(lambda part: operation(part, *args, **kwargs), enclosed(x))

    names = names or (operation,)
    MOVING.update(names)
    RULES.update(dict.fromkeys(names, apply))


for _operation in (
    aten.alias.default,
    aten.clone.default,
    aten.detach.default,
    aten.diagonal.default,
    aten.expand.default,
    aten.flip.default,
    aten.index.Tensor,
    aten.index_select.default,
    aten.permute.default,
    aten.repeat.default,
    aten.roll.default,
    aten.select.int,
    aten.select_backward.default,
    aten.slice.Tensor,
    aten.slice_backward.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.t.default,
    aten.transpose.int,
    aten.tril.default,
    aten.triu.default,
    aten.unsqueeze.default,
):
    moves(_operation)

moves(torch.reshape, aten.view.default, aten._unsafe_view.default, aten.reshape.default)


@rule(aten.lift_fresh_copy.default, aten.lift_fresh.default)
def _lift(x):
    return x


def parts(operation):
    """Operations that give a list."""

    def apply(x, *args):
        values = operation(x.value, *args)
        if x.error is None:
            return [Enclosure(value) for value in values]
        return [Enclosure(*pair) for pair in zip(values, operation(x.error, *args))]

    return apply


for _operation in (aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int):
    RULES[_operation] = parts(_operation)


@rule(aten.cat.default)
def _cat(xs, dim=0):
    return each(lambda *parts: torch.cat(parts, dim), *xs)


@rule(aten.stack.default)
def _stack(xs, dim=0):
    return each(lambda *parts: torch.stack(parts, dim), *xs)


@rule(aten.copy.default)
def _copy(x, source, non_blocking=False):
    return each(lambda part: part.expand(x.value.shape), enclosed(source))


for _operation in (aten.diagonal_scatter.default, aten.select_scatter.default, aten.slice_scatter.default):
    RULES[_operation] = lambda x, source, *args, _operation=_operation: each(
        lambda part, new: _operation(part, new, *args), enclosed(x), enclosed(source)
    )


@rule(aten.scatter.src)
def _scatter(x, dim, index, source):
    return each(lambda part, new: part.scatter(dim, index, new), x, source)


@rule(aten.constant_pad_nd.default)
def _pad(x, pad, value=0):
    value = enclosed(value)
    filled = [0.0 if part is None else part.item() for part in (value.value, value.error)]
    return Enclosure(*(aten.constant_pad_nd(part, pad, number) for part, number in zip((x.value, errors(x)), filled)))


@rule(aten.index_put.default)
def _index_put(x, indices, values, accumulate=False):
    def put(part, new, accumulate=accumulate):
        return aten.index_put(part, indices, new, accumulate)

    result = each(put, x, values)
    if not accumulate:
        return result
    terms = int(put(torch.ones_like(x.value), torch.ones_like(values.value)).max())
    sizes = put(x.value.abs(), values.value.abs())
    return widened(result, gamma(terms) * sizes)


@rule(aten.where.self)
def _where(condition, a, b):
    return each(lambda *parts: torch.where(condition, *parts), enclosed(a), enclosed(b))


@rule(aten.masked_fill.Scalar)
def _masked_fill(x, mask, value):
    return _where(mask, value, x)


@rule(aten.eq.Scalar)
def _eq(x, number):
    """Which entries equal a number: none, where no interval contains it."""
    if (abs(x.value - number) <= 2 * errors(x)).any():
        raise NotEnclosed(f"a number may or may not be {number}.")
    return torch.zeros_like(x.value, dtype=torch.bool)


# New tensors


def filled(shape, number):
    return each(lambda part: part.expand(list(shape)), enclosed(number))


@rule(aten.full.default)
def _full(size, number, **options):
    return filled(size, number)


@rule(aten.scalar_tensor.default)
def _scalar_tensor(number, **options):
    return enclosed(number)


@rule(aten.zeros.default)
def _zeros(size, **options):
    return filled(size, 0)


@rule(aten.ones.default)
def _ones(size, **options):
    return filled(size, 1)


@rule(aten.new_zeros.default)
def _new_zeros(x, size, **options):
    return filled(size, 0)


@rule(aten.new_ones.default)
def _new_ones(x, size, **options):
    return filled(size, 1)


@rule(aten.new_full.default)
def _new_full(x, size, number, **options):
    return filled(size, number)


@rule(aten.zeros_like.default)
def _zeros_like(x, **options):
    return filled(x.value.shape, 0)


@rule(aten.ones_like.default)
def _ones_like(x, **options):
    return filled(x.value.shape, 1)


@rule(aten.fill.Scalar, aten.full_like.default, aten.fill_.Scalar)
def _fill(x, number, **options):
    return filled(x.value.shape, number)


@rule(aten.eye.default)
def _eye(n, **options):
    return enclosed(torch.eye(n, dtype=torch.float64))


@rule(aten.new_empty.default)
def _new_empty(x, size, **options):
    """Never read: a placeholder, and not a number in case it is."""
    return filled(size, math.nan)


@rule(aten.empty_like.default)
def _empty_like(x, **options):
    return filled(x.value.shape, math.nan)


@rule(aten.arange.default, aten.arange.start, aten.arange.start_step)
def _arange(*ends, dtype=None, **options):
    if not all(float(end).is_integer() for end in ends):
        raise NotEnclosed("its numbers are not whole.")
    result = torch.arange(*ends, dtype=dtype)
    return enclosed(result) if result.is_floating_point() else result


@rule(aten._to_copy.default)
def _to_copy(x, dtype=None, **options):
    if dtype in (None, torch.float64):
        return enclosed(x)
    if isinstance(x, torch.Tensor) and not dtype.is_floating_point:
        return x.to(dtype)
    raise NotEnclosed(f"it rounds to {dtype}. Compute in float64 throughout.")


# Arithmetic


@rule(aten.add.Tensor, aten.add.Scalar)
def _add(a, b, alpha=1):
    return add(a, b if alpha == 1 else multiply(b, alpha))


@rule(aten.sub.Tensor, aten.sub.Scalar)
def _sub(a, b, alpha=1):
    return enclosed(a) - (b if alpha == 1 else multiply(b, alpha))


@rule(aten.rsub.Scalar, aten.rsub.Tensor)
def _rsub(a, b, alpha=1):
    return _sub(b, a, alpha)


rule(aten.mul.Tensor, aten.mul.Scalar)(multiply)
rule(aten.div.Tensor, aten.div.Scalar, aten.div_.Tensor)(divide)
rule(aten.neg.default)(operator.neg)
rule(aten.abs.default)(absolute)
rule(aten.mm.default, aten.bmm.default, aten.mv.default, aten.dot.default)(matmul)


@rule(aten.addmm.default, aten.addmv.default, aten.baddbmm.default)
def _addmm(x, a, b, beta=1, alpha=1):
    return add(multiply(x, beta), multiply(matmul(a, b), alpha))


@rule(aten.sum.default)
def _sum(x, **options):
    return total(x)


@rule(aten.sum.dim_IntList)
def _sum_dims(x, dims, keepdim=False, **options):
    return total(x, dims or None, keepdim)


@rule(aten.mean.default)
def _mean(x, **options):
    return mean(x)


@rule(aten.mean.dim)
def _mean_dims(x, dims, keepdim=False, **options):
    return mean(x, dims or None, keepdim)


@rule(aten.cumsum.default)
def _cumsum(x, dim, **options):
    return positive_linear(lambda part: part.cumsum(dim), x, x.value.shape[dim])


@rule(aten.linalg_vector_norm.default)
def _norm(x, order=2, dims=None, keepdim=False, **options):
    if order == 1:
        return total(absolute(x), dims, keepdim)
    if order != 2:
        raise NotEnclosed(f"there is no rule for the order {order}.")
    return functions.sqrt(total(functions.power(x, 2), dims, keepdim))


# Functions of one number


for _name in "sin cos exp expm1 log log1p tanh sigmoid erf atan sinh cosh sqrt rsqrt reciprocal relu silu".split():
    RULES[getattr(aten, _name).default] = getattr(functions, _name)

rule(aten.pow.Tensor_Scalar)(functions.power)
rule(aten.softplus.default)(functions.softplus)
rule(aten.elu.default)(functions.elu)


@rule(aten.gelu.default)
def _gelu(x, *, approximate="none"):
    return functions.gelu(x, approximate)


@rule(aten.gelu_backward.default)
def _gelu_backward(grad, x, *, approximate="none"):
    return grad * functions.gelu_slope(x, approximate)


@rule(aten.silu_backward.default)
def _silu_backward(grad, x):
    return grad * functions.silu_slope(x)


@rule(aten.softplus_backward.default)
def _softplus_backward(grad, x, beta, threshold):
    return grad * functions.softplus_slope(x, beta, threshold)


@rule(aten.elu_backward.default)
def _elu_backward(grad, alpha, scale, input_scale, is_result, x):
    if is_result or alpha != 1 or input_scale != 1:
        raise NotEnclosed("the derivative jumps at 0 unless alpha = 1.")
    return grad * functions.elu_slope(x) * scale


@rule(aten.log_sigmoid_forward.default)
def _log_sigmoid(x):
    return -functions.softplus(-x, threshold=math.inf), None


@rule(aten.log_sigmoid_backward.default)
def _log_sigmoid_backward(grad, x, buffer):
    return grad * functions.sigmoid(-x)


@rule(aten.tanh_backward.default)
def _tanh_backward(grad, result):
    return grad * (1 - result * result)


@rule(aten.sigmoid_backward.default)
def _sigmoid_backward(grad, result):
    return grad * result * (1 - result)
