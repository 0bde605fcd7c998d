"""A page as a reader of HTML sees it: ids, links, embedded pictures, text of cells."""

import base64
import gzip
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Protocol


class Page(HTMLParser):
    """Ids, link targets, pictures and table rows of a page; `outside` are addresses that need a network."""

    VOID = ("meta", "img", "input", "link", "br")

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.pictures, self.outside, self.rows, self.open = [], [], [], [], [], []
        self._cell = None
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if "id" in found:
            self.ids.append(found["id"])
        for address in filter(None, (found.get("href"), found.get("src"))):
            if address.startswith("data:"):
                kind, _, data = address.partition(",")
                self.pictures.append((kind, base64.b64decode(data, validate=True)))
            elif "//" in address:
                self.outside.append(address)
            else:
                self.links.append(address)
        if packed := found.get("data-svg-gzip"):
            self.pictures.append(("svg", gzip.decompress(base64.b64decode(packed, validate=True))))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._cell = ["", None]
        if tag == "a" and self._cell is not None:
            self._cell[1] = found["href"]

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()
        if tag in ("td", "th"):
            self.rows[-1].append(tuple(self._cell))
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell[0] += data.strip()


class MakeRun(Protocol):
    """Makes a finished run of GLoRA on digits below a root; `changes` are of its record."""

    def __call__(self, root: Path, name: str, **changes: Any) -> Path: ...
