"""The problem sets: solutions get all points, known mistakes are named, and nothing of the solutions gets out."""

import ast
import contextlib
import html
import io
import logging
import re
import zipfile
from functools import cache

import nbformat
import problem_sets
import pytest
from nbgrader.api import Gradebook
from nbgrader.converters import Autograde, GenerateFeedback
from nbgrader.converters.base import NbGraderException
from nbgrader.utils import determine_grade
from notebook_environment import ROOT, notebooks

# nbgrader's grade book makes SQLAlchemy 2.1 warn when it adds a submission; what it stores is right.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")

SEED, OTHER_SEED = 12345678, 7
AUTOMATIC, WRITTEN = 16, 9  # points of each problem set
SLOW = {"run", "table"}  # cells whose output only the written problems ask about


@cache
def source(name):
    return nbformat.read(problem_sets.FOLDER / "source" / name / f"{name}.ipynb", as_version=4)


def cell(name, identity):
    return next(cell for cell in source(name).cells if cell.id == identity)


def graded_cells(notebook, cell_type):
    return [cell for cell in notebook.cells if cell.cell_type == cell_type and cell.metadata.get("nbgrader", {}).get("grade")]


def with_seed(identity, code, seed):
    return f"seed = {seed}" if identity == "seed" else code


# Cells are run here without a kernel where many answers have to be tried.


def run_cell(code, namespace):
    """What a cell prints, and the value of its last expression."""
    tree, value, printed = ast.parse(code), None, io.StringIO()
    last = ast.Expression(tree.body.pop().value) if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), namespace)
        if last is not None:
            value = eval(compile(last, "cell", "eval"), namespace)
    return printed.getvalue(), value


@cache
def solved(name, seed):
    """The variables after the solution has run, and the points of each test cell."""
    namespace, points = {}, {}
    for cell in source(name).cells:
        if cell.cell_type == "code" and cell.id not in SLOW:
            _, value = run_cell(with_seed(cell.id, cell.source, seed), namespace)
            if cell.metadata["nbgrader"]["grade"] and cell.metadata["nbgrader"]["points"]:
                points[cell.id] = value
    return namespace, points


@pytest.mark.parametrize("seed", [SEED, OTHER_SEED])
@pytest.mark.parametrize("name", problem_sets.NAMES)
def test_the_solution_is_right_for_every_seed(name, seed):
    wanted = {cell.id: cell.metadata["nbgrader"]["points"] for cell in graded_cells(source(name), "code")}
    assert solved(name, seed)[1] == {identity: points for identity, points in wanted.items() if points}


OWN_ANSWERS = {
    "ps1": ["stuck_loss", "stuck"],
    "ps2": ["beta", "radius", "norms", "exponent"],
    "ps3": ["fitting_radius", "promised"],
    "ps4": ["floor", "threshold_half", "threshold_disc", "by_hand", "limits"],
}


@pytest.mark.parametrize("name", problem_sets.NAMES)
def test_answers_belong_to_the_seed(name):
    (mine, _), (theirs, _) = solved(name, SEED), solved(name, OTHER_SEED)
    assert [key for key in OWN_ANSWERS[name] if str(mine[key]) == str(theirs[key])] == []


HALF, TRANSPOSED, MAX_NORM = "factor of 2", "This is DF^T DF", "largest norm of a single Hessian"

# Problem set, answer, what is replaced in its solution by what, test, points, a part of the message.
MISTAKES = [
    ("ps1", "kernel", {"J @ J.T": "J.T @ J"}, "kernel-test", 1, TRANSPOSED),
    ("ps1", "step-answer", {"kernel(system, w)": "system.jacobian(w).T @ system.jacobian(w)"}, "step-test", 1, TRANSPOSED),
    ("ps1", "step-answer", {"r - step": "r + step"}, "step-test", 1, "sign"),
    ("ps1", "step-answer", {"r - step": "r - 2 * step"}, "step-test", 1, "Twice"),
    ("ps1", "ratio", {" / 2 / ": " / "}, "ratio-test", 1, HALF),
    ("ps1", "ratio", {"return ": "return pl.kernel_spectrum(system, w).smallest or "}, "ratio-test", 1, "lower bound"),
    ("ps1", "targets-answer", {"clamp(0, 1)": "clamp(0, 1) ** 2"}, "targets-test", 1, "ends only"),
    ("ps1", "targets-answer", {"clamp(0, 1)": "clamp(0, 0)"}, "targets-test", 1, "whatever mu is"),
    ("ps1", "stuck-answer", {"saddle.loss(": "2 * saddle.loss("}, "stuck-test", 1.5, HALF),
    ("ps1", "outside-answer", {"return (": "return 2 * ("}, "outside-test", 1, HALF),
    ("ps1", "outside-answer", {".min()": ".max()"}, "outside-test", 1, "larger size"),
    ("ps1", "outside-answer", {"(radius *": "(radius**0.5 *"}, "outside-test", 1, "square of the distance"),
    ("ps2", "mu-answer", {"max(math.sqrt(lambda_0) - beta * radius, 0.0)": "(math.sqrt(lambda_0) - beta * radius)"}, "mu-test", 2, "sign"),
    ("ps2", "mu-answer", {"max(math.sqrt(lambda_0)": "max(lambda_0", ") ** 2": ")"}, "mu-test", 1, "Weyl"),
    ("ps2", "mu-answer", {"max(math.sqrt(lambda_0) - beta * radius, 0.0) ** 2": "lambda_0 - (beta * radius) ** 2"}, "mu-test", 1, "as a whole"),
    ("ps2", "radius-answer", {"math.sqrt(lambda_0) - math.sqrt(mu)": "lambda_0 - mu"}, "radius-test", 1, "eigenvalues"),
    ("ps2", "radius-answer", {"(math.sqrt(lambda_0) - math.sqrt(mu))": "math.sqrt(lambda_0 - mu)"}, "radius-test", 1, "difference of the roots"),
    ("ps2", "joint-answer", {".norm()": ".max()"}, "joint-test", 1, MAX_NORM),
    ("ps2", "joint-answer", {"torch": "len(hessians) ** 0.5 * torch", ".norm()": ".max()"}, "joint-test", 2, "True"),
    ("ps2", "joint-answer", {".norm()": ".sum()"}, "joint-test", 2, "True"),
    ("ps2", "bent-answer", {"c.norm()": "c.max()"}, "beta-test", 1, MAX_NORM),
    ("ps2", "bent-answer", {"c.norm()": "2 * c.max()"}, "beta-test", 1, "not the smallest"),
    ("ps2", "bent-answer", {"* u @ u": "* u.norm()"}, "beta-test", 1, "unit vector"),
    ("ps2", "bent-answer", {"c.norm()": "c.max()"}, "bent-radius-test", 1, MAX_NORM),
    ("ps2", "bent-answer", {"A @ A.T)[0]": "A.T @ A)[0].abs()"}, "bent-radius-test", 0.5, TRANSPOSED),
    ("ps2", "bent-answer", {"/ (2 * beta)": "* 0.75 / beta"}, "bent-radius-test", 1, "quarter"),
    ("ps2", "norms-answer", {".largest": ".joint"}, "norms-test", 1, "joint"),
    ("ps2", "norms-answer", {".largest": ".per_equation[0].item()"}, "norms-test", 1, "first digit"),
    ("ps2", "norms-answer", {" / np.sqrt(np.log(widths))": ""}, "exponent-test", 1, "not divided"),
    ("ps2", "norms-answer", {"np.sqrt(np.log(widths))": "np.log(widths)"}, "exponent-test", 1, "instead of its root"),
    ("ps3", "step-answer", {"math.sqrt(n) * ": ""}, "step-test", 1, MAX_NORM),
    ("ps3", "step-answer", {"math.sqrt(n)": "n"}, "step-test", 2, "Safe"),
    ("ps3", "steps-answer", {"-eta": "-2 * eta"}, "steps-test", 1, HALF),
    ("ps3", "steps-answer", {"/ math": "/ 2 / math"}, "steps-test", 1, "squares it"),
    ("ps3", "steps-answer", {"ceil": "floor"}, "steps-test", 2, "Rounded down"),
    ("ps3", "steps-answer", {"math.log1p(-eta * mu)": "(-eta * mu)"}, "steps-test", 2, "too many"),
    ("ps3", "radii-answer", {"2 * loss": "loss"}, "radii-test", 1.5, HALF),
    ("ps3", "fit-answer", {"2 * system": "system"}, "fit-test", 1, "twice"),
    ("ps3", "fit-answer", {"2 * system": "2**0.5 * system"}, "fit-test", 1, HALF),
    ("ps3", "fit-answer", {" * np.cos(a * trial)": ""}, "fit-test", 1, "of the center"),
    ("ps3", "promise-answer", {"eta, mu_on": "eta, 2 * mu_on"}, "promised-test", 1, HALF),
    ("ps3", "promise-answer", {"mu_on_ball(fitting_radius)": "mu_on_ball(0)"}, "promised-test", 1, "of the center"),
    ("ps3", "promise-answer", {"L_F, 1,": "L_F, 3,"}, "promised-test", 1, "too careful"),
    ("ps3", "promise-answer", {"a * L_F, 1,": "a**2, 1,"}, "promised-test", 1, MAX_NORM),
    ("ps3", "promise-answer", {"tolerance=1e-6": "tolerance=1e-3"}, "taken-test", 1, "thousandth"),
    ("ps4", "floor-answer", {"/ 4": "/ 2"}, "floor-test", 1, HALF),
    ("ps4", "floor-answer", {" / 4": ""}, "floor-test", 1, "met exactly"),
    ("ps4", "floor-answer", {"svdvals(A)[3]": "svdvals(A)[5]"}, "mu-test", 1, "DF^T DF is singular as well"),
    ("ps4", "floor-answer", {"(smallest *": "(2 * smallest *"}, "mu-test", 1, HALF),
    ("ps4", "floor-answer", {" * (1 - floor / epsilon)": ""}, "mu-test", 1, "ignores the floor"),
    ("ps4", "floor-answer", {"svdvals(A)": "svdvals(X)"}, "mu-test", 2, "first four"),
    ("ps4", "floor-answer", {"max(": "(", ", 0.0)": ")"}, "mu-test", 2, "below the floor"),
    ("ps4", "threshold-answer", {"threshold_half = ": "threshold_half = 2 * "}, "threshold-test", 1.5, HALF),
    ("ps4", "threshold-answer", {"[-c, 0.0]": "[c, 0.0]"}, "threshold-test", 1.5, "of the half"),
    ("ps4", "hand-answer", {"bends.norm()": "bends.max()"}, "hand-test", 2, MAX_NORM),
    ("ps4", "hand-answer", {"* u @ u": "* u.norm()"}, "hand-test", 2, "unit vector"),
    ("ps4", "hand-answer", {"r0 / lambda_0": "r0 / lambda_0**0.5"}, "hand-test", 3, "root of lambda_0"),
    ("ps4", "hand-answer", {'"residual": r0': '"residual": r0**2 / 2'}, "hand-test", 3.5, "not the loss"),
    ("ps4", "hand-answer", {'"mu": rest': '"mu": 2 * rest'}, "hand-test", 3, HALF),
    ("ps4", "hand-answer", {"B @ B.T)[0]": "B.T @ B)[0].abs()", "math.sqrt(rest)": "0"}, "hand-test", 1.5, TRANSPOSED),
    ("ps4", "hand-answer", {"bends.norm()": "bends.max()"}, "limits-test", 2, "Correct from your beta"),
    ("ps4", "hand-answer", {"(4 * beta)": "(2 * beta)"}, "limits-test", 1.5, "twice"),
    ("ps4", "certified-answer", {"[:6]": ""}, "certified-test", 1.5, "repeated equation"),
    ("ps4", "certified-answer", {"pl.polish(system, run.w).w": "system.start"}, "certified-test", 1.5, "then polish"),
    ("ps4", "certified-answer", {"[:6]": "[:5]"}, "certified-test", 1, "leaves out more"),
]


def edited(name, answer, changes):
    code = cell(name, answer).source
    for old, new in changes.items():
        assert old in code, f"{old} is not in the solution {answer} of {name}"
        code = code.replace(old, new)
    return code


@pytest.mark.parametrize("name, answer, changes, test, points, words", MISTAKES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_mistake_is_named_and_gets_a_part_of_the_points(name, answer, changes, test, points, words):
    namespace = dict(solved(name, SEED)[0])
    run_cell(edited(name, answer, changes), namespace)
    printed, value = run_cell(cell(name, test).source, namespace)
    assert (value, words in printed) == (points, True), printed


@pytest.mark.parametrize("name", problem_sets.NAMES)
def test_points_and_rubrics_add_up(name):
    cells = source(name).cells
    assert sum(cell.metadata["nbgrader"]["points"] for cell in graded_cells(source(name), "code")) == AUTOMATIC
    written = [(before, cell) for before, cell in zip(cells, cells[1:]) if cell in graded_cells(source(name), "markdown")]
    for question, cell in written:
        assert rubric_points(question.source) == cell.metadata["nbgrader"]["points"]
    assert sum(cell.metadata["nbgrader"]["points"] for _, cell in written) == WRITTEN
    assert sum(map(int, re.findall(r"^\| \d \| .* \| (\d) \|$", cells[0].source, re.M))) == AUTOMATIC + WRITTEN


def rubric_points(text):
    return sum(map(int, re.findall(r"\| (\d) \|$", text.split("| rubric |")[1], re.M)))


def test_a_rubric_is_counted():
    assert rubric_points("| 9 |\n| rubric | points |\n|---|---|\n| 1: a | 1 |\n| 2: b | 3 |") == 4


# From here on nbgrader itself.


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course with a release: its folder, its configuration, the release's folder, and nbgrader's warnings."""
    root = tmp_path_factory.mktemp("assignments")
    records = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append
    logging.getLogger("traitlets").addHandler(handler)
    config = problem_sets.make_release(root / "course", root / "output")
    logging.getLogger("traitlets").removeHandler(handler)
    return root / "course", config, root / "output", [record.getMessage() for record in records]


def released(course, name):
    return nbformat.read(course[2] / "release" / name / f"{name}.ipynb", as_version=4)


def submit(course, student, name, answers):
    """Hands in the released notebook with these answers, by cell id."""
    notebook = released(course, name)
    for cell in notebook.cells:
        cell.source = answers.get(cell.id, cell.source)
    folder = course[0] / "submitted" / student / name
    folder.mkdir(parents=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")


WRONG_IN_NBGRADER = [mistake for mistake in MISTAKES if mistake[5] in (HALF, TRANSPOSED, MAX_NORM)]
# ps1 and ps2 have all three; one mistake for each answer.
WRONG_IN_NBGRADER = {
    (name, answer): (changes, test, points, words)
    for name, answer, changes, test, points, words in WRONG_IN_NBGRADER
    if (name, answer) in {("ps1", "kernel"), ("ps1", "ratio"), ("ps2", "joint-answer")}
}


@pytest.fixture(scope="module")
def grades(course):
    """Automatic points by (student, problem set, cell), and the folder of the feedback."""
    root, config = course[:2]
    for name in problem_sets.NAMES:
        solution = {
            cell.id: with_seed(cell.id, cell.source, SEED)
            for cell in source(name).cells
            if cell.metadata.get("nbgrader", {}).get("solution")
        }
        submit(course, "solution", name, solution)
        submit(course, "untouched", name, {})
        wrong = {answer: edited(name, answer, value[0]) for (of, answer), value in WRONG_IN_NBGRADER.items() if of == name}
        if wrong:
            submit(course, "mistaken", name, {**solution, **wrong})
        problem_sets.convert(Autograde, config, name)
        if wrong:
            problem_sets.convert(GenerateFeedback, config, name, student="mistaken")
    found = {}
    with Gradebook(f"sqlite:///{root / 'gradebook.db'}") as gradebook:
        for name in problem_sets.NAMES:
            for submission in gradebook.assignment_submissions(name):
                for notebook in submission.notebooks:
                    for grade in notebook.grades:
                        found[submission.student.id, name, grade.name] = grade.auto_score
    return found, root / "feedback"


def test_nbgrader_makes_every_release_without_a_warning(course):
    assert course[3] == []
    for name in problem_sets.NAMES:
        notebook = released(course, name)
        assert [cell.id for cell in notebook.cells] == [cell.id for cell in source(name).cells]
        assert all(not cell.get("outputs") for cell in notebook.cells)


def test_a_broken_source_is_refused(tmp_path):
    config = problem_sets.new_course(tmp_path / "course")
    path = tmp_path / "course" / "source" / "ps1" / "ps1.ipynb"
    path.write_text(path.read_text(encoding="utf-8").replace("### END SOLUTION", "", 1), encoding="utf-8")
    with pytest.raises(NbGraderException):
        problem_sets.convert(problem_sets.GenerateAssignment, config, "ps1")


@pytest.mark.parametrize("name", problem_sets.NAMES)
def test_a_solution_gets_every_automatic_point(grades, name):
    scores = {cell: points for (student, of, cell), points in grades[0].items() if (student, of) == ("solution", name)}
    assert sum(points for points in scores.values() if points is not None) == AUTOMATIC
    written = {cell.id for cell in graded_cells(source(name), "markdown")}
    assert {cell for cell, points in scores.items() if points is None} == written  # these wait for a person


@pytest.mark.parametrize("name", problem_sets.NAMES)
def test_the_untouched_release_gets_nothing(grades, name):
    scores = [points for (student, of, _), points in grades[0].items() if (student, of) == ("untouched", name)]
    assert scores and set(scores) == {0}


@pytest.mark.parametrize("name, answer", WRONG_IN_NBGRADER)
def test_the_feedback_names_the_mistake(grades, name, answer):
    _, test, points, words = WRONG_IN_NBGRADER[name, answer]
    assert grades[0]["mistaken", name, test] == points
    page = (grades[1] / "mistaken" / name / f"{name}.html").read_text(encoding="utf-8")
    assert words in html.unescape(page)


def test_points_are_read_from_the_last_expression():
    test = nbformat.v4.new_code_cell("", metadata=cell("ps1", "kernel-test").metadata)
    for text, points in (("1", 1), ("3", 3)):
        test.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": text})]
        assert determine_grade(test) == (points, 3)


# What must not get out.


@cache
def chapters():
    """All that the chapters say."""
    return "\n".join(notebook_text(path.read_text(encoding="utf-8")) for path in notebooks())


def secrets(name):
    """The lines of the solutions and of the hidden tests that are long enough to be told from others, and in no chapter."""
    lines, public = [], "\n".join(cell.source for cell in source(name).cells if not cell.metadata.get("nbgrader", {}).get("grade"))
    for cell in source(name).cells:
        regions = re.findall(r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)\s*### END", cell.source, re.S)
        if cell in graded_cells(source(name), "markdown"):
            regions, public = [cell.source], public.replace(cell.source, "")
        lines += [line.strip() for region in regions for line in region.split("\n")]
        public = re.sub(r"### BEGIN SOLUTION.*?### END SOLUTION", "", public, flags=re.S)
    return {line for line in lines if len(line) > 30 and line not in public and line not in chapters()}


def notebook_text(content):
    return "\n".join(cell.source for cell in nbformat.reads(content, as_version=4).cells)


def published(folder):
    """The name and the text of every file below a folder and in the zip files there."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if name.endswith((".ipynb", ".py", ".md", ".txt")):
                        text = archive.read(name).decode()
                        yield f"{path.name}: {name}", notebook_text(text) if name.endswith(".ipynb") else text
        elif path.suffix == ".ipynb":
            yield path.name, notebook_text(path.read_text(encoding="utf-8"))
        elif path.suffix in (".html", ".txt", ".md", ".js", ".py"):
            text = path.read_text(encoding="utf-8")
            yield path.name, html.unescape(re.sub(r"<[^>]*>", "", text)) if path.suffix == ".html" else text


def leaks(folder):
    known = set().union(*map(secrets, problem_sets.NAMES))
    return [
        (name, line) for name, text in published(folder) for line in {"BEGIN SOLUTION", "BEGIN HIDDEN TESTS", *known} if line in text
    ]


def test_no_solution_in_what_students_get(course):
    assert sorted(path.name for path in course[2].iterdir()) == ["problem-sets.zip", "release"]
    assert sum(1 for _ in published(course[2])) == 2 * len(problem_sets.NAMES)
    assert leaks(course[2]) == []


def test_no_solution_on_the_site():
    assert leaks(ROOT / "_build" / "html") == []


def test_a_leak_is_found(tmp_path):
    line = sorted(secrets("ps1"))[0]
    (tmp_path / "page.html").write_text(f"<pre><b>{html.escape(line[:9])}</b>{html.escape(line[9:])}</pre>")
    nbformat.write(source("ps2"), tmp_path / "ps2.ipynb")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "ps2.ipynb", "ps2.ipynb")
    assert {name for name, _ in leaks(tmp_path)} == {"page.html", "ps2.ipynb", "all.zip: ps2.ipynb"}
    assert all(len(secrets(name)) > 20 for name in problem_sets.NAMES)
