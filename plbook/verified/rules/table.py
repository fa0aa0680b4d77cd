"""The table of rules: how each torch operation acts on enclosures (chapter 12)."""

import operator

import torch

aten = torch.ops.aten
# An operation -> a function of its arguments, with enclosures in place of float64 tensors. Tensors of integers and
# booleans are exact and stay tensors.
RULES = {operator.getitem: operator.getitem}
# The operations that compute nothing.
MOVING = {operator.getitem}


def rule(*operations):
    """Enter a function into the table."""

    def register(function):
        RULES.update(dict.fromkeys(operations, function))
        return function

    return register
