"""The layers of the package: who may import whom."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.loading import ROOT

# Each layer may import itself and the layers listed for it; nothing points upward.
LAYERS: dict[str, set[str]] = {
    "statistics": set(),
    "world": set(),
    "claims": set(),
    "core": {"statistics"},
    "methods": {"statistics", "core"},
    "evaluation": {"statistics", "core", "world"},
}


def imports(path: Path) -> Iterator[str]:
    """Modules of steerlib that a file imports, anywhere in it."""
    package = ["steerlib", *path.relative_to(ROOT / "steerlib").with_suffix("").parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: -node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def layer(path: Path) -> str:
    return path.relative_to(ROOT / "steerlib").with_suffix("").parts[0]


def test_layers_import_only_downward() -> None:
    wrong = []
    for path in sorted((ROOT / "steerlib").rglob("*.py")):
        own = layer(path)
        if own not in LAYERS:
            continue
        for module in imports(path):
            parts = module.split(".")
            # A plain `import steerlib` would open every layer; its version is no layer.
            allowed = {"__version__", own, *LAYERS[own]}
            if parts[0] == "steerlib" and not allowed.intersection(parts[1:2]):
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong


def test_every_part_of_the_package_has_its_layer() -> None:
    top = {"teaching", "recommendation", "__main__", "__init__"}
    found = {layer(path) for path in (ROOT / "steerlib").rglob("*.py")}
    assert found <= set(LAYERS) | top
