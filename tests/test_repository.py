"""The repository's own files: nothing private in them, versions pinned, promises kept."""

import ast
import os
import re
import shlex

import pytest
from notebook_environment import ROOT

MAX_MODULE_LINES = 400
GENERATED = {"_build", "__pycache__", "node_modules", "venv", "api.md", "statements.md", "status.md", "minutes.md"}
REQUIRED = [
    "README.md",
    "LICENSE",
    "CITATION.cff",
    "CHANGES.md",
    "CONTRIBUTING.md",
    "Makefile",
    "requirements.txt",
    "requirements-lab.txt",
    "pyproject.toml",
    ".ci/run",
    ".github/workflows/book.yml",
]
# In pieces, so that this file does not contain what it looks for.
UNFINISHED = re.compile(r"\b(" + "TO" + "DO|FIX" + r"ME)\b")
MACHINE_PATH = re.compile("/(" + "home|ro" + "ot|Users|work|tm" + r"p)/\w")
REGISTRY_HOST = re.compile(r"(pypi\." + r"org|pythonhosted\." + r"org|npmjs\." + r"org|deb\." + "debian)")


def files():
    """All files of the repository, without what the commands make."""
    for folder, names, found in os.walk(ROOT):
        names[:] = [
            name
            for name in names
            if name not in GENERATED and not name.endswith(".egg-info")
            and (not name.startswith(".") or name in (".ci", ".github"))
        ]
        for name in found:
            if name not in GENERATED:
                yield os.path.join(folder, name)


def texts():
    """Each file's name and text; of notebooks without the encoded pictures."""
    for path in sorted(files()):
        if not path.endswith((".png", ".pyc")):
            with open(path, encoding="utf-8") as file:
                yield os.path.relpath(path, ROOT), re.sub(r'"image/png": "[^"]*"', "", file.read())


def unwanted(text):
    """What no file may contain."""
    return [pattern.search(text)[0] for pattern in (UNFINISHED, MACHINE_PATH, REGISTRY_HOST) if pattern.search(text)]


def test_no_file_contains_what_it_should_not():
    assert {name: unwanted(text) for name, text in texts() if unwanted(text)} == {}


@pytest.mark.parametrize(
    "text", ["# TO" + "DO: later", "see /ro" + "ot/x", "'/tm" + "p/a'", "https://pypi." + "org/simple"]
)
def test_unwanted_text_is_found(text):
    assert unwanted(text)


def test_required_files_exist():
    assert [name for name in REQUIRED if not (ROOT / name).is_file()] == []
    if os.name == "posix":
        assert os.access(ROOT / ".ci" / "run", os.X_OK)


def unpinned(text):
    """Requirements without an exact version."""
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line and line != "-e ." and not re.match(r"[\w.-]+==[\w.]+(\s*;.*)?$", line)]


def test_requirements_are_pinned():
    for name in ("requirements.txt", "requirements-lab.txt"):
        assert unpinned((ROOT / name).read_text()) == []


def test_an_unpinned_requirement_is_found():
    assert unpinned("numpy==2.1  # why\n\ntorch>=2\nscipy\n-e .\n") == ["torch>=2", "scipy"]


def system_packages(script):
    """The packages that a script's apt-get line installs."""
    line = next(line for line in script.splitlines() if "apt-get install" in line)
    words = shlex.split(line.split("apt-get install")[1])
    return {word for word in words if not word.startswith("-")}


def missing_packages(script, readme):
    return {name for name in system_packages(script) if not re.search(rf"(?<![\w-]){name}(?![\w-])", readme)}


def test_readme_lists_what_ci_installs():
    script = (ROOT / ".ci" / "run").read_text()
    assert system_packages(script)
    assert missing_packages(script, (ROOT / "README.md").read_text(encoding="utf-8")) == set()


def test_a_package_missing_in_the_readme_is_found():
    assert missing_packages("apt-get install --yes make chromium", "`make`, chromium-driver") == {"chromium"}


def build_line(makefile):
    return next(line for line in makefile.splitlines() if "jupyter-book build" in line)


def test_the_build_is_clean_and_strict():
    makefile = (ROOT / "Makefile").read_text()
    assert {"-n", "-W", "--keep-going"} <= set(build_line(makefile).split())
    assert makefile.index("rm -rf _build") < makefile.index(build_line(makefile))


def test_a_lax_build_is_found():
    assert "-W" not in build_line("book:\n\tjupyter-book build . -n\n").split()


def imports(source):
    """The top-level names that a module imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = (node.module or "").split(".") if node.module else [alias.name for alias in node.names]
            yield from names[1:2] if names[0] == "plbook" and len(names) > 1 else names[:1]
            if node.module == "plbook" or (node.level and not node.module):
                yield from (alias.name for alias in node.names)


def forbidden_imports(source):
    tools = {path.stem for path in (ROOT / "tools").glob("*.py")}
    return sorted(set(imports(source)) & ({"tools", "tests", "reference", "benchmarks", "pytest"} | tools))


def modules():
    return sorted((ROOT / "plbook").rglob("*.py"))


def test_plbook_imports_nothing_of_the_site_or_the_tests():
    assert {path.name: found for path in modules() if (found := forbidden_imports(path.read_text()))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from . import reference",
        "from plbook import reference",
        "from plbook.reference import kernel",
        "from .reference import kernel",
        "import tools.refresh",
        "import notebook_environment",
    ],
)
def test_a_forbidden_import_is_found(source):
    assert forbidden_imports(source)


def too_long(text):
    return text.count("\n") > MAX_MODULE_LINES


def test_modules_are_short():
    assert modules()
    assert [path.name for path in modules() if too_long(path.read_text())] == []


def test_a_long_module_is_found():
    assert too_long("x = 1\n" * 401) and not too_long("x = 1\n" * 400)


def test_the_page_on_citing_says_what_the_citation_file_says():
    citation, page = (ROOT / "CITATION.cff").read_text(), (ROOT / "book" / "cite.md").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    flat = re.sub(r"\s+", " ", page)
    titles = re.findall(r'title: "(.+)"', citation)
    assert len(titles) == 2 and all(title.lower() in flat.lower() for title in titles)
    (version,) = re.findall(r"^version: (\S+)$", citation, re.M)
    assert f"version = {{{version}}}" in flat and f'version = "{version}"' in project
    volume, start, end, year = (re.search(rf"{key}: (\d+)", citation)[1] for key in ("volume", "start", "end", "year"))
    for line in (f"volume = {{{volume}}}", f"pages = {{{start}--{end}}}", f"year = {{{year}}}"):
        assert line in flat
