"""Facts about the repository as a whole: its address, its files, its table of contents."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.loading import ROOT, load_script

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


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


def test_every_file_agrees_on_the_address_of_the_repository() -> None:
    url = load_script("tools", "stamp").repository()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert project["project"]["urls"]["Repository"] == url
    assert citation["repository-code"] == url


def test_colab_links_point_to_this_repository() -> None:
    stamp = load_script("tools", "stamp")
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
    stamp = load_script("tools", "stamp")
    expected = stamp.setup_cell(stamp.repository())
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        assert code[0] == expected, f"{path.name}: run `make stamp`"
        assert sum(stamp.FIRST_LINE in source for source in code) == 1


def test_the_set_up_cell_stops_on_colab_until_the_address_is_known() -> None:
    stamp = load_script("tools", "stamp")
    for url, stops in [("https://github.com/OWNER/REPO", True), ("https://github.com/a/b", False)]:
        source = stamp.setup_cell(url).split("    %pip")[0]
        program = f"import sys; sys.modules['google.colab'] = sys\n{source}"
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert (ran.returncode != 0) == stops
        assert ("make stamp URL=" in ran.stderr) == stops


def test_stamping_changes_every_copy_and_can_be_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = load_script("tools", "stamp")
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
        load_script("tools", "stamp").slug(url)


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
