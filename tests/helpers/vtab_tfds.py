"""Copies as tensorflow-datasets prepares them: array_record through its own writer, tfrecord by its format's rules."""

from __future__ import annotations

import inspect
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets
from array_record.python.array_record_module import ArrayRecordReader
from etils import epath
from PIL import Image

from data import get_task
from data.base import STORED_SPLITS
from data.build import select
from data.images import prepare_image
from data.sources.base import Example, Listing
from data.vtab_table import VTAB_BY_ID, VTAB_ROWS
from tests.helpers.vtab_raw import CLEVR_DEPTHS

BUILDERS = {row.builder: [r.id for r in VTAB_ROWS if r.builder == row.builder] for row in VTAB_ROWS}
"""The tasks of every builder."""

Row = dict[str, Any]


def tfds_copy(root: Path, task_id: str, sizes: dict[str, int], example: Callable[[str, int], tuple[Any, Row]]) -> Path:
    """A prepared array_record copy under the real name, features and keys, built without TensorFlow; its folder."""
    name, _, config = VTAB_BY_ID[task_id].builder.partition("/")
    kind = tensorflow_datasets.builder_cls(name)

    class Fake(kind, skip_registration=True):  # type: ignore[misc, valid-type, call-arg]
        name = kind.name
        # Where the real builder's metadata lie; it fills this in itself only once it has been made.
        pkg_dir_path = epath.Path(inspect.getfile(kind)).parent

        def _split_generators(self, manager):  # type: ignore[no-untyped-def]
            return {split: self._generate_examples(split) for split in sizes}

        def _generate_examples(self, split):  # type: ignore[no-untyped-def]
            for i in range(sizes[split]):
                key, row = example(split, i)
                yield key, {f: row[f] if f in row else filler(feature) for f, feature in self.info.features.items()}

    builder = Fake(data_dir=str(root), file_format="array_record", config=config or None)
    builder.download_and_prepare(
        download_config=tensorflow_datasets.download.DownloadConfig(try_download_gcs=False, register_checksums=False)
    )
    return Path(builder.data_dir)


def filler(feature: Any) -> Any:
    """Some value for a feature that our reader does not look at."""
    kind = type(feature).__name__
    if kind == "Image":
        return png(np.zeros((2, 2), np.uint8))
    if kind == "BBoxFeature":
        return tensorflow_datasets.features.BBox(0.0, 0.0, 1.0, 1.0)
    return {"Text": "x", "Sequence": []}.get(kind, 0)


def png(array: np.ndarray) -> io.BytesIO:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    stream.seek(0)
    return stream


def png_of(example: Example) -> io.BytesIO:
    image = example.image if isinstance(example.image, np.ndarray) else None
    return png(image) if image is not None else io.BytesIO(example.image)


def simple_row(i: int, e: Example) -> Row:
    return {"image": png_of(e), "label": e.label}


def dsprites_row(i: int, e: Example) -> Row:
    image = e.image
    assert isinstance(image, np.ndarray)
    values = {f"value_{k}": 0.0 for k in ("shape", "scale", "orientation", "x_position", "y_position")}
    return {"image": png(image // 255), **values, "label_orientation": i % 40, "label_x_position": i % 32}


def smallnorb_row(i: int, e: Example) -> Row:
    return {"image": png_of(e), "image2": png_of(e), "label_elevation": i % 9, "label_azimuth": i % 18}


def clevr_row(i: int, e: Example) -> Row:
    depths = [CLEVR_DEPTHS[i % 7]] + [12.5] * (2 + i % 8)
    same = {"color": "gray", "material": "rubber", "shape": "cube", "size": "small", "rotation": 0.0,
            "3d_coords": [0.0, 0.0, 0.0]}  # fmt: skip
    return {"image": png_of(e), "objects": [{**same, "pixel_coords": [1.0, 2.0, d]} for d in depths]}


def kitti_row(i: int, e: Example) -> Row:
    """The label file, parsed once more; an image without objects is among them where the file has none."""
    lines = Path(e.name).parent.parent.joinpath("label_2", f"{Path(e.name).stem}.txt").read_text().splitlines()
    rows = [line.split() for line in lines if not line.startswith("DontCare")]
    objects = [{"type": r[0], "truncated": 0.0, "occluded": 0, "alpha": 0.0, "dimensions": [1.0] * 3,
                "bbox": tensorflow_datasets.features.BBox(0.0, 0.0, 1.0, 1.0),
                "location": [float(v) for v in r[11:14]], "rotation_y": 0.0} for r in rows]  # fmt: skip
    return {"image": png_of(e), "objects": objects}


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc_table()


def masked_crc(data: bytes) -> bytes:
    """CRC32C (Castagnoli), rotated right by 15 bits and offset, as tfrecord files hold it."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 255] ^ value >> 8
    value ^= 0xFFFFFFFF
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def as_tfrecord(folder: Path, shards: int = 2) -> None:
    """Turn an array_record copy into the tfrecord copy of the same examples, in `shards` contiguous shards."""
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text())
    for split in info["splits"]:
        old = sorted(folder.glob(f"*-{split['name']}.array_record-*"))
        rows = [row for file in old for row in ArrayRecordReader(str(file)).read_all()]
        cuts = [len(rows) * i // shards for i in range(shards + 1)]
        split["shardLengths"] = [str(b - a) for a, b in zip(cuts, cuts[1:], strict=False)]
        for i in range(shards):
            name = f"{info['name']}-{split['name']}.tfrecord-{i:05d}-of-{shards:05d}"
            with (folder / name).open("wb") as stream:
                for row in rows[cuts[i] : cuts[i + 1]]:
                    head = struct.pack("<Q", len(row))
                    stream.write(head + masked_crc(head) + row + masked_crc(row))
        for file in old:
            file.unlink()
    info["fileFormat"] = "tfrecord"
    path.write_text(json.dumps(info))


def assert_same(ours: dict[str, Listing], theirs: dict[str, Listing], task_id: str) -> None:
    """All labels in order, and the pixels of the first images of each split."""
    task = get_task(task_id)
    one, two = select(task, ours, exact=False), select(task, theirs, exact=False)
    for split in STORED_SPLITS:
        (a, at), (b, bt) = one[split], two[split]
        assert len(at) == len(bt) > 0
        for n, (i, j) in enumerate(zip(at, bt, strict=True)):
            left, right = a.get(i), b.get(j)
            assert left.label == right.label
            if n < 50:
                x, y = (prepare_image(e.image, e.name, 64) for e in (left, right))
                assert np.array_equal(x, y)
