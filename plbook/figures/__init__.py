"""Every plot of the book, drawn from results: theory dashed, measurement solid, one color for each meaning.

Each function returns a matplotlib Figure that is already closed to pyplot: as the last line of a notebook cell it
shows once, and `figure.savefig` writes it to a file.
"""

from plbook.figures.certificates import certified_balls, widths_needed
from plbook.figures.concluding import compared
from plbook.figures.convexity import convexity, profiles
from plbook.figures.curves import (
    against_bound,
    descent,
    eigenvalues_along_path,
    exponents,
    kernel_image,
    rates,
    ratios,
    segment,
)
from plbook.figures.existence import radii_around, radii_needed
from plbook.figures.landscape import landscape
from plbook.figures.phases import phases
from plbook.figures.relaxation import domain, solution_balls, stall, stragglers, thresholds, valley
from plbook.figures.spectrum import diagnosis
from plbook.figures.techniques import bottlenecks, brackets, shares
from plbook.figures.widths import against_angle, against_width, kernels

__all__ = [
    "against_angle",
    "against_bound",
    "against_width",
    "bottlenecks",
    "brackets",
    "certified_balls",
    "compared",
    "convexity",
    "descent",
    "diagnosis",
    "domain",
    "eigenvalues_along_path",
    "exponents",
    "kernel_image",
    "kernels",
    "landscape",
    "phases",
    "profiles",
    "rates",
    "radii_around",
    "radii_needed",
    "ratios",
    "segment",
    "shares",
    "solution_balls",
    "stall",
    "stragglers",
    "thresholds",
    "valley",
    "widths_needed",
]
