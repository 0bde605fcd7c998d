"""Copies made by tensorflow-datasets' own generators from small raw archives, through build=yes, against source=raw.

Needs TensorFlow (`pip install -e '.[data,tfds-build]'`): `make test-tensorflow`. Nothing is downloaded: the download
manager is given our files.
"""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data import get_task, load_split
from data.base import STORED_SPLITS
from data.build import build
from data.sources.processing import PETS_RECODED
from data.sources.raw import raw
from data.sources.tfds import tfds
from runner.config.preparation import PrepareConf, read_preparations
from runner.stages.prepare import prepare_all
from tests.helpers.composing import composed
from tests.helpers.vtab_raw import MAKERS, image_array, save, write_norb
from tests.helpers.vtab_tfds import BUILDERS, assert_same

pytestmark = pytest.mark.tensorflow


def _cifar100(root: Path) -> None:
    for name, count in (("coarse", 20), ("fine", 100)):
        text = "".join(f"{name}{i}\n" for i in range(count))
        (root / "cifar-100-binary" / f"{name}_label_names.txt").write_text(text)


def _smallnorb(root: Path) -> None:
    for packed in list(root.glob("*-info.mat.gz")):
        count = int(np.frombuffer(gzip.decompress(packed.read_bytes()), "<i4", 1, 8)[0])
        write_norb(Path(str(packed).replace("-info", "-cat")), (np.arange(count) % 5).astype("<i4"))
    for packed in root.glob("*.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))


def _clevr(root: Path) -> None:
    root, same = root / "CLEVR_v1.0", {"color": "gray", "material": "rubber", "shape": "cube", "size": "small",
                                       "rotation": 0.0, "3d_coords": [0.0, 0.0, 0.0]}  # fmt: skip
    save(root / "images" / "test" / "CLEVR_test_000000.png")
    (root / "questions").mkdir()
    for split in ("train", "val", "test"):
        (root / "questions" / f"CLEVR_{split}_questions.json").write_text('{"questions": []}')
    for path in (root / "scenes").iterdir():
        content = json.loads(path.read_text())
        for scene in content["scenes"]:
            scene["objects"] = [same | found for found in scene["objects"]]
        path.write_text(json.dumps(content))


def _kitti(root: Path) -> None:
    for name, folder in (("data_object_image_2", "training/image_2"), ("data_object_label_2", "training/label_2"),
                         ("devkit_object", "mapping")):  # fmt: skip
        with zipfile.ZipFile(root / f"{name}.zip", "w") as packed:
            for path in sorted((root / folder).iterdir()):
                packed.write(path, f"{folder}/{path.name}")


def _real_names(images: Path, builder: str) -> list[tuple[str, str]]:
    """Give the class folders the names that the generator knows, in its order; (old, new)."""
    import tensorflow_datasets

    names = tensorflow_datasets.builder(builder, data_dir=str(images / "none")).info.features["label"].names
    pairs = list(zip(sorted(path.name for path in images.iterdir()), names, strict=True))
    for old, new in pairs:
        (images / old).rename(images / new)
    return pairs


def _dtd(root: Path) -> None:
    pairs = _real_names(root / "dtd" / "images", "dtd")
    for path in (root / "dtd" / "labels").iterdir():
        text = path.read_text()
        for old, new in pairs:
            text = text.replace(f"{old}/", f"{new}/")
        path.write_text(text)


def _eurosat(root: Path) -> None:
    for old, new in _real_names(root / "2750", "eurosat/rgb"):
        for path in (root / "2750" / new).iterdir():
            path.rename(path.with_name(path.name.replace(old, new)))


def _svhn(root: Path) -> None:
    (root / "extra_32x32.mat").write_bytes((root / "test_32x32.mat").read_bytes())


def _pets(root: Path) -> None:
    from PIL import Image

    lists = root / "annotations" / "trainval.txt"
    text = lists.read_text().partition("\n")[2]  # the generator takes no comments
    (root / "annotations" / "test.txt").write_text((root / "annotations" / "test.txt").read_text().partition("\n")[2])
    for i, name in enumerate(sorted(PETS_RECODED)):
        (root / "images" / f"Pet_trainval_{i}.jpg").unlink()
        text = text.replace(f"Pet_trainval_{i} ", f"{name} ")
        png = Image.fromarray(image_array((30, 40))).convert(("RGB", "RGBA", "L", "P")[i % 4])
        png.save(root / "images" / f"{name}.jpg", "PNG")
    lists.write_text(text)
    for path in (root / "images").iterdir():
        save(root / "annotations" / "trimaps" / f"{path.stem}.png", image_array((2, 2))[..., 0])


COMPLETE: dict[str, Callable[[Path], None]] = {
    "cifar100": _cifar100, "smallnorb": _smallnorb, "clevr": _clevr, "kitti": _kitti,
    "dtd": _dtd, "eurosat": _eurosat, "svhn_cropped": _svhn, "oxford_iiit_pet": _pets,
    "dsprites": lambda root: None,
}  # fmt: skip
"""What the generators read and source=raw does not."""


def give(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Let the download manager return the files of `root`; what is no file there is the unpacked folder itself."""
    from etils import epath
    from tensorflow_datasets.core.download.download_manager import DownloadManager

    def path_of(url: Any) -> Any:
        if isinstance(url, dict):
            return {key: path_of(value) for key, value in url.items()}
        name = str(getattr(url, "url", url)).partition("?")[0].rpartition("/")[2]
        found = root / name.removesuffix(".gz")
        return epath.Path(found if found.is_file() else root)

    monkeypatch.setattr(DownloadManager, "download", lambda self, urls: path_of(urls))
    monkeypatch.setattr(DownloadManager, "download_and_extract", lambda self, urls: path_of(urls))


@pytest.mark.parametrize("name", COMPLETE)
def test_what_tensorflow_datasets_builds_is_what_raw_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    root = tmp_path / "raw" / name
    MAKERS[name](root)
    COMPLETE[name](root)
    give(monkeypatch, root)
    monkeypatch.setattr("runner.stages.prepare.build", partial(build, exact=False))  # the archives are small
    (tasks,) = (tasks for builder, tasks in BUILDERS.items() if builder.partition("/")[0] == name)

    def prepared(*more: str) -> bool:
        overrides = [[f"dataset={task_id}", "source=tfds", f"data_root={tmp_path}", *more] for task_id in tasks]
        configs = [composed(*each, config="prepare", keys=PrepareConf) for each in overrides]
        return prepare_all([one for config in configs for one in read_preparations(config, ())])

    assert not prepared() and "build it with build=yes" in capfd.readouterr().err
    assert prepared("build=yes"), capfd.readouterr().err
    for task_id in tasks:
        task = get_task(task_id)
        assert_same(raw(tmp_path / "raw", task), tfds(tmp_path / "tfds", task), task_id)
        assert len(load_split(task_id, "train800", data_root=tmp_path).labels) == 800
        assert build(task, tmp_path, "raw", exact=False)
        both = [[load_split(task_id, s, data_root=tmp_path, source=source).content_hash for s in STORED_SPLITS[:2]]
                for source in ("tfds", "raw")]  # fmt: skip
        assert both[0] == both[1]
