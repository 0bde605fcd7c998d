"""Raw data sets whose images are arrays in a few binary files: cifar100, svhn, dsprites, smallnorb, camelyon."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from data.base import DataError
from data.labels import dsprites_location, dsprites_orientation
from data.sources.base import Listing, array_listing, need, optional
from data.sources.reading import faults, read_bytes

Listings = dict[str, Listing]


def cifar100(folder: Path, task: str) -> Listings:
    """`cifar-100-binary/{train,test}.bin`: records of coarse label, fine label, 3072 bytes."""
    out = {}
    for split in ("train", "test"):
        path = need(folder / "cifar-100-binary" / f"{split}.bin", "unpacked from cifar-100-binary.tar.gz")
        data = np.frombuffer(read_bytes(path), np.uint8)
        if data.size == 0 or data.size % 3074:
            raise DataError(f"{path} has {data.size} bytes, not a multiple of 3074; fetch it again")
        rows = data.reshape(-1, 3074)
        images = rows[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        out[split] = array_listing(images, rows[:, 1], range(len(rows)), str(path))
    return out


def svhn(folder: Path, task: str) -> Listings:
    """`{train,test}_32x32.mat`: X (32, 32, 3, N), y (N, 1) where 10 is the digit 0."""
    loadmat, out = optional("scipy.io", "scipy").loadmat, {}
    for split in ("train", "test"):
        path = need(folder / f"{split}_32x32.mat")
        with faults(f"{path} is damaged"):
            mat = loadmat(path)
            images, labels = mat["X"].transpose(3, 0, 1, 2), mat["y"].reshape(-1) % 10
        out[split] = array_listing(images, labels, range(len(labels)), str(path))
    return out


def dsprites(folder: Path, task: str) -> Listings:
    """The HDF5 file of dsprites: imgs (N, 64, 64) of 0 and 1, latents/classes (N, 6)."""
    path = need(folder / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.hdf5")
    with faults(f"{path} is damaged"):
        with optional("h5py", "h5py").File(path, "r") as file:
            images, classes = file["imgs"][:], file["latents"]["classes"][:]
        if task == "dspr_loc":
            labels = [dsprites_location(int(c)) for c in classes[:, 4]]
        else:
            labels = [dsprites_orientation(int(c)) for c in classes[:, 3]]
        images *= 255  # stored as 0 and 1
    return {"train": array_listing(images, labels, range(len(labels)), str(path))}


def _matrix(folder: Path, name: str) -> np.ndarray:
    """A small-NORB binary matrix: magic, number of dimensions, at least three sizes, data; little-endian."""
    path, packed = folder / name, folder / f"{name}.gz"
    path = path if path.exists() else need(packed)
    with faults(f"{path} is damaged"):
        content = gzip.decompress(read_bytes(path)) if path == packed else read_bytes(path)
        magic, rank = np.frombuffer(content, "<i4", 2)
    kinds: dict[int, np.dtype[np.integer]] = {0x1E3D4C55: np.dtype(np.uint8), 0x1E3D4C54: np.dtype("<i4")}
    if int(magic) not in kinds:
        raise DataError(f"{path} is not a small-NORB matrix (magic {int(magic):#x}); fetch it again")
    with faults(f"{path} is damaged"):
        shape = np.frombuffer(content, "<i4", rank, 8)
    start = 8 + 4 * max(3, int(rank))
    if len(content) - start != int(np.prod(shape)) * kinds[int(magic)].itemsize:
        raise DataError(f"{path} is cut off or too long for its shape {tuple(map(int, shape))}; fetch it again")
    matrix: np.ndarray = np.frombuffer(content, kinds[int(magic)], offset=start).reshape(shape)
    return matrix


def smallnorb(folder: Path, task: str) -> Listings:
    """The six small-NORB matrices; the first camera's images, raw azimuth halved."""
    names = {"train": "smallnorb-5x46789x9x18x6x2x96x96-training", "test": "smallnorb-5x01235x9x18x6x2x96x96-testing"}
    out = {}
    for split, stem in names.items():
        images, info = _matrix(folder, f"{stem}-dat.mat"), _matrix(folder, f"{stem}-info.mat")
        with faults(f"{folder / stem}-*.mat are of the wrong shape"):
            labels = info[:, 2] // 2 if task == "snorb_azim" else info[:, 1]
            out[split] = array_listing(images[:, 0], labels, range(len(labels)), f"{folder / stem}")
    return out


def camelyon(folder: Path, task: str) -> Listings:
    """PatchCamelyon's HDF5 files, unpacked: x (N, 96, 96, 3), y (N, 1, 1, 1)."""
    out = {}
    for split, name in (("train", "train"), ("validation", "valid"), ("test", "test")):
        paths = [need(folder / f"camelyonpatch_level_2_split_{name}_{k}.h5", "gunzipped") for k in "xy"]
        with faults(f"{paths[0]} is damaged"):
            images = optional("h5py", "h5py").File(paths[0], "r")["x"]
        with faults(f"{paths[1]} is damaged"):
            labels = optional("h5py", "h5py").File(paths[1], "r")["y"][:].reshape(-1)
        keys = [f"{name}_{i}" for i in range(len(labels))]
        out[split] = array_listing(images, labels, keys, str(paths[0]))
    return out
