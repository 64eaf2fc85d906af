"""What the package declares: lower bounds for readers, exact pins for us."""

import ast
import re
import sys
import tomllib

from tests.loading import ROOT


def test_dependencies_have_lower_bounds_only() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    for requirement in [*project["dependencies"], *(item for extra in extras for item in extra)]:
        assert re.fullmatch(r"[\w-]+>=[\d.]+", requirement), requirement
    assert re.fullmatch(r">=[\d.]+", project["requires-python"])


def test_every_pin_is_exact_and_portable() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 100
    for pin in pins:
        assert re.fullmatch(r"[\w.\[\]-]+==[\w.!]+( ; .+)?", pin), pin


def test_the_package_declares_what_it_imports_and_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [item for extra in project["optional-dependencies"].values() for item in extra]
    declared = {
        re.split(r"\W", item.replace("-", "_"))[0] for item in project["dependencies"] + extras
    }
    names = {
        "IPython": "ipywidgets",
        "causallearn": "causal_learn",
        "sklearn": "scikit_learn",
    }
    found = set()
    for path in (ROOT / "steerlib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.split(".")[0])
    foreign = found - set(sys.stdlib_module_names) - {"steerlib"}
    # pandas reads and writes parquet through it.
    assert {names.get(name, name) for name in foreign} | {"pyarrow"} == declared
