"""Facts about the repository as a whole that no other test can see."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from steerlib.world import judge

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# Each layer may import itself and the layers listed for it; nothing points upward.
LAYERS: dict[str, set[str]] = {
    "statistics": set(),
    "world": set(),
    "claims": set(),
    "core": {"statistics"},
    "methods": {"statistics", "core"},
    "evaluation": {"statistics", "core", "world"},
}
# Packages that are slow to import: nothing may load them at `import steerlib`.
SLOW = {"torch", "transformers", "transformer_lens", "sklearn", "scipy", "matplotlib"}


def load_tool(name: str) -> ModuleType:
    """A script of `tools/` as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tracked(*patterns: str) -> list[Path]:
    """The files under version control."""
    command = ["git", "ls-files", "-z", *patterns]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if found.returncode != 0:
        pytest.skip("this is no git checkout, so its tracked files are not known")
    paths = [ROOT / name for name in found.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def texts() -> Iterator[tuple[Path, str]]:
    """Every tracked text file and what it says, shipped libraries and this file left out."""
    for path in tracked():
        if path == Path(__file__) or "assets" in path.parts:
            continue
        try:
            yield path.relative_to(ROOT), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


# -- the address ------------------------------------------------------------------------------


def test_every_file_agrees_on_the_address_of_the_repository() -> None:
    url = load_tool("stamp").repository()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert project["project"]["urls"]["Repository"] == url
    assert citation["repository-code"] == url


def test_colab_links_point_to_this_repository() -> None:
    stamp = load_tool("stamp")
    owner_and_name = stamp.slug(stamp.repository())
    pattern = re.compile(
        r"colab\.research\.google\.com/github/([^/]+/[^/]+)/blob/main/([^)\"\\\s]+)"
    )
    links = [(path, *link) for path, text in texts() for link in pattern.findall(text)]
    assert {path for path, *_ in links} >= {path.relative_to(ROOT) for path in NOTEBOOKS}
    for path, repository, target in links:
        assert repository == owner_and_name, path
        assert (ROOT / target).exists(), f"{path} links to {target}"


def test_the_set_up_cell_is_the_same_in_every_notebook() -> None:
    stamp = load_tool("stamp")
    expected = stamp.setup_cell(stamp.repository())
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        assert code[0] == expected, f"{path.name}: run `make stamp`"
        assert sum(stamp.FIRST_LINE in source for source in code) == 1


def test_the_set_up_cell_stops_on_colab_until_the_address_is_known() -> None:
    stamp = load_tool("stamp")
    for url, stops in [("https://github.com/OWNER/REPO", True), ("https://github.com/a/b", False)]:
        source = stamp.setup_cell(url).split("    %pip")[0]
        program = f"import sys; sys.modules['google.colab'] = sys\n{source}"
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert (ran.returncode != 0) == stops
        assert ("make stamp URL=" in ran.stderr) == stops


def test_stamping_changes_every_copy_and_can_be_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = load_tool("stamp")
    url = stamp.repository()
    cell = {"cell_type": "code", "source": stamp.setup_cell(url).splitlines(keepends=True)}
    files = {
        "_config.yml": f"repository:\n  url: {url}\n",
        "README.md": f"[open](https://colab.research.google.com/github/{stamp.slug(url)}/blob/main)",
        "a.ipynb": json.dumps({"cells": [cell]}, indent=1) + "\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(stamp, "ROOT", tmp_path)
    monkeypatch.setattr(stamp, "tracked", lambda: [tmp_path / name for name in files])
    stamp.main(["https://github.com/someone/steering.git"])
    for name in files:
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "someone/steering" in text
        assert stamp.slug(url) not in text
    assert stamp.repository() == "https://github.com/someone/steering"
    stamp.main([url])
    for name, text in files.items():
        assert (tmp_path / name).read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    "url", ["github.com/a/b", "https://example.org/a/b", "https://github.com/a"]
)
def test_stamping_refuses_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match=r"https://github\.com/owner/name"):
        load_tool("stamp").slug(url)


# -- the layers -------------------------------------------------------------------------------


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
    top = {"teaching", "recommend", "__main__", "__init__"}
    found = {layer(path) for path in (ROOT / "steerlib").rglob("*.py")}
    assert found <= set(LAYERS) | top


def test_importing_steerlib_loads_nothing_slow() -> None:
    program = "import sys, steerlib; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not SLOW & set(ran.stdout.split())


# -- packaging --------------------------------------------------------------------------------


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
    names = {"sklearn": "scikit_learn", "IPython": "ipywidgets"}
    found = set()
    for path in (ROOT / "steerlib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.split(".")[0])
    foreign = found - set(sys.stdlib_module_names) - {"steerlib"}
    assert {names.get(name, name) for name in foreign} == declared


# -- what must not be in a file ---------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?<![\w.~/])/(?:home|root|work|Users|tmp|opt)/[\w.]",  # a folder of one machine
        r"trust_remote_code\s*=\s*True",
        r"\bpickle\.loads?\(",
        r"files\.pythonhosted\.org|pypi\.org/simple|download\.pytorch\.org",
    ],
)
def test_no_file_holds(pattern: str) -> None:
    found = [
        f"{path}: {match[0]}" for path, text in texts() for match in re.finditer(pattern, text)
    ]
    assert not found


# -- the book ---------------------------------------------------------------------------------


def pages() -> Iterator[str]:
    """Every page that `_toc.yml` lists."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    yield toc["root"]
    for part in toc["parts"]:
        yield from (chapter["file"] for chapter in part["chapters"])


def test_every_page_and_notebook_is_in_the_table_of_contents() -> None:
    written = {f"book/{path.stem}" for path in (ROOT / "book").glob("*.md")}
    assert set(pages()) == written | {f"notebooks/{path.stem}" for path in NOTEBOOKS}


def test_the_api_page_documents_every_public_name() -> None:
    import steerlib

    page = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^% api: ([\w.]+)$", page, re.MULTILINE))
    for name in steerlib.__all__:
        value = getattr(steerlib, name)
        module = getattr(value, "__module__", None)
        if callable(value) and module and module.startswith("steerlib"):
            assert module in listed, f"{name} is defined in {module}, which book/api.md leaves out"


def test_formulas_use_only_the_mathjax_extensions_that_are_shipped() -> None:
    shipped = ROOT / "book" / "assets" / "mathjax" / "input" / "tex" / "extensions"
    source = (ROOT / "book" / "_ext" / "offline.py").read_text(encoding="utf-8")
    found = re.search(r"^AUTOLOAD = (\{.*?^\})", source, re.MULTILINE | re.DOTALL)
    assert found
    assert set(ast.literal_eval(found[1])) <= {path.stem for path in shipped.glob("*.js")}


# -- README -----------------------------------------------------------------------------------


def test_the_speed_table_is_the_recorded_one() -> None:
    from benchmarks.table import END, START, render

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.split(START)[1].split(END)[0].strip()
    results = json.loads((ROOT / "data" / "results" / "bench.json").read_text(encoding="utf-8"))
    assert shown == render(results).strip(), "run `make bench`"


def test_readme_links_lead_somewhere() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", readme)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target


def test_the_quick_start_of_the_readme_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    if not (ROOT / "data" / "world" / "config.json").exists():
        pytest.skip("data/world is not there yet: `make world` trains it")
    program = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert program
    ran = subprocess.run([sys.executable, "-c", program[1]], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert judge(ran.stdout.strip(), "weather", topic="dog").concept > 0, ran.stdout


def test_the_picture_of_the_readme_shows_what_the_command_prints() -> None:
    if not (ROOT / "data" / "world" / "config.json").exists():
        pytest.skip("data/world is not there yet: `make world` trains it")
    picture = load_tool("picture")
    drawn = picture.draw(picture.answer(), picture.concept_words())
    assert picture.PICTURE.read_text(encoding="utf-8") == drawn, "run tools/picture.py"
