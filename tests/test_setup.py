"""The set-up: pins fit ranges, the root documents agree, and a machine that lacks something is told what to do."""

from __future__ import annotations

import ast
import itertools
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("nire", "drivers", "stream", "benchmarks")
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]


def test_every_dependency_has_a_pin_inside_its_range() -> None:
    pins = {_name(pin): Version(pin.partition("==")[2]) for pin in _pins()}
    requirements = [*PROJECT["dependencies"], *itertools.chain(*PROJECT["optional-dependencies"].values())]
    for requirement in map(Requirement, requirements):
        assert _name(requirement.name) in pins, f"constraints.txt does not pin {requirement.name}"
        assert pins[_name(requirement.name)] in requirement.specifier


def test_constraints_are_exact_pins_each_named_once() -> None:
    pins = _pins()
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", pin) for pin in pins), pins
    assert len({_name(pin) for pin in pins}) == len(pins)


def test_all_that_make_installs_is_pinned_by_hash_in_the_versions_of_the_constraints() -> None:
    text = (ROOT / "requirements.txt").read_text()
    hashed = dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE))
    assert len(hashed) == text.count("==")
    pins = {pin.partition("==")[0]: pin.partition("==")[2] for pin in _pins()}
    apart = {"torch", "harvesters", "genicam", "rerun-sdk", "ray", "torch-tensorrt"}
    assert hashed == {name: version for name, version in pins.items() if name not in apart}
    installed = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    assert {_name(Requirement(requirement).name) for requirement in installed} - hashed.keys() == {"torch"}


def test_every_library_that_is_imported_is_declared() -> None:
    declared = {_name(Requirement(requirement).name) for requirement in PROJECT["dependencies"]}
    # An extra may not be installed; the import contracts say which file may import it.
    extras = {extra for extra in PROJECT["optional-dependencies"] if extra != "dev"}
    extras.add("triton")  # comes with torch's CUDA builds, in the version that they need
    providers = packages_distributions()
    undeclared = set()
    for source in [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]:
        for library in _imported(source) - sys.stdlib_module_names - set(PACKAGES) - extras:
            if declared.isdisjoint(map(_name, providers.get(library, []))):
                undeclared.add(f"{source.relative_to(ROOT)} imports {library}")
    assert not undeclared, "libraries that the packages import belong to dependencies in pyproject.toml"


def test_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == PROJECT["version"]
    unreleased, released = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[:2]
    assert unreleased == "Unreleased"
    assert released == f"{PROJECT['version']} ({citation['date-released']})"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_of_the_root_documents_lead_to_files_that_exist(document: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text())
    missing = [target for target in targets if "://" not in target and not (ROOT / target).exists()]
    assert not missing


def test_pre_commit_runs_the_tools_of_make() -> None:
    makefile = (ROOT / "Makefile").read_text()
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    for hook in hooks:
        command = hook["entry"].replace(".venv/bin", "$(BIN)")
        assert command in makefile, f"the hook {hook['id']} is not what make runs"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_without_a_target_lists_what_it_can_do() -> None:
    result = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    for target in ("demo", "test", "lint", "format", "bench", "clean"):
        assert re.search(rf"make {target}\s+\S", result.stdout)


def test_setup_with_an_old_python_says_which_it_wants(tmp_path: Path) -> None:
    old = _script(
        tmp_path / "python3.9", "#!/bin/sh\n[ $# -eq 2 ] && case $2 in *platform*) echo 3.9.1; exit 0;; esac\nexit 1\n"
    )
    result = _setup(tmp_path, old)
    assert result.returncode == 1
    assert f"PYTHON={old} is 3.9.1, expected Python 3.11, 3.12 or 3.13" in result.stderr


def test_setup_with_a_missing_python_says_which_it_wants(tmp_path: Path) -> None:
    result = _setup(tmp_path, tmp_path / "nowhere")
    assert result.returncode == 1
    assert "is no Python that runs, expected Python 3.11, 3.12 or 3.13" in result.stderr


def test_setup_without_ensurepip_names_the_package_to_install(tmp_path: Path) -> None:
    bare = _script(
        tmp_path / "python3", f'#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"\n'
    )
    result = _setup(tmp_path, bare)
    assert result.returncode == 1
    assert f"apt-get install python3.{sys.version_info.minor}-venv" in result.stderr


def test_setup_tells_what_pip_is_at_while_it_works(tmp_path: Path) -> None:
    """It said nothing for two minutes."""
    _script(tmp_path / "sleep", "#!/bin/sh\nexec /bin/sleep 0.05\n")
    pip = "echo Collecting much; /bin/sleep 1; exit 1"
    made = "mkdir -p .venv/bin; touch .venv/bin/pip; cp $0 .venv/bin/python; exit 0"
    python = _script(
        tmp_path / "python3",
        f'#!/bin/sh\n[ "$2" = pip ] && {{ {pip}; }}\n[ "$2" = venv ] && {{ {made}; }}\n'
        'case "$2" in *executable*) echo "$0";; *platform*) echo 3.12.1;; esac\nexit 0\n',
    )
    result = _run_setup(tmp_path, python, path=f"{tmp_path}:/usr/bin:/bin")
    assert re.search(r"^\[setup\]   after \d+ s: Collecting much$", result.stdout, re.MULTILINE), result
    assert result.returncode == 1
    assert "requirements.txt could not be installed" in result.stderr


def _setup(folder: Path, python: Path) -> subprocess.CompletedProcess[str]:
    """Run the set-up in a folder of its own, where it must stop before it makes anything."""
    result = _run_setup(folder, python)
    assert not (folder / ".venv").exists()
    return result


def _run_setup(folder: Path, python: Path, *, path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    """Run the set-up in a folder of its own."""
    (folder / ".ci").mkdir()
    for name in (".ci/setup", "constraints.txt", "requirements.txt"):
        shutil.copyfile(ROOT / name, folder / name)
    return subprocess.run(
        ["bash", ".ci/setup"],
        cwd=folder,
        env={"PATH": path, "PYTHON": str(python)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def _script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def _imported(source: Path) -> set[str]:
    """The top-level names that a file imports anywhere, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def _pins() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _name(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", requirement.partition("==")[0]).lower()
