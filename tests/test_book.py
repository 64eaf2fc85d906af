"""The book's own Sphinx extension: numbers from the records, API pages, no network."""

import ast
import json
from pathlib import Path

import pytest

from tests.loading import ROOT, load_script

SOURCE = '''"""A module.

Chapter: hooks.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Value:
    """A value."""

    size: int
    kind: str = "plain"

    @property
    def double(self) -> int:
        """Twice the size."""
        return 2 * self.size

    def grown(self, by: int = 1) -> "Value":
        """A larger value."""
        return Value(self.size + by, self.kind)


def f(x: int, *, y: int = 2) -> int:
    """Add them.

    Args:
        x: one number, which
            is explained at length.
        y: another.

    Raises:
        ValueError: never.

    Example:
        >>> f(1)
        3
    """
    return x + y


def _private() -> None:
    """Not shown."""
'''


@pytest.fixture
def results(tmp_path: Path) -> Path:
    entry = {"value": 0.8731, "tol": 0.02, "interval": [0.85, 0.9], "n": 40, "seed": 1}
    count = {"value": 12.0, "tol": 0.0, "interval": None, "n": None, "seed": None}
    (tmp_path / "hooks.json").write_text(json.dumps({"share": entry, "count": count}))
    return tmp_path


def test_a_recorded_number_prints_the_digits_that_its_tolerance_supports(results: Path) -> None:
    claims = load_script("book/_ext", "recorded").read_results(results)["hooks"]
    assert str(claims["share"]) == "0.87"
    assert claims["share"].percent == "87%"
    assert claims["share"].interval == "[0.85, 0.90]"
    assert (claims["share"].n, claims["share"].seed) == (40, 1)
    assert str(claims["count"]) == "12"


def test_a_negative_number_has_a_minus_sign_and_not_a_hyphen() -> None:
    recorded = load_script("book/_ext", "recorded").Recorded(-1.25, 0.01)
    assert str(recorded) == "\N{MINUS SIGN}1.25"


def test_an_interval_that_was_not_recorded_is_an_error(results: Path) -> None:
    claims = load_script("book/_ext", "recorded").read_results(results)["hooks"]
    with pytest.raises(ValueError, match="without an interval"):
        _ = claims["count"].interval


def test_a_name_that_is_not_recorded_fails_where_it_is_used(results: Path) -> None:
    import jinja2

    claims = load_script("book/_ext", "recorded").read_results(results)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    assert environment.from_string("{{ claims.hooks.share }}").render(claims=claims) == "0.87"
    with pytest.raises(jinja2.UndefinedError):
        environment.from_string("{{ claims.hooks.shar }}").render(claims=claims)


@pytest.fixture
def page(tmp_path: Path) -> str:
    package = tmp_path / "steerlib"
    package.mkdir()
    (package / "__init__.py").write_text('_EXPORTS = {"thing": ("f",)}\n')
    (package / "thing.py").write_text(SOURCE)
    return str(load_script("book/_ext", "reference").module_page(tmp_path, "steerlib.thing"))


def test_the_api_page_names_public_things_as_they_are_imported(page: str) -> None:
    assert "{py:function} steerlib.f(x: int, *, y: int=2) -> int" in page
    assert "{py:class} steerlib.thing.Value(size: int, kind: str = 'plain')" in page
    assert "{py:method} steerlib.thing.Value.grown(by: int=1) -> 'Value'" in page
    assert "* `double`: Twice the size." in page
    assert "_private" not in page


def test_sections_of_a_docstring_become_lists_and_code(page: str) -> None:
    assert "**Args**" in page
    assert "* `x`: one number, which\n  is explained at length." in page
    assert "* `ValueError`: never." in page
    assert "```python\n>>> f(1)\n3\n```" in page


def test_the_api_page_is_made_without_importing_steerlib() -> None:
    for path in (ROOT / "book" / "_ext").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in getattr(node, "names", [])]
            imported = [getattr(node, "module", None), *names]
            assert not any(str(name).split(".")[0] in {"steerlib", "torch"} for name in imported)


@pytest.mark.parametrize(
    ("html", "outside"),
    [
        ('<script src="https://cdn.example/x.js"></script>', True),
        ('<link rel="stylesheet" href="//cdn.example/x.css">', True),
        ("<style>@import 'https://fonts.example/x';</style>", True),
        ("<style>a { background: url(https://example.org/a.png) }</style>", True),
        ('<img alt="a" src="https://example.org/a.png">', True),
        ('<a href="https://example.org">a link that a reader may follow</a>', False),
        ('<script src="_static/x.js"></script><img src="data:image/png;base64,AA">', False),
    ],
)
def test_a_page_that_asks_another_machine_is_found(
    tmp_path: Path, html: str, outside: bool
) -> None:
    (tmp_path / "page.html").write_text(html)
    assert bool(list(load_script("tools", "build_book").outside_requests(tmp_path))) == outside


def test_a_page_that_names_a_missing_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "here.css").touch()
    (tmp_path / "page.html").write_text(
        '<link href="here.css?v=1"><a href="#top"></a><a href="https://example.org">'
        '<a href="page.html#part"></a><script src="gone.js?v=2"></script>'
    )
    missing = list(load_script("tools", "build_book").missing_files(tmp_path))
    assert missing == ["page.html: gone.js"]
