"""Small raw data sets in their real on-disk formats, made from nothing, for all tasks that source=raw reads."""

from __future__ import annotations

import gzip
import io
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from data import get_task

RNG = np.random.default_rng(0)


def image_array(side: int | tuple[int, int] = 20) -> np.ndarray:
    height, width = (side, side) if isinstance(side, int) else side
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, array: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image_array() if array is None else array).save(path)


def cifar100(root: Path, train: int = 2100, test: int = 12) -> None:
    (root / "cifar-100-binary").mkdir(parents=True)
    for split, n in (("train", train), ("test", test)):
        rows = RNG.integers(0, 256, (n, 3074), dtype=np.uint8)
        rows[:, 0], rows[:, 1] = np.arange(n) % 20, np.arange(n) % 100
        (root / "cifar-100-binary" / f"{split}.bin").write_bytes(rows.tobytes())


def svhn_cropped(root: Path, train: int = 2100, test: int = 12) -> None:
    from scipy.io import savemat

    root.mkdir(parents=True)
    for split, n in (("train", train), ("test", test)):
        images = RNG.integers(0, 256, (32, 32, 3, n), dtype=np.uint8)
        savemat(root / f"{split}_32x32.mat", {"X": images, "y": (np.arange(n) % 10 + 1).astype(np.uint8)[:, None]})


def dsprites(root: Path, n: int = 2100) -> None:
    import h5py

    root.mkdir(parents=True)
    with h5py.File(root / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.hdf5", "w") as file:
        file["imgs"] = RNG.integers(0, 2, (n, 64, 64), dtype=np.uint8)
        classes = np.zeros((n, 6), np.int64)
        classes[:, 3], classes[:, 4] = np.arange(n) % 40, np.arange(n) % 32
        file["latents/classes"], file["latents/values"] = classes, classes.astype(float)


def write_norb(path: Path, array: np.ndarray) -> None:
    magic = {np.dtype("u1"): 0x1E3D4C55, np.dtype("<i4"): 0x1E3D4C54}[array.dtype]
    shape = [*array.shape, 1, 1][: max(3, array.ndim)]
    path.write_bytes(gzip.compress(struct.pack(f"<{2 + len(shape)}i", magic, array.ndim, *shape) + array.tobytes()))


def smallnorb(root: Path, n: int = 900) -> None:
    root.mkdir(parents=True)
    for stem in ("smallnorb-5x46789x9x18x6x2x96x96-training", "smallnorb-5x01235x9x18x6x2x96x96-testing"):
        write_norb(root / f"{stem}-dat.mat.gz", RNG.integers(0, 256, (n, 2, 96, 96), dtype=np.uint8))
        info = np.stack([np.arange(n) % 5, np.arange(n) % 9, 2 * (np.arange(n) % 18), np.arange(n) % 6], 1)
        write_norb(root / f"{stem}-info.mat.gz", info.astype("<i4"))


def patch_camelyon(root: Path) -> None:
    import h5py

    root.mkdir(parents=True)
    for split, n in (("train", 850), ("valid", 210), ("test", 12)):
        with h5py.File(root / f"camelyonpatch_level_2_split_{split}_x.h5", "w") as file:
            file["x"] = RNG.integers(0, 256, (n, 96, 96, 3), dtype=np.uint8)
        with h5py.File(root / f"camelyonpatch_level_2_split_{split}_y.h5", "w") as file:
            file["y"] = (np.arange(n) % 2).astype(np.uint8).reshape(n, 1, 1, 1)


def dtd(root: Path) -> None:
    names = [f"class{i:02d}" for i in range(47)]
    for split, n in (("train1", 846), ("val1", 235), ("test1", 47)):
        keys = [f"{names[i % 47]}/{names[i % 47]}_{split}{i}.jpg" for i in range(n)]
        for key in keys:
            save(root / "dtd" / "images" / key)
        (root / "dtd" / "labels").mkdir(exist_ok=True)
        (root / "dtd" / "labels" / f"{split}.txt").write_text("".join(f"{key}\n" for key in keys))


def oxford_flowers102(root: Path) -> None:
    from scipy.io import savemat

    n = 850 + 210 + 20
    for i in range(1, n + 1):
        save(root / "jpg" / f"image_{i:05d}.jpg")
    savemat(root / "imagelabels.mat", {"labels": (np.arange(n) % 102 + 1)[None]})
    ids = RNG.permutation(np.arange(1, n + 1))
    savemat(root / "setid.mat", {"trnid": ids[None, :850], "valid": ids[None, 850:1060], "tstid": ids[None, 1060:]})


def oxford_iiit_pet(root: Path) -> None:
    (root / "annotations").mkdir(parents=True)
    for split, n in (("trainval", 1050), ("test", 20)):
        rows = [f"Pet_{split}_{i} {i % 37 + 1} 1 {i % 3}" for i in range(n)]
        (root / "annotations" / f"{split}.txt").write_text("#Image CLASS-ID SPECIES\n" + "\n".join(rows) + "\n")
        for row in rows:
            save(root / "images" / f"{row.split()[0]}.jpg")


def eurosat(root: Path) -> None:
    for i in range(1050):
        save(root / "2750" / f"Class{i % 10}" / f"Class{i % 10}_{i // 10 + 1}.jpg")


def resisc45(root: Path) -> None:
    for i in range(1080):
        save(root / "NWPU-RESISC45" / f"class_{i % 45:02d}" / f"class_{i % 45:02d}_{i // 45 + 1:03d}.jpg")


def eye(side: int = 60) -> np.ndarray:
    """A textured disc on black, off the middle, as a fundus camera gives it."""
    y, x = np.mgrid[:side, : side + 14]
    inside = (y - side / 2) ** 2 + (x - side / 2 - 5) ** 2 < (0.45 * side) ** 2
    return (image_array((side, side + 14)) // 2 + 90) * inside[..., None].astype(np.uint8)


def diabetic_retinopathy_detection(root: Path) -> None:
    rows = {"train": [f"{i}_{side},{i % 5}" for i in range(420) for side in ("left", "right")],
            "test": [f"{i}_left,{i % 5},{'Private' if i % 20 == 0 else 'Public'}" for i in range(220)]}  # fmt: skip
    for folder, lines in rows.items():
        for line in lines:
            save(root / folder / f"{line.partition(',')[0]}.jpeg", eye())
    (root / "trainLabels.csv").write_text("image,level\n" + "\n".join(rows["train"]) + "\n")
    (root / "retinopathy_solution.csv").write_text("image,level,Usage\n" + "\n".join(rows["test"]) + "\n")


CLEVR_DEPTHS = (8.0, 8.0001, 8.5, 9.0, 9.5, 10.0, 10.01)


def clevr(root: Path) -> None:
    folder = root / "CLEVR_v1.0"
    for split, n in (("train", 2000), ("val", 15)):
        scenes = []
        for i in range(n):
            depths = [CLEVR_DEPTHS[i % 7]] + [12.5] * (2 + i % 8)
            name = f"CLEVR_{split}_{i:06d}.png"
            scenes.append({"image_filename": name, "objects": [{"pixel_coords": [1, 2, d]} for d in depths]})
            save(folder / "images" / split / name, image_array((8, 12)))
        (folder / "scenes").mkdir(exist_ok=True)
        (folder / "scenes" / f"CLEVR_{split}_scenes.json").write_text(json.dumps({"info": {}, "scenes": scenes}))


KITTI_DEPTHS = (8.0, 8.01, 20.0, 20.01)


def kitti(root: Path, n: int = 2640, videos: int = 12) -> None:
    (root / "mapping").mkdir(parents=True)
    lines = [f"2011_09_26 2011_09_26_drive_{i % videos:04d}_sync {i:010d}" for i in range(n)]
    (root / "mapping" / "train_mapping.txt").write_text("\n".join(lines) + "\n")
    (root / "mapping" / "train_rand.txt").write_text(",".join(str(x) for x in RNG.permutation(n) + 1))
    for i in range(n):
        save(root / "training" / "image_2" / f"{i:06d}.png", image_array((6, 20)))
        kind = ("Car", "Van", "Truck", "Pedestrian", "DontCare")[i % 5]
        other = "Van 0 0 0 1 2 3 4 1 1 1 0 0 20.0 0" if i % 3 else "Cyclist 0 0 0 1 2 3 4 1 1 1 0 0 2.0 0"
        rows = [f"{kind} 0.00 0 -1.5 1 2 3 4 1.5 1.6 3.7 1.0 1.5 {KITTI_DEPTHS[i % 4]} 0.1", other]
        (root / "training" / "label_2").mkdir(exist_ok=True)
        (root / "training" / "label_2" / f"{i:06d}.txt").write_text("\n".join(rows) + "\n")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _message(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def tf_example(image: bytes, filename: bytes, label: int) -> bytes:
    """A tf.train.Example as its proto definition says: bytes lists are field 1 of Feature, int64 lists field 3."""
    features = {"image": _message(1, _message(1, image)), "filename": _message(1, _message(1, filename)),
                "label": _message(3, _message(1, _varint(label)))}  # fmt: skip
    entries = (_message(1, _message(1, name.encode()) + _message(2, f)) for name, f in features.items())
    return _message(1, b"".join(entries))


def dmlab(root: Path) -> None:
    root.mkdir(parents=True)
    for split, n in (("train", 820), ("validation", 205), ("test", 20)):
        for shard in range(2):
            with (root / f"dmlab-{split}.tfrecord-{shard:05d}-of-00002").open("wb") as stream:
                for i in range(shard, n, 2):
                    image = io.BytesIO()
                    Image.fromarray(image_array((9, 12))).save(image, "JPEG")
                    record = tf_example(image.getvalue(), f"{split}_{i}.png".encode(), i % 6)
                    stream.write(struct.pack("<QI", len(record), 0) + record + struct.pack("<I", 0))


def sun397(root: Path) -> None:
    """Real names of the lists that tensorflow-datasets ships: the members of train800 and val200, no other image."""
    from data.order import hash_order
    from data.sources.raw_files import sun397 as read

    listings = read(root, "sun397")
    for split, n in (("train", 800), ("validation", 200)):
        keys = listings[split].keys
        assert keys is not None
        for i in hash_order(split, keys)[:n]:
            save(root / f"SUN397{keys[i]}")


def write_noah(
    root: Path, task_id: str, folder_name: str, test: int = 0, labels: dict[str, list[int]] | None = None
) -> Path:
    """The vtab-1k folder of one task, images under their own numbering, train800val200 in another order.

    Labels of train800, val200 and test go round the classes unless `labels` are given.
    """
    task, folder = get_task(task_id), root / folder_name
    sizes = {**task.split_sizes, "test": test or task.split_sizes["test"]}
    labels = labels or {split: [i % task.num_classes for i in range(n)] for split, n in sizes.items()}
    labels = {**labels, "train800val200": (labels["train800"] + labels["val200"])[::-1]}
    tiles = []
    for grey in range(256):
        stream = io.BytesIO()
        Image.fromarray(np.full((6, 6, 3), grey, np.uint8)).save(stream, "JPEG")
        tiles.append(stream.getvalue())
    for split, found in labels.items():
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
        for i in range(len(found)):
            (folder / "images" / split / f"{i:06d}.jpg").write_bytes(tiles[i % 256])
        lines = "".join(f"images/{split}/{i:06d}.jpg {label}\n" for i, label in enumerate(found))
        (folder / f"{split}.txt").write_text(lines)
    return folder


MAKERS = {f.__name__: f for f in (cifar100, svhn_cropped, dsprites, smallnorb, patch_camelyon, dtd, oxford_flowers102,
                                  oxford_iiit_pet, eurosat, resisc45, clevr, kitti, dmlab,
                                  diabetic_retinopathy_detection)}  # fmt: skip
"""By the name of the raw folder; sun397 apart, since its real lists are used."""
