"""What the proofs of chapter 12 assume of float64, and how bounds are rounded outward.

The model, for float64 operands on a processor (IEEE 754, rounding to nearest):

- + - * / and square roots have relative error at most UNIT;
- a sum of k products, in any order, with or without fused multiply-adds, has error at most gamma(k) times the sum of
  their absolute values (Higham, "Accuracy and Stability of Numerical Algorithms", Section 3.1);
- a result below 2^-1022 in absolute value may lose all its digits; TINY is more than all errors of this kind in one rule;
- an elementary function has error at most `functions.ACCURACY` times |result|, plus TINY.

Bounds are computed in float64 themselves, from non-negative terms only. No chain of such operations is longer than 2^30,
so its result is too small by a factor of at most (1 - UNIT)^(2^30) > 1 - 2^-22, and a factor SLACK makes up for that.
"""

import math

UNIT = 2.0**-53
TINY = 2.0**-1018
SLACK = 1 + 2.0**-20


def gamma(terms):
    """terms UNIT / (1 - terms UNIT), for terms below 2^50."""
    return terms * UNIT / (1 - terms * UNIT)


def up(number):
    """The next float64 number above: at least the exact result of the one operation that gave `number`."""
    return math.nextafter(number, math.inf)


def down(number):
    """The next float64 number below: at most the exact result of the one operation that gave `number`."""
    return math.nextafter(number, -math.inf)
