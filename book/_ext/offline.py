"""Pages that need no network and open from a folder: everything they load lies beside them."""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

ASSETS = "book/assets"
# sphinx-thebe adds its scripts even when thebe is off, with the address of a CDN in one of them.
REMOTE = re.compile(r"thebe", re.IGNORECASE)
# MathJax loads an extension when a formula asks for it: only a shipped one may be asked for.
AUTOLOAD = {
    "boldsymbol": ["boldsymbol"],
    "braket": ["bra", "ket", "braket"],
    "cancel": ["cancel", "bcancel", "xcancel"],
    "color": [["color", "textcolor"], []],
    "enclose": ["enclose"],
}
ABSENT = ("action", "amscd", "bbox", "bussproofs", "extpfeil", "html", "mhchem", "unicode", "verb")


def use_local_assets(app: Sphinx, config: Config) -> None:
    """Take MathJax and the style sheet from this repository."""
    # Its own folder: Jupyter Book would load every script under `_static/` on every page.
    config.html_static_path.append(ASSETS)
    config.mathjax_path = "mathjax/tex-mml-chtml.js"
    autoload: dict[str, Any] = AUTOLOAD | {name: [] for name in ABSENT}
    config.mathjax3_config = {
        "tex": {"autoload": autoload},
        "options": {"enableMenu": False},
    }


def mend_theme(app: Sphinx) -> None:
    """Set single keys of the theme: replacing all of them would wipe the launch buttons."""
    app.add_css_file("steerbook.css", priority=900)
    options = app.builder.theme_options if hasattr(app.builder, "theme_options") else {}
    # sphinx-book-theme 1.3 shows an empty header with a second search box otherwise.
    options["navbar_persistent"] = []


def strip_remote(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Drop the scripts that would reach for another machine, and their styles."""
    for kind in ("script_files", "css_files"):
        context[kind] = [asset for asset in context.get(kind, []) if not _is_remote(asset)]


def _is_remote(asset: Any) -> bool:
    text = f"{getattr(asset, 'filename', asset)} {getattr(asset, 'attributes', {})}"
    return bool(REMOTE.search(text))


def clean_static(app: Sphinx, error: Exception | None) -> None:
    """Remove what was copied beside the pages although no page uses it."""
    if error is None and app.builder.format == "html":
        for leftover in ("sphinx-thebe.js", "sphinx-thebe.css"):
            Path(app.outdir, "_static", leftover).unlink(missing_ok=True)


def setup(app: Sphinx) -> None:
    """Connect to the build; `strip_remote` comes last, after every extension added its scripts."""
    app.connect("config-inited", use_local_assets, priority=400)
    app.connect("builder-inited", mend_theme, priority=900)
    app.connect("html-page-context", strip_remote, priority=999)
    app.connect("build-finished", clean_static)
