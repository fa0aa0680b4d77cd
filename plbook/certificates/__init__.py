"""Certificates that an exact solution exists near computed weights, and the polish before them: chapter 12."""

from plbook.certificates.certificate import Certificate, DescentGuarantee, Ingredient, certify_solution
from plbook.certificates.polish import PolishedPoint, polish

__all__ = ["Certificate", "DescentGuarantee", "Ingredient", "PolishedPoint", "certify_solution", "polish"]
