"""Scripts of this repository as modules, so that tests can call their functions."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


def load_script(folder: str, name: str) -> ModuleType:
    """`load_script("tools", "stamp")` is tools/stamp.py, read afresh."""
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / f"{name}.py")
    if spec is None or spec.loader is None:
        raise ValueError(f"no script {name} in {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
