"""Two and three processes give the kernel of one."""

import inspect
import os
import subprocess
import sys
import textwrap

import pytest
import torch
from distributed_cases import CASES, OTHER
from notebook_environment import ROOT

import plbook as pl


def torchrun(processes, script, *arguments):
    """What the first process prints."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), script, *arguments]
    # The loopback interface by name, because a machine's own name need not resolve.
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=[2, 3])
def results(request, tmp_path_factory):
    """(the kernels, the refusals) of each process."""
    folder = tmp_path_factory.mktemp("distributed")
    torchrun(request.param, ROOT / "tests" / "distributed_worker.py", folder)
    return [(torch.load(folder / f"{rank}.pt"), torch.load(folder / f"refusals-{rank}.pt")) for rank in range(request.param)]


@pytest.mark.parametrize("name", [*CASES, "other inputs", "away from the start"])
def test_every_process_returns_the_kernel_of_one(results, name):
    system = CASES.get(name, CASES["one output"])()
    w = system.start + 0.1 if name == "away from the start" else None
    expected = pl.tangent_kernel(system, w, other=OTHER if name == "other inputs" else None)
    for kernels, _ in results:
        assert (kernels[name] - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("what", ["inputs", "budget"])
def test_processes_that_differ_are_told(results, what):
    for _, refusals in results:
        assert f"{len(results) - 1} of {len(results)} processes" in refusals[what] and "same seeds" in refusals[what]


def example():
    """The program in the docstring: the lines between its imports and the end of the group."""
    lines = inspect.getdoc(pl.distributed_tangent_kernel).splitlines()
    first, last = (next(i for i, line in enumerate(lines) if word in line) for word in ("import torch.distributed", "destroy_process_group"))
    return textwrap.dedent("\n".join(lines[first : last + 1])) + "\n"


def test_the_documented_example_runs(tmp_path):
    path = tmp_path / "kernel.py"
    path.write_text(example())
    digits = pl.datasets.digits(200)
    kernel = pl.tangent_kernel(pl.NetworkSystem(pl.MLP(64, [256]), digits.inputs, digits.targets))
    assert torchrun(2, path).strip() == f"trace {kernel.trace():.3g}"


def test_one_process_without_a_group_is_told_what_to_do():
    with pytest.raises(ValueError, match="init_process_group.*torchrun"):
        pl.distributed_tangent_kernel(CASES["one output"]())
    with pytest.raises(ValueError, match="NetworkSystem"):
        pl.distributed_tangent_kernel(pl.toys.product())
