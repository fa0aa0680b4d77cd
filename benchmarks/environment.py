"""The environment of neural-tangents: apart from the book's, since it needs a JAX and a numpy of its time."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = Path(__file__).parent / "neural_tangents.txt"
FOLDER = ROOT / ".cache" / "benchmarks"
PYTHONS = (3, 9), (3, 12)


class Unavailable(Exception):
    """The environment cannot be made; the text says why."""


def pins():
    """Package -> version, from the requirements."""
    lines = (line.split("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines())
    return dict(line.split("==") for line in lines if line)


def python():
    """The environment's Python. It is built again when the requirements or this Python change.

    Raises:
        Unavailable: if this Python is too old or too new, or the packages cannot be installed.
    """
    version = sys.version_info[:2]
    if not PYTHONS[0] <= version <= PYTHONS[1]:
        raise Unavailable("it needs Python {}.{} to {}.{}, this is {}.{}".format(*PYTHONS[0], *PYTHONS[1], *version))
    program, stamp = FOLDER / "bin" / "python", FOLDER / "made_from.txt"
    made_from = f"Python {sys.version}\n{REQUIREMENTS.read_text()}"
    if stamp.exists() and stamp.read_text() == made_from:
        return program
    print(f"making the environment of neural-tangents in {FOLDER.relative_to(ROOT)} ...", flush=True)
    stamp.unlink(missing_ok=True)
    _run(sys.executable, "-m", "venv", "--clear", FOLDER)
    _run(program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", REQUIREMENTS)
    stamp.write_text(made_from)
    return program


def _run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Unavailable(f"its packages could not be installed: {' '.join(last)}")
