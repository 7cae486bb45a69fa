"""The wheel carries `cures` alone, and it works where there is nothing but numpy and scipy."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

import cures

ROOT = Path(__file__).parents[2]

BLOCK = """
import sys
from importlib.metadata import packages_distributions
blocked = set(packages_distributions()) - {"numpy", "scipy", "cures"}
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Block())
"""

USE = """
import cures
assert cures.__file__.startswith(sys.argv[1]), cures.__file__
for name in cures.list_schedulers():
    settings = {
        "staged": {"prior_success_rate_N": [0.5] * 40, "total_rollouts": 1000, "num_stages": 2},
        "oracle": {"true_success_rate": lambda: [0.5] * 40},
        "cures-released": {"num_subsets": 2},
    }.get(name, {})
    s = cures.make_scheduler(name, num_prompts=40, batch_size=4, budget=32, **settings)
    for _ in range(8):
        plan = s.propose()
        s.observe(cures.Outcome.of(plan, plan.quota_B // 2))
    cures.save_state(sys.argv[2], s.state_dict())
    s.load_state_dict(cures.load_state(sys.argv[2]))
try:
    import rich
except ImportError:
    print("blocked")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    source = out / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for path in (ROOT / "cures").rglob("*"):
        if path.suffix in (".py", ".typed"):
            target = source / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    for other in ("sim", "train", "figures", "tests"):  # must not get into the wheel
        (source / other).mkdir()
        (source / other / "__init__.py").touch()
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "-o",
        str(out),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_the_wheel_carries_cures_alone(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"cures"}
    metadata = next(n for n in zipfile.ZipFile(wheel).namelist() if n.endswith("METADATA"))
    lines = zipfile.ZipFile(wheel).read(metadata).decode().splitlines()
    needs = [
        li.split()[1] for li in lines if li.startswith("Requires-Dist:") and "extra ==" not in li
    ]
    assert sorted(n.split(">")[0] for n in needs) == ["numpy", "scipy"]
    names = zipfile.ZipFile(wheel).namelist()
    assert "cures/py.typed" in names
    (licence,) = [n for n in names if n.endswith("licenses/LICENSE")]
    assert zipfile.ZipFile(wheel).read(licence) == (ROOT / "LICENSE").read_bytes()
    assert not [n for n in names if n.startswith("cures/") and not n.endswith((".py", ".typed"))]


def test_the_wheel_works_with_numpy_and_scipy_alone(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", BLOCK + USE, str(tmp_path / "site"), str(tmp_path / "s.npz")],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "blocked"  # the block works, so the rest means something


LOOP = """
import importlib.util, sys
import numpy as np
import cures
assert cures.__file__.startswith(sys.prefix), cures.__file__

class Host:  # of forty prompts that never change
    estimator = "grpo"
    rate_N = np.linspace(0.0, 1.0, 40)
    generator = np.random.default_rng(0)
    def rollout(self, plan):
        return cures.Outcome.of(plan, self.generator.binomial(plan.quota_B, self.rate_N[plan.prompt_B]))
    def update(self, selection):
        return {}
    def discard(self, selection):
        pass

for name in cures.list_schedulers():
    settings = {
        "staged": {"prior_success_rate_N": Host.rate_N, "total_rollouts": 1000, "num_stages": 2},
        "oracle": {"true_success_rate": lambda: Host.rate_N},
        "cures": {"num_subsets": 2},
        "cures-released": {"num_subsets": 2},
        "gvm": {"num_subsets": 2},
    }.get(name, {})
    s = cures.make_scheduler(name, num_prompts=40, batch_size=4, budget=32, **settings)
    steps = [record.step for record in cures.loop.run(s, Host(), rollouts=1000)]
    assert steps == list(range(1, len(steps) + 1)) and steps, name
    assert 1000 - s.min_quota < s.ledger.generated <= 1000, name
there = [n for n in ("torch", "sympy", "rich", "matplotlib", "sim") if importlib.util.find_spec(n)]
assert not there, there
print(len(cures.list_schedulers()))
"""


@pytest.mark.slow
def test_it_is_installed_where_there_is_nothing_else(wheel, tmp_path):
    """An environment of its own: pip, numpy, scipy and the wheel, and no way to anything more."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True)
    site = Path(found.stdout.strip())
    for name in ("numpy", "scipy"):  # with their metadata, so that pip knows that they are there
        here = Path(distribution(name).locate_file(""))
        for path in (
            *here.glob(name),
            *here.glob(f"{name}.libs"),
            *here.glob(f"{name}-*.dist-info"),
        ):
            (site / path.name).symlink_to(path)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP"))}

    def run(*command):
        done = subprocess.run(
            [python, *command], capture_output=True, text=True, env=clean, cwd=tmp_path, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("-m", "pip", "install", "-q", "--no-index", str(wheel))  # needs nothing that is not there
    assert "No broken requirements" in run("-m", "pip", "check")
    assert run("-c", LOOP).split() == [str(len(cures.list_schedulers()))]
