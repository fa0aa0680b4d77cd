"""Systems of equations F(w) = y: chapter 2.

A `System` is a map F from parameters to values, its targets y and a start w0. A `NetworkSystem` is the
system of a torch module that is to fit its training data: one equation per input and output.
"""

from plbook.systems.network import NetworkSystem
from plbook.systems.system import System

__all__ = ["NetworkSystem", "System"]
