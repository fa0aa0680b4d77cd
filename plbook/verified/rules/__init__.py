"""How each torch operation acts on enclosures: chapter 12."""

from plbook.verified.rules import entries, layers, numbers
from plbook.verified.rules.table import MOVING, RULES, aten

__all__ = ["MOVING", "RULES", "aten", "entries", "layers", "numbers"]
