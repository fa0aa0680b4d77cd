"""A worker's side of the pipe. It runs in neural-tangents' environment, too, so it needs only Python 3.9 itself."""

import json
import os
import sys
import time
from statistics import median

# "call" is the function that is timed, "result" what it last returned.
state = {"call": None, "result": None}


def call(least_seconds=0.0):
    """The seconds of one call: the median of as many as take least_seconds together.

    A process that has slept needs some milliseconds to wake its threads; of a short call that would be the larger part.
    The last result is dropped first, so that two are never held at once.
    """
    seconds = []
    while not seconds or sum(seconds) < least_seconds:
        state["result"] = None
        start = time.perf_counter()
        state["result"] = state["call"]()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def serve(actions):
    """Answer requests until the input ends: one JSON object a line, whose "do" names "call" or one of the actions."""
    actions = {"call": call, **actions}
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the replies
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = {"result": actions[request.pop("do")](**request)}
        except Exception as error:  # the parent decides what it means
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)
