"""What a torch function is exactly: its operations are traced, then replayed on enclosures (chapter 12)."""

import warnings

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.func import functionalize, vjp
from torch.fx import Interpreter
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_iter, tree_map, tree_unflatten

from plbook.verified.arithmetic import Enclosure, NotEnclosed, enclosed, errors
from plbook.verified.rules import MOVING, RULES, aten

# A tensor that these made is seen by nobody yet, so writing into it is as good as making a new one.
FRESH = {aten.empty_like.default, aten.fill_.Scalar}
# These compute nothing. A placeholder, which torch asks for but does not read, may pass through them though it is no number.
UNCHECKED = MOVING | {aten.empty_like.default, aten.new_empty.default}
# What gives truth values of numbers, not numbers.
COMPARING = {aten.eq.Scalar}
EXACT = {torch.float64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool}


def enclose(function, *arguments):
    """The exact values of a function, with a bound of what rounding may have changed.

    Args:
        function: made of torch operations; also a derivative, such as `torch.func.jacrev(f)`, and a function that returns a
            list, tuple or dict of tensors.
        arguments: float64 tensors, whose entries count as exact.

    Returns:
        What the function returns, with an Enclosure in place of each tensor: |exact - value| <= error, entry by entry.
        Exact is the result in real numbers, with the tensors that the function holds taken as they are. The bounds rest
        on the model of float64 in `plbook.verified.rounding`, and for derivatives on torch's formulas.

    Cost: about four times the function, and the tracing.

    Raises:
        NotEnclosed: (a ValueError) for a function with an operation that has no rule, such as a comparison, for a result
            that leaves float64, and for an argument that is too close to a singularity; the text says which.
    """
    graph, structure = trace(function, *arguments)
    return tree_unflatten(replay(graph, arguments), structure)


def replay(graph, arguments):
    """The enclosures of a traced function's results, with their errors."""
    with torch.no_grad():
        results = Replay(graph).run(*(Enclosure(argument.detach().cpu()) for argument in arguments))
    if not all(map(finite, results)):
        raise NotEnclosed("the function returns what no operation computed.")
    return [Enclosure(result.value, errors(result)) for result in map(enclosed, results)]


def trace(function, *arguments):
    """(graph, structure): the torch operations of a function at these arguments, and how it packs its results.

    Raises NotEnclosed for a function that leaves torch or decides by the value of a tensor.
    """
    for argument in arguments:
        if not isinstance(argument, Tensor) or argument.dtype != torch.float64:
            found = getattr(argument, "dtype", type(argument).__name__)
            raise NotEnclosed(f"arguments must be float64 tensors, got {found}. Close over anything else.")
    structure = None

    def flat(*arguments):
        nonlocal structure
        # Below vjp a tensor has no storage, so that no value can leave torch unseen.
        results, structure = tree_flatten(vjp(function, *arguments)[0])
        return results

    try:
        with warnings.catch_warnings():
            # Where torch has no batched form of a derivative it loops, and advises its own developers of that.
            warnings.filterwarnings("ignore", message="There is a performance drop")
            graph = make_fx(functionalize(flat))(*arguments)
    except Exception as error:
        raise NotEnclosed(f"the function cannot be traced: {error}") from error
    graph.graph.eliminate_dead_code()
    return graph, structure


class Replay(Interpreter):
    """Runs a traced graph on enclosures."""

    def __init__(self, graph):
        super().__init__(graph)
        self.extra_traceback = False  # the operation is named below

    def get_attr(self, target, args, kwargs):
        constant = super().get_attr(target, args, kwargs).detach().cpu()
        if not constant.is_floating_point():
            return constant
        # A tensor of one number is what torch makes of a Python number.
        return enclosed(constant.item() if constant.ndim == 0 else constant)

    def run_node(self, node):
        if node.op in ("placeholder", "output"):
            return super().run_node(node)
        try:
            if node.op == "get_attr":
                return super().run_node(node)
            result = self._apply(node, *self.fetch_args_kwargs_from_env(node))
        except NotEnclosed as error:
            raise NotEnclosed(f"{node.target} is not enclosed: {error}") from None
        except Exception as error:
            raise NotEnclosed(f"{node.target} is not enclosed for such arguments: {error}") from error
        if node.target not in UNCHECKED and not all(finite(part) for part in tree_iter(result)):
            raise NotEnclosed(f"{node.target} is not enclosed: a result or its error is not a number or beyond float64.")
        return result

    def _apply(self, node, args, kwargs):
        if node.op != "call_function":
            raise NotEnclosed("it is no operation on tensors.")
        types = {part.dtype for part in tree_iter(node.meta.get("val")) if isinstance(part, Tensor)}
        if isinstance(node.target, OpOverload) and node.target._schema.is_mutable:
            changed = node.args[0]
            if changed.target not in FRESH or len(changed.users) > 1:
                raise NotEnclosed("it writes into a tensor that others may see.")
        if args and args[0] is None:
            raise NotEnclosed("it needs to know which entry of a window is largest.")
        if not any(isinstance(part, Enclosure) for part in tree_iter((args, kwargs))):
            if not any(kind.is_floating_point or kind.is_complex for kind in types):
                return tree_map(lambda part: part.cpu() if isinstance(part, Tensor) else part, node.target(*args, **kwargs))
        if types - EXACT and node.target is not aten.lift_fresh_copy.default:
            raise NotEnclosed(f"it rounds to {(types - EXACT).pop()}. Compute in float64 throughout.")
        if node.target not in RULES:
            raise NotEnclosed("it has no rule.")
        whole = isinstance(node.target, OpOverload) and types and types <= EXACT - {torch.float64} and node.target not in COMPARING
        if whole and any(isinstance(part, Enclosure) for part in tree_iter(args)):
            raise NotEnclosed("it makes whole numbers of others. Compute in float64 throughout.")
        return RULES[node.target](*args, **kwargs)


def finite(part):
    """Whether an enclosure is of numbers; anything else is exact."""
    if not isinstance(part, Enclosure) or part.value.numel() == 0:
        return True
    tensors = [part.value] if part.error is None else [part.value, part.error]
    return all(bool(end.isfinite()) for tensor in tensors for end in tensor.aminmax())
