"""The site builds in strict mode; every link and anchor in it resolves; the config page leaves nothing out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from omegaconf import DictConfig, OmegaConf

import glora
from runner.config.preparation import PrepareConf
from runner.sweep.conf import RunConf
from tests.helpers import ROOT
from tests.helpers.composing import CONFIGS, composed


class Page(HTMLParser):
    """Ids, addresses, and the text of a page of the site."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.code: set[str] = set()
        self.text = ""
        self._tag = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {value for key in ("id", "name") if (value := found.get(key))}
        address = found.get("href") or found.get("src")
        if address is not None:
            (self.links if tag == "a" else self.loads).append(address)
        self._tag = tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._tag == "code":
            self.code.add(data)
        self._tag = ""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    """The pages of a strict build: a broken link, a page missing or a docstring at odds with its function ends it."""
    folder = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True)
    build(config)
    return {path: Page(path) for path in folder.rglob("*.html")}


def page(site: dict[Path, Page], name: str) -> Page:
    (found,) = (page for path, page in site.items() if path.as_posix().endswith(f"/{name}"))
    return found


def test_every_link_and_anchor_resolves(site: dict[Path, Page]) -> None:
    broken, checked = [], 0
    for path, found in site.items():
        if path.name == "404.html":  # served at any address, so its links are of the server's root
            continue
        for address in found.links + found.loads:
            target, anchor = urldefrag(address)
            if re.match(r"(https?|mailto|data):", address):
                continue
            checked += 1
            file = (path.parent / unquote(target)).resolve() if target else path
            if not file.is_file():
                broken.append(f"{path.name}: {address} is no file")
            elif anchor and file.suffix == ".html" and unquote(anchor) not in site[file].ids:
                broken.append(f"{path.name}: {address} is no place on that page")
    assert not broken and checked > 1000, "\n".join(broken)


def test_nothing_is_loaded_from_a_network(site: dict[Path, Page]) -> None:
    loads = [address for found in site.values() for address in found.loads]
    assert len(loads) > 100 and not [address for address in loads if re.match(r"(https?:)?//", address)]


def keys(conf: DictConfig, prefix: str = "") -> Iterator[str]:
    """The dotted keys of the leaves, null ones and empty mappings included."""
    for key in conf:
        missing = OmegaConf.is_missing(conf, key)
        value = None if missing else conf[key]
        if isinstance(value, DictConfig) and len(value):
            yield from keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_every_key_is_on_the_config_page(site: dict[Path, Page]) -> None:
    found = page(site, "config.html")
    schemas = [OmegaConf.structured(kind) for kind in (RunConf, PrepareConf)]
    wanted = {key for conf in schemas for key in keys(conf)} - {"dataset", "protocol", "search", "method.trainers"}
    wanted |= {f"method.trainers.<trainer>.{key}" for key in ("lr", "epochs", "retrain_lr", "retrain_epochs", "search")}
    for search in ("evolution", "nsga2", "random"):
        composed_keys = composed("dataset=digits", f"search={search}")
        wanted |= {
            key for group in ("search", "protocol", "dataset") for key in keys(composed_keys[group], f"{group}.")
        }
    assert len(wanted) > 100 and not wanted - found.code


def test_every_key_has_a_meaning_and_bounds_are_the_schemas(site: dict[Path, Page]) -> None:
    (path,) = (path for path in site if path.name == "config.html")
    rows = re.findall(r"<tr>\s*(.*?)\s*</tr>", path.read_text(), re.DOTALL)
    cells = [[re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td>(.*?)</td>", row, re.DOTALL)] for row in rows]
    keyed = {row[0]: row[1:] for row in cells if len(row) == 5}
    assert not [key for key, row in keyed.items() if not row[-1]]
    assert keyed["trainer.epochs"][:3] == ["int | null", "null", "at least 1 and at most 1000000"]
    assert keyed["precision"][:3] == ["str", "fp32", "one of fp32, bf16"]
    assert keyed["backbone.drop_path_rate"][2] == "at least 0 and below 1" and keyed["dataset.lr"][2] == "positive"


def test_every_option_of_every_group_is_on_the_config_page(site: dict[Path, Page]) -> None:
    (path,) = (path for path in site if path.name == "config.html")
    chapters = dict(re.findall(r'<h2 id="(\w+)">(.*?)(?=<h2|</article)', path.read_text(), re.DOTALL))
    options = [path for path in CONFIGS.rglob("*.yaml") if path.parent != CONFIGS]
    assert len(options) > 70
    for option in options:
        assert f"<summary>{option.stem}</summary>" in chapters[option.parent.name], option


def test_what_glora_exports_is_in_the_api(site: dict[Path, Page]) -> None:
    index = page(site, "api/index.html")
    anchors = {urldefrag(address)[1] for address in index.links}
    for name in glora.__all__:
        assert f"{getattr(glora, name).__module__}.{name}" in anchors, name


def test_the_pictures_are_small(site: dict[Path, Page]) -> None:
    pictures = [p for p in (ROOT / "docs").rglob("*") if p.suffix in (".png", ".svg", ".jpg", ".webp")]
    assert len(pictures) >= 5 and sum(p.stat().st_size for p in pictures) < 600_000
    shown = {Path(address).name for found in site.values() for address in found.loads}
    assert {p.name for p in pictures} <= shown
