"""The API reference, made from the source text alone: no import, and so no torch.

On the page `book/api` a line `% api: steerlib.core.steering` is replaced by the public functions
and classes of that module: signatures as in the source, docstrings rendered as Markdown.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
MARKER = re.compile(r"^% api: ([\w.]+)$", re.MULTILINE)
SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Examples?|Source):\s*$")
PROPERTY = {"property", "cached_property", "functools.cached_property"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def module_file(root: Path, module: str) -> Path:
    """The file of a dotted module name, package or plain."""
    stem = root.joinpath(*module.split("."))
    return stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")


def public(nodes: list[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    """Functions and classes that are named without an underscore and documented."""
    definitions = (node for node in nodes if isinstance(node, Function | ast.ClassDef))
    for node in definitions:
        if not node.name.startswith("_") and ast.get_docstring(node):
            yield node


def signature(node: Function, bound: bool) -> str:
    """`(model, text, *, seed=0) -> str`, without `self` for methods."""
    arguments = ast.unparse(node.args)
    if bound:
        arguments = re.sub(r"^(self|cls)(, (/, )?|$)", "", arguments)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({arguments}){returns}"


def fields(node: ast.ClassDef) -> str:
    """The constructor: of a dataclass its annotated fields, of another class its `__init__`."""
    for child in node.body:
        if isinstance(child, ast.FunctionDef) and child.name == "__init__":
            return signature(child, bound=True).split(" -> ")[0]
    if not any("dataclass" in name for name in decorators(node)):
        return ""
    annotated = [child for child in node.body if isinstance(child, ast.AnnAssign)]
    shown = [_field(child) for child in annotated if "ClassVar" not in ast.unparse(child)]
    return "(" + ", ".join(text for text in shown if not text.startswith("_")) + ")"


def _field(node: ast.AnnAssign) -> str:
    default = ast.unparse(node.value) if node.value else ""
    optional = default and ("default" in default or not default.startswith("field("))
    shown = "..." if default.startswith("field(") else default
    return f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}" + (
        f" = {shown}" if optional else ""
    )


def decorators(node: Function | ast.ClassDef) -> set[str]:
    """The decorators of a definition as they stand in the source."""
    return {ast.unparse(item) for item in node.decorator_list}


def markdown(docstring: str) -> str:
    """A docstring as Markdown: section heads in bold, examples as code, entries as a list."""
    lines, section, code = [], "", False
    for line in docstring.splitlines():
        head = SECTION.match(line)
        is_code = line.lstrip().startswith((">>>", "...")) or (code and bool(line.strip()))
        if is_code != code:
            lines += ["```", ""] if code else ["", "```python"]
            code = is_code
        if head:
            section = head[1]
            lines += ["", f"**{section}**", ""]
        elif code:
            lines.append(line.strip())
        else:
            lines.append(_entry(line) if section else line)
    return "\n".join([*lines, "```"] if code else lines)


def _entry(line: str) -> str:
    """`    name: text` of a section becomes a list item; its deeper lines continue it."""
    indent = len(line) - len(line.lstrip())
    entry = re.match(r"^ {4}(\*{0,2}\w+)(?: \(.*?\))?: (.*)$", line)
    if entry:
        return f"* `{entry[1]}`: {entry[2]}"
    return "  " + line.strip() if indent > 4 else line.strip()


def describe_class(node: ast.ClassDef, prefix: str) -> str:
    """A class with a list of its properties and an entry for each of its methods."""
    name = f"{prefix}.{node.name}"
    members = [child for child in public(node.body) if isinstance(child, Function)]
    properties = [child for child in members if decorators(child) & PROPERTY]
    listed = [f"* `{child.name}`: {summary(child)}" for child in properties]
    methods = [describe(child, name, "method") for child in members if child not in properties]
    body = [markdown(ast.get_docstring(node) or "")]
    body += ["**Properties**\n\n" + "\n".join(listed)] if listed else []
    inner = "\n\n".join([*body, *methods])
    return f"::::::{{py:class}} {name}{fields(node)}\n\n{inner}\n\n::::::"


def describe(node: Function, prefix: str, kind: str = "function") -> str:
    """One `py:` directive of MyST for a function or a method."""
    docs = markdown(ast.get_docstring(node) or "")
    bound = kind == "method" and "staticmethod" not in decorators(node)
    name = f"{prefix}.{node.name}{signature(node, bound)}"
    return f":::::{{py:{kind}}} {name}\n\n{docs}\n\n:::::"


def summary(node: Function) -> str:
    """The first paragraph of a docstring in one line."""
    return " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())


def exported(root: Path) -> set[str]:
    """The names that `import steerlib` offers, from the table in its `__init__`."""
    tree = ast.parse(module_file(root, "steerlib").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_EXPORTS":
            return {name for names in ast.literal_eval(node.value).values() for name in names}
    raise ValueError("steerlib/__init__.py has no table _EXPORTS of its public names")


def module_page(root: Path, module: str) -> str:
    """The section of one module."""
    path = module_file(root, module)
    if not path.exists():
        logger.warning("api: no module %s at %s", module, path.relative_to(root))
        return ""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = exported(root)
    head = f"```{{py:module}} {module}\n```"
    parts = [f"## {module}", head, markdown(ast.get_docstring(tree) or "")]
    for node in public(tree.body):
        prefix = "steerlib" if node.name in top else module
        if isinstance(node, ast.ClassDef):
            parts.append(describe_class(node, prefix))
        else:
            parts.append(describe(node, prefix))
    return "\n\n".join(parts)


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace the markers of the API page."""
    if docname == "book/api":
        root = Path(app.confdir)
        for module in MARKER.findall(source[0]):
            app.env.note_dependency(str(module_file(root, module)))
        source[0] = MARKER.sub(lambda found: module_page(root, found[1]), source[0])


def setup(app: Sphinx) -> None:
    """Fill the page when it is read."""
    app.connect("source-read", fill)
