"""The parent's side of the pipe: start a worker, ask it, and stop it when it takes too much time or memory."""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
THREADS = 2
LIMIT_SECONDS = 120
LIMIT_BYTES = 16 * 10**9
POLL_SECONDS = 0.05
# What torch and XLA say when the system refuses them memory.
OUT_OF_MEMORY = ("MemoryError", "can't allocate memory", "RESOURCE_EXHAUSTED", "Out of memory")


class Stopped(Exception):
    """The worker was over a limit, or failed; it is gone. The text is what the record says."""


class Worker:
    """A process that runs one of the worker modules and does one thing after another."""

    def __init__(self, module, python=sys.executable, environment=None):
        threads = {f"{name}_NUM_THREADS": str(THREADS) for name in ("OMP", "MKL", "OPENBLAS")}
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [str(python), "-m", f"benchmarks.{module}"],
            cwd=ROOT,
            env={**os.environ, **threads, "JAX_PLATFORMS": "cpu", **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def ask(self, do, *, seconds=LIMIT_SECONDS, **request):
        """The result of an action of the worker's. A worker that takes more than `seconds` is Stopped."""
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self._stop(self._last_words())
        deadline = time.monotonic() + seconds
        while not select.select([self.process.stdout], [], [], POLL_SECONDS)[0]:
            if self._status("VmRSS") > LIMIT_BYTES:
                self._stop(f"over {LIMIT_BYTES // 10**9} GB")
            if time.monotonic() > deadline:
                self._stop(f"over {seconds:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            self._stop(self._last_words())
        reply = json.loads(line)
        if "error" in reply:
            refused = any(words in reply["error"] for words in OUT_OF_MEMORY)
            self._stop(f"over {LIMIT_BYTES // 10**9} GB" if refused else reply["error"].splitlines()[0])
        return reply["result"]

    def peak_bytes(self):
        """The most memory that was resident at once since the process began."""
        return self._status("VmHWM")

    def close(self):
        self.process.kill()
        self.process.communicate()
        self.log.close()

    def _stop(self, reason):
        self.close()
        raise Stopped(reason)

    def _status(self, field):
        # Not getrusage: its maximum begins with that of the parent.
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next((1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith(field)), 0)

    def _last_words(self):
        code = self.process.wait()
        self.log.seek(0)
        words = self.log.read().strip().splitlines()[-1:]
        return ": ".join([f"ended with exit status {code}", *words])
