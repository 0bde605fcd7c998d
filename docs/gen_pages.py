"""The pages of the site that are made rather than written; a hook of mkdocs (mkdocs.yml), called at every build.

- index.md is the README; what the pages link to outside docs/ comes along below repository/.
- gallery.md shows what `evaluate.py` prints of records in results/.
- config.md has every key of the schema and every option of every group in configs/.
- api/ has what the docstrings of `glora` say, which mkdocstrings reads.
"""

from __future__ import annotations

import dataclasses
import inspect
import io
import posixpath
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, get_args, get_type_hints

from griffe import Docstring, DocstringSectionAttributes
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from omegaconf import MISSING

import glora
from data import ALIASES
from glora.methods import ordered_methods
from glora.search import SEARCHES, Search
from runner.config.fields import in_words
from runner.config.overrides import CONFIGS
from runner.config.preparation import PrepareConf
from runner.config.protocol import Protocol
from runner.config.schema import TrainConf
from runner.config.search import StageSettings
from runner.report.result import collect
from runner.report.show import show
from runner.sweep.conf import RunConf

ROOT = Path(__file__).resolve().parent.parent
ESCAPED = re.compile(r"`[^`\n]*\\\|[^`\n]*`")  # a bar in code in a table: GitHub needs the backslash, the site shows it
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
RECORDS = re.compile(r"^<!-- evaluate.py: (\S+) -->$", re.MULTILINE)
CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
MADE = {"configs": "config.md", "glora": "api/index.md"}
MADE |= {f"configs/{path.name}": f"config.md#{path.name}" for path in CONFIGS.iterdir() if path.is_dir()}
"""Folders that the site has pages of which are made."""

BROUGHT = (".md", ".png", ".svg")
SCRIPTS = "`run.py`, `train.py`, `search.py`, `evaluate.py`, `export.py` and `report.py`"
API = {
    "supernet": ("Supernet", ("supernet", "space", "options", "linear", "conv", "soup", "gates")),
    "search": ("Search", ("search.base", "search.evolution", "search.nsga2", "search.selection", "search.pareto",
                          "search.interface", "winner")),
    "methods": ("Methods", ("methods.base", *sorted({m.__module__.partition(".")[2] for m in ordered_methods()}))),
    "training": ("Training", ("train", "schedule", "sampling", "evaluation", "evaluator", "backbones")),
    "export": ("Export", ("export", "peft_export", "state")),
}  # fmt: skip
"""The pages of api/: title, and modules of `glora`."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and put those that link outside docs/ in the form of the site."""
    pages = {"README.md": "index.md"} | {f"docs/{f.src_uri}": f.src_uri for f in files.documentation_pages()}
    waiting = list(pages)
    pages |= {f"docs/{f.src_uri}": f.src_uri for f in files.media_files()} | MADE
    while waiting:
        source = waiting.pop()
        if Path(source).suffix != ".md":
            _put(files, config, pages[source], abs_src_path=str(ROOT / source))
            continue
        text, linked = as_on_site((ROOT / source).read_text(), source, pages)
        text = RECORDS.sub(lambda match: printed(ROOT / match.group(1)), text)
        _put(files, config, pages[source], content=text)
        waiting += linked
    made = {"config.md": config_page(), "api/index.md": api_index()}
    made |= {f"api/{name}.md": api_page(*page) for name, page in API.items()}
    for uri, content in made.items():
        _put(files, config, uri, content=content)
    return files


def _put(files: Files, config: MkDocsConfig, uri: str, **what: Any) -> None:
    known = files.get_file_from_path(uri)
    if known is not None:
        files.remove(known)
    files.append(File.generated(config, uri, **what))


def as_on_site(text: str, source: str, pages: dict[str, str]) -> tuple[str, list[str]]:
    """A page of the repository with its links as the site has them.

    A picture or page outside docs/ comes along and is added to `pages`; of another file only its path is left.

    Args:
        text: Markdown.
        source: its path in the repository.
        pages: for each path in the repository its path in docs/, as the site sees it.

    Returns:
        The text, and the paths that came to `pages`.
    """
    linked = []

    def moved(match: re.Match[str]) -> str:
        picture, label, target, anchor = match.groups()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if ":" in target or not (ROOT / path).exists() or (path.startswith("docs/") and path not in pages):
            return match.group()  # an address; or what mkdocs is to find, or to miss
        if path not in pages and Path(path).suffix not in BROUGHT:
            return f"`{path}`" if path in label else f"{label} (`{path}`)"
        if path not in pages:
            pages[path] = f"repository/{path}"
            linked.append(path)
        address = posixpath.relpath(pages[path], posixpath.dirname(pages[source]) or ".")
        return f"{picture}[{label}]({address}{anchor or ''})"

    def prose(text: str) -> str:
        return ESCAPED.sub(lambda code: code.group().replace("\\|", "|"), LINK.sub(moved, text))

    parts, at = [], 0
    for block in CODE.finditer(text):
        parts += [prose(text[at : block.start()]), block.group()]
        at = block.end()
    return "".join([*parts, prose(text[at:])]), linked


def printed(root: Path) -> str:
    """What `evaluate.py` shows of the results below a folder, as a block of Markdown."""
    text = io.StringIO()
    with tempfile.TemporaryDirectory() as tables, redirect_stdout(text):
        show(collect(root)[0], Path(tables))
    return f"```text\n{text.getvalue()}```"


def config_page() -> str:
    """Every key with type, default and bounds, and every option of every group."""
    hints = get_type_hints(TrainConf)
    groups = {path.name for path in CONFIGS.iterdir() if path.is_dir()}
    plain = [f for f in dataclasses.fields(TrainConf) if f.name not in groups and not _inner(hints[f.name])]
    inner = [f for f in dataclasses.fields(TrainConf) if f not in plain]
    lines = [
        "# Config", "",
        f"{SCRIPTS} take these keys, as in `python train.py dataset=digits trainer.epochs=5`; a name alone, as in "
        "`trainer=mini`, chooses an option of that group, which sets the keys below it. Made from the schema "
        "(`runner/config/schema.py`) and from `configs/`. A number without bounds of its own is finite and at most "
        "1e30, a whole one at most 2,147,483,647; `null` leaves a key open.", "",
        "## Top level", "", *_table(_rows(TrainConf, "", only={f.name for f in plain})),
    ]  # fmt: skip
    for f in inner:
        kind = _inner(hints[f.name])
        lines += ["", f"## {f.name}", ""]
        lines += _table(_rows(kind, f"{f.name}.")) if kind else _free(f.name)
        lines += _options(f.name) if f.name in groups else []
    for group in sorted(groups - {f.name for f in inner}):
        lines += ["", f"## {group}", "", *_options(group)]
    shared = {f.name for f in dataclasses.fields(TrainConf)}
    for script, keys, beside in (
        ("run.py", RunConf, "All of the above."),
        ("prepare.py", PrepareConf, "`dataset`, `backbone`, `source`, `codec`, `resize`, `data_root` and `plugins` as "
         "above; `suite` is typed as `sweep=`."),
    ):  # fmt: skip
        own = {f.name for f in dataclasses.fields(keys)} - shared
        lines += ["", f"## {script}", "", beside, "", *_table(_rows(keys, "", own))]
    return "\n".join(lines) + "\n"


def _inner(hint: Any) -> Any:
    """The dataclass that a type is, or that it holds: of `X | None`, of `dict[str, X]`; else None."""
    return next((t for t in (hint, *get_args(hint)) if dataclasses.is_dataclass(t)), None)


def _free(group: str) -> Iterator[str]:
    """The keys of the groups that the schema leaves to what is chosen."""
    if group == "protocol":
        yield from _table(_rows(Protocol, "protocol."))
        return
    shared = {f.name for f in dataclasses.fields(Search.settings())}
    yield from _table([*_rows(StageSettings, "search."), *_settings(Search, shared)])
    for name, kind in SEARCHES.items():
        own = {f.name for f in dataclasses.fields(kind.settings())} - shared
        if own:
            yield from ["", f"`search={name}` has beside them:", "", *_table(_settings(kind, own))]


def _settings(kind: type[Search[Any]], only: set[str]) -> Iterator[Row]:
    """The rows of a search's settings, some of which have another name among the attributes of its class."""
    told = {f.metadata.get("key", f.name): _told(kind).get(f.name, "") for f in dataclasses.fields(kind)}
    return _rows(kind.settings(), "search.", only, told)


Row = tuple[str, str, str, str, str]


def _rows(kind: Any, prefix: str, only: set[str] | None = None, told: Mapping[str, str] | None = None) -> Iterator[Row]:
    """Key, type, default, bounds and meaning of the fields of a dataclass, and of those inside it."""
    hints, told = get_type_hints(kind), _told(kind) if told is None else told
    for f in dataclasses.fields(kind):
        if only is not None and f.name not in only:
            continue
        inner = _inner(hints[f.name])
        if inner is not None:
            many = "" if dataclasses.is_dataclass(hints[f.name]) else f"<{f.name.removesuffix('s')}>."
            yield from _rows(inner, f"{prefix}{f.name}.{many}")
        else:
            shown = f.type if isinstance(f.type, str) else getattr(f.type, "__name__", str(f.type))
            shown = shown.replace("None", "null")
            yield f"{prefix}{f.name}", shown, _default(f), in_words(f.metadata), told.get(f.name, "")


def _default(f: dataclasses.Field[Any]) -> str:
    value = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
    if value is dataclasses.MISSING or value == MISSING:
        return ""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value) or '""'


def _told(kind: type) -> dict[str, str]:
    """What the docstrings of a class and of its bases say of each attribute."""
    found: dict[str, str] = {}
    for of in reversed(kind.__mro__):
        for part in Docstring(inspect.cleandoc(of.__doc__ or "")).parse("google"):
            if isinstance(part, DocstringSectionAttributes):
                found |= {a.name: " ".join(a.description.split()) for a in part.value}
    return found


def _table(rows: Iterable[Row]) -> list[str]:
    lines = ["| key | type | default | allowed | meaning |", "| --- | --- | --- | --- | --- |"]
    for *row, meaning in rows:
        row.append(re.sub(r"docs/(\w+)\.md", r"[\1](\1.md)", meaning))
        lines.append("| " + " | ".join(f"`{text}`" if text and i < 3 else text for i, text in enumerate(row)) + " |")
    return lines


def _options(group: str) -> Iterator[str]:
    """The options of a group, each with its first comment and what it sets."""
    if group == "method":
        yield from ["", "Options of each method:", "", "| method | method.options |", "| --- | --- |"]
        for method in ordered_methods():
            options = ", ".join(f"`{k}={list(v) if isinstance(v, tuple) else v}`" for k, v in method.options().items())
            yield f"| `{method.name}` | {options} |"
    yield from ["", f"`{group}=` takes:", ""]
    for path in sorted((CONFIGS / group).glob("*.yaml")):
        text = path.read_text()
        comment = next(line for line in text.splitlines() if line.startswith("# ") and "@package" not in line)
        yield from [f'??? note "{path.stem}"', f"    `{comment.removeprefix('# ')}`", "", "    ```yaml"]
        settings = [line for line in text.splitlines() if not line.startswith("#")]
        yield from [*(f"    {line}".rstrip() for line in settings), "    ```", ""]
    if group == "dataset":
        yield "The same by other names: " + ", ".join(f"`{a}` ({task})" for a, task in ALIASES.items()) + "."


def api_index() -> str:
    """What `import glora` offers, each name with the first line of its docstring."""
    lines = ["# API", "", inspect.cleandoc(glora.__doc__ or ""), "",
             "What `glora` exports; the pages beside this one go through its modules.", ""]  # fmt: skip
    for name in glora.__all__:
        kind = getattr(glora, name)
        first = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
        lines.append(f"- [`{name}`][{kind.__module__}.{name}]: {first}")
    return "\n".join(lines) + "\n"


def api_page(title: str, modules: tuple[str, ...]) -> str:
    """What the docstrings of some modules of `glora` say."""
    lines = [f"# {title}", ""]
    for module in modules:
        lines += [f"## glora.{module}", "", f"::: glora.{module}", "    options: {heading_level: 3}", ""]
    return "\n".join(lines)
