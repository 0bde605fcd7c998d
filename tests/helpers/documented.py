"""What a reader of the README and of docs/ types: code blocks and commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.helpers import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
SCRIPTS = ("run", "train", "search", "evaluate", "export", "report", "prepare")
COMMAND = re.compile(rf"(?:^(?: {{4}})?|`)(python (?:{'|'.join(SCRIPTS)})\.py\b[^`<\n]*)(?:$|`)", re.MULTILINE)


class Command(NamedTuple):
    """A line that runs one of the scripts."""

    page: Path
    script: str
    words: list[str]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {shlex.join(['python', f'{self.script}.py', *self.words])}"


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[Command]:
    """Every command of a page that stands on a line of its own, or is code in a sentence, but for <placeholders>."""
    for line in COMMAND.findall(page.read_text()):
        words = shlex.split(line, comments=True)
        yield Command(page, words[1].removesuffix(".py"), words[2:])


def titled(page: Path) -> dict[str, str]:
    """The blocks of a page that begin with the path of a file, as in `# /my/norms.py`: content by path."""
    found = (re.match(r"# (/my/\S+)\n", block) for language in ("python", "yaml") for block in blocks(page, language))
    return {match.group(1): match.string for match in found if match}
