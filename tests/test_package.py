"""The package: quick to import, with the names that it promises."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import steerlib as st


def test_importing_steerlib_imports_nothing_heavy():
    code = (
        "import sys, steerlib; heavy = {'torch', 'transformers', 'transformer_lens', 'numpy'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", st.__all__)
def test_every_promised_name_is_there(name):
    assert getattr(st, name) is not None
    assert name in dir(st)


def test_the_stub_names_the_same_from_the_same_places():
    stub = Path(st.__file__).with_suffix(".pyi").read_text()
    told = {}
    for node in ast.parse(stub).body:
        if isinstance(node, ast.ImportFrom):
            told.update({alias.asname: node.module for alias in node.names})
    modules = dict.fromkeys(st._MODULES, "steerlib")
    assert told == {name: f"steerlib.{home}" for name, home in st._HOME.items()} | modules


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'steering'"):
        st.steering  # noqa: B018


def test_layers_import_only_downwards():
    root = Path(st.__file__).parent
    for path in sorted((root / "core").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and "steerlib" in node.module:
                allowed = ("steerlib.core", "steerlib.statistics")
                is_version = node.module == "steerlib" and node.names[0].name == "__version__"
                assert node.module.startswith(allowed) or is_version, f"{path.name}: {node.module}"
