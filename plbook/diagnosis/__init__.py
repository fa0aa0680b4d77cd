"""What theory says about somebody else's network, in one call: chapter 13.

`measure` takes the measurements, `report` is the record that prints, `words` says what limits optimization.
"""

from plbook.diagnosis.measure import diagnose
from plbook.diagnosis.report import Diagnosis

__all__ = ["Diagnosis", "diagnose"]
