"""One environment for the tests and for the notebooks that pytest re-runs, and reproducible examples."""

import matplotlib
from hypothesis import settings
from notebook_environment import set_environment

set_environment()  # before anything imports torch, which reads its number of threads only then
matplotlib.use("Agg")

settings.register_profile("book", derandomize=True, deadline=None)
settings.load_profile("book")
