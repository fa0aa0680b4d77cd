"""Measure how long each notebook runs, for the status page; known times are not measured again."""

import hashlib
import json
import sys

import nbformat
from notebook_environment import ROOT, NotebookFailed, execute, notebooks, set_environment

RECORD = ROOT / ".cache" / "run_times.json"
BUDGET = 40  # seconds


def content_key(path):
    """A digest of all that decides a run time: the notebook's code and plbook's sources."""
    digest = hashlib.sha256()
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            digest.update(cell.source.encode() + b"\0")
    for source in sorted((ROOT / "plbook").rglob("*.py")):
        digest.update(source.read_bytes() + b"\0")
    return digest.hexdigest()


def load():
    """The record: notebook name -> {"key": digest, "seconds": run time}."""
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def store(path, seconds):
    record = load()
    record[path.name] = {"key": content_key(path), "seconds": round(seconds, 1)}
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def known_seconds(path):
    """The notebook's run time, or None where it is not known for the present content."""
    entry = load().get(path.name, {})
    return entry["seconds"] if entry.get("key") == content_key(path) else None


def main():
    set_environment()
    for path in notebooks():
        if known_seconds(path) is not None:
            continue
        print(f"timing {path.name} ...", end=" ", flush=True)
        try:
            _, seconds = execute(path)
        except NotebookFailed as failure:
            sys.exit(f"failed\n{failure}")
        store(path, seconds)
        print(f"{seconds:.1f} s" + (f" (over the budget of {BUDGET} s)" if seconds > BUDGET else ""))


if __name__ == "__main__":
    main()
