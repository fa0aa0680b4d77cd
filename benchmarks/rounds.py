"""Times in rounds: everything is run once in each, so that a slow minute of the machine hits all alike."""

import time
from statistics import quantiles

from benchmarks.workers import Stopped

# Threads of one process spin for a while after its last product; the next one should find the cores free.
PAUSE_SECONDS = 0.3


def rotated(names, turn):
    """The names in the order of this round: each round begins with the next one."""
    turn %= len(names)
    return names[turn:] + names[:turn]


def run_rounds(measures, rounds):
    """Run each measure, a function that returns seconds, in each round.

    Returns (seconds, stopped): name -> its seconds round by round, and name -> why it was stopped. A stopped one takes
    no further part.
    """
    seconds, stopped = {name: [] for name in measures}, {}
    for turn in range(rounds):
        print(f"  round {turn + 1} of {rounds}", flush=True)
        for name in rotated(list(measures), turn):
            if name in stopped:
                continue
            time.sleep(PAUSE_SECONDS)
            try:
                seconds[name].append(measures[name]())
            except Stopped as reason:
                stopped[name] = str(reason)
    return seconds, stopped


def ratios(seconds, base):
    """Round by round, how many times the base's seconds."""
    return [ours / theirs for ours, theirs in zip(seconds, base)]


def quartiles(values):
    """[lower quartile, median, upper quartile], interpolated between the sorted values."""
    return [values[0]] * 3 if len(values) == 1 else quantiles(values, n=4, method="inclusive")
