"""Rules of arithmetic and of functions of one number."""

import math
import operator

from plbook.verified import functions
from plbook.verified.arithmetic import (
    NotEnclosed,
    absolute,
    add,
    divide,
    enclosed,
    matmul,
    mean,
    multiply,
    positive_linear,
    total,
)
from plbook.verified.rules.table import RULES, aten, rule


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
