"""Who may import whom."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def imports_of(path: Path) -> set[str]:
    """Top-level packages (and cures submodules) that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, folder
    return found


def test_import_cures_is_light():
    code = (
        "import json, sys, numpy, scipy\n"
        "before = set(sys.modules); import cures\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    heavy = {"torch", "sympy", "matplotlib", "transformers", "vllm", "rich", "pandas"}
    assert not {name.split(".")[0] for name in loaded} & heavy
    assert not loaded & {"scipy.optimize", "scipy.stats"}  # each is slower than all of cures


def is_adapter(path: Path) -> bool:
    """Whether a file is made for one of other people's trainers: these have folders of their own."""
    return path.parent.parent == ROOT / "cures" / "integrations"


CORE = [path for path in files("cures") if not is_adapter(path)]


@pytest.mark.parametrize("path", CORE, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_core_needs_numpy_and_scipy_alone(path):
    third_party = {
        name.split(".")[0] for name in imports_of(path) if name.split(".")[0] not in ("cures",)
    } - set(sys.stdlib_module_names)
    assert third_party <= {"numpy", "scipy"}


def test_adapters_use_the_core_and_not_the_other_way_round():
    hosts = {"sim", "train", "theory", "figures"}
    for path in files("cures"):
        names = imports_of(path)
        if is_adapter(path):
            assert not {name.split(".")[0] for name in names} & hosts, path
        elif "integrations" not in path.parts:
            assert not any(name.startswith("cures.integrations") for name in names), path


@pytest.mark.parametrize("folder", ["sim", "train"])
def test_hosts_do_not_import_each_other_or_the_figures(folder):
    others = {"sim", "train", "figures", "theory"} - {folder}
    for path in files(folder):
        tops = {name.split(".")[0] for name in imports_of(path)}
        # what the simulator's validation expects comes from the formulas that are proved
        legal = {"theory"} if path.is_relative_to(ROOT / "sim" / "validation") else set()
        assert not tops & (others - legal), path


def test_theory_stands_on_its_own():
    # of the library it may use what has no formula in it: error sentences and file writing
    for path in files("theory"):
        names = imports_of(path)
        tops = {name.split(".")[0] for name in names}
        assert not tops & {"sim", "train", "figures", "tests", "torch"}, path
        modules = {".".join(name.split(".")[:2]) for name in names if name.startswith("cures")}
        assert modules <= {"cures.checks", "cures.storage"}, path


@pytest.mark.parametrize("folder", ["sim", "train"])
def test_hosts_use_none_of_the_pieces_a_scheduler_is_made_of(folder):
    # `effective_sample_size` is a diagnostic that hosts may log; the rest decides, and only
    # schedulers decide.
    pieces = {
        "BetaPosterior", "allocate", "allocate_by_value", "draw_with_replacement",
        "draw_without_replacement", "expected_mixed", "expected_potential", "expected_variance",
        "gradient_std", "gradient_std_released", "gradient_std_surrogate", "gradient_variance",
        "inclusion_probability", "potential", "prob_mixed", "round_to_total",
        "sampling_distribution", "temperature_for_effective_size",
        # their modules, through which all of them can be had
        "beta_moments", "marginal", "posterior", "quota", "sampling", "water_level",
    }  # fmt: skip
    for path in files(folder):
        if path.is_relative_to(ROOT / "sim" / "validation"):
            continue  # it tests the pieces against the theory, and hosts nothing
        tree = ast.parse(path.read_text())
        from_cures = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cures")
            for alias in node.names
        }
        from_cures |= {
            alias.name.split(".")[1]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name.startswith("cures.")
        }
        through_cures = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "cures"
        }
        assert not (from_cures | through_cures) & pieces, path
