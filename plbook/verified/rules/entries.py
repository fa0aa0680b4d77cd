"""Rules of operations that move entries, and of those that make new tensors."""

import math

import torch

from plbook.verified.arithmetic import Enclosure, NotEnclosed, each, enclosed, errors, widened
from plbook.verified.rounding import gamma
from plbook.verified.rules.table import MOVING, RULES, aten, rule


def moves(operation, *names):
    """Enter an operation that only moves entries, under other names if given."""
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
    """The rule of an operation that moves entries into a list of tensors."""

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


def check_written(found, written):
    """Refuse two different numbers for one place: which of them stays is left to chance."""
    if not torch.equal(found, written.expand_as(found)):
        raise NotEnclosed("it writes twice into one place.")


@rule(aten.scatter.src)
def _scatter(x, dim, index, source):
    def put(part, new):
        result = part.scatter(dim, index, new)
        check_written(result.gather(dim, index), new[tuple(map(slice, index.shape))])
        return result

    return each(put, x, source)


@rule(aten.constant_pad_nd.default)
def _pad(x, pad, value=0):
    value = enclosed(value)
    filled = [0.0 if part is None else part.item() for part in (value.value, value.error)]
    return Enclosure(*(aten.constant_pad_nd(part, pad, number) for part, number in zip((x.value, errors(x)), filled)))


@rule(aten.index_put.default)
def _index_put(x, indices, values, accumulate=False):
    def put(part, new):
        result = aten.index_put(part, indices, new, accumulate)
        if not accumulate:
            check_written(aten.index(result, indices), new)
        return result

    result = each(put, x, values)
    if not accumulate:
        return result
    terms = 1 + int(put(torch.zeros_like(x.value), torch.ones_like(values.value)).max())
    return widened(result, gamma(terms) * put(x.value.abs(), values.value.abs()))


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
