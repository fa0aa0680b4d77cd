"""Makes what students and instructors get from the sources of the problem sets: python assignments/problem_sets.py release."""

import argparse
import logging
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from nbgrader.converters import GenerateAssignment, GenerateSolution
from nbgrader.coursedir import CourseDirectory
from traitlets.config.loader import PyFileConfigLoader

FOLDER = Path(__file__).parent
OUTPUT = FOLDER.parent / "_build" / "assignments"
NAMES = sorted(path.name for path in (FOLDER / "source").iterdir())

# nbgrader calls alembic, which makes the grade book, by its name.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def new_course(root):
    """A course in the folder `root` with the sources and a grade book of its own; its configuration."""
    shutil.copytree(FOLDER / "source", root / "source", ignore=shutil.ignore_patterns(".*"))
    config = PyFileConfigLoader("nbgrader_config.py", str(FOLDER)).load_config()
    config.CourseDirectory.root = str(root)
    return config


def convert(converter, config, name, student="*"):
    """Runs one of nbgrader's converters on the problem set of this name."""
    converter(coursedir=CourseDirectory(config=config, assignment_id=name, student_id=student), config=config).start()


def write_zip(folder, path):
    """All files of the folder, in a zip file that is the same whenever they are."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*.ipynb")):
            archive.writestr(zipfile.ZipInfo(file.relative_to(folder).as_posix()), file.read_bytes(), zipfile.ZIP_DEFLATED)


def make_release(root, output):
    """The notebooks for students in `output`/release, and all of them in `output`/problem-sets.zip; the configuration."""
    config = new_course(root)
    for name in NAMES:
        convert(GenerateAssignment, config, name)
    shutil.copytree(root / "release", output / "release", dirs_exist_ok=True)
    write_zip(output / "release", output / "problem-sets.zip")
    return config


def make_solutions(root, output):
    """The executed solutions, with the hidden tests, in `output`/solutions. They are not for the site."""
    config = new_course(root)
    for name in NAMES:
        convert(GenerateAssignment, config, name)
        convert(GenerateSolution, config, name)
    shutil.copytree(root / "solution", output / "solutions", dirs_exist_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["release", "solutions"])
    what = parser.parse_args().what
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with tempfile.TemporaryDirectory() as root:
        (make_release if what == "release" else make_solutions)(Path(root).resolve(), OUTPUT)
    print(f"Written to {OUTPUT / what}")


if __name__ == "__main__":
    main()
