"""The environments of the peers, apart from the book's: neural-tangents needs a JAX and a numpy of its time."""

import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Unavailable(Exception):
    """The environment cannot be made; the text says why."""


@dataclass(frozen=True)
class Environment:
    """A peer's own environment, with what the requirements list and nothing else.

    `pythons` are the oldest and the newest Python that it works with. With `with_book` it sees the book's packages, too.
    """

    peer: str
    requirements: Path
    pythons: tuple
    with_book: bool = False

    @property
    def folder(self):
        return ROOT / ".cache" / self.requirements.stem

    def pins(self):
        """Package -> version, from the requirements."""
        lines = (line.split("#")[0].strip() for line in self.requirements.read_text().splitlines())
        return dict(line.split("==") for line in lines if line)

    def python(self):
        """The environment's Python. It is built again when the requirements or this Python change.

        Raises:
            Unavailable: if this Python is too old or too new, or the packages cannot be installed.
        """
        oldest, newest = self.pythons
        if not oldest <= sys.version_info[:2] <= newest:
            raise Unavailable("it needs Python {}.{} to {}.{}, this is {}.{}".format(*oldest, *newest, *sys.version_info[:2]))
        program, stamp = self.folder / "bin" / "python", self.folder / "made_from.txt"
        made_from = f"Python {sys.version}\n{sys.prefix}\n{self.requirements.read_text()}"
        if stamp.exists() and stamp.read_text() == made_from:
            return program
        print(f"making the environment of {self.peer} in {self.folder.relative_to(ROOT)} ...", flush=True)
        stamp.unlink(missing_ok=True)
        _run(sys.executable, "-m", "venv", "--clear", self.folder)
        _run(program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", self.requirements)
        if self.with_book:
            (packages,) = self.folder.glob("lib/python*/site-packages")
            (packages / "book.pth").write_text(sysconfig.get_path("purelib") + "\n")
        stamp.write_text(made_from)
        return program


def _run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Unavailable(f"its packages could not be installed: {' '.join(last)}")


NEURAL_TANGENTS = Environment("neural-tangents", Path(__file__).with_name("neural_tangents.txt"), ((3, 9), (3, 12)))
CURVLINOPS = Environment("curvlinops", Path(__file__).with_name("curvlinops.txt"), ((3, 11), (3, 13)), with_book=True)
