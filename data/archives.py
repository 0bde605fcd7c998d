"""The original archives of the raw data sets: addresses, sizes and checksums; unpacking.

Sizes and sha256 are those of the checksum files of tensorflow-datasets 4.9.10.
"""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from data.base import DataError
from data.files import appending, writing

CHUNK = 1 << 20


class Archive(NamedTuple):
    """One file to fetch; `size` in bytes."""

    url: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        return self.url.partition("?")[0].rpartition("/")[2]


_VGG = "https://www.robots.ox.ac.uk/~vgg/data/"
_PETS = "https://thor.robots.ox.ac.uk/~vgg/data/pets/"
_SVHN = "http://ufldl.stanford.edu/housenumbers/"
_PCAM = "https://zenodo.org/record/2546921/files/camelyonpatch_level_2_split_"
_KITTI = "https://s3.eu-central-1.amazonaws.com/avg-kitti/"
_DSPR = "https://github.com/deepmind/dsprites-dataset/blob/master/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.hdf5"
_NORB = "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/smallnorb-"
_NORB_TRAIN, _NORB_TEST = f"{_NORB}5x46789x9x18x6x2x96x96-training", f"{_NORB}5x01235x9x18x6x2x96x96-testing"

ARCHIVES: dict[str, tuple[Archive, ...]] = {
    "cifar100": (
        Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            168513733,
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ),
    ),
    "dtd": (
        Archive(
            f"{_VGG}dtd/download/dtd-r1.0.1.tar.gz",
            625239812,
            "e42855a52a4950a3b59612834602aa253914755c95b0cff9ead6d07395f8e205",
        ),
    ),
    "oxford_flowers102": (
        Archive(
            f"{_VGG}flowers/102/102flowers.tgz",
            344862509,
            "2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
        ),
        Archive(
            f"{_VGG}flowers/102/imagelabels.mat",
            502,
            "4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d",
        ),
        Archive(
            f"{_VGG}flowers/102/setid.mat", 14989, "46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd"
        ),
    ),
    "oxford_iiit_pet": (
        Archive(f"{_PETS}images.tar.gz", 791918971, "67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d"),
        Archive(
            f"{_PETS}annotations.tar.gz", 19173078, "52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91"
        ),
    ),
    "svhn_cropped": (
        Archive(
            f"{_SVHN}train_32x32.mat", 182040794, "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"
        ),
        Archive(f"{_SVHN}test_32x32.mat", 64275384, "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
    ),
    "sun397": (
        Archive(
            "https://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",
            39077296924,
            "f404130965a7ad77bed5ececc71e720ab50f3cc1e1bb257257610d38f3b928ec",
        ),
    ),
    "patch_camelyon": (
        Archive(
            f"{_PCAM}train_x.h5.gz", 6421353462, "d619e741468a7ab35c7e4a75e6821b7e7e6c9411705d45708f2a0efc8960656c"
        ),
        Archive(f"{_PCAM}train_y.h5.gz", 21378, "b74126d2c01b20d3661f9b46765d29cf4e4fba6faba29c8e0d09d406331ab75a"),
        Archive(f"{_PCAM}valid_x.h5.gz", 805965320, "f82ee1670d027b4ec388048d9eabc2186b77c009655dae76d624c0ecb053ccb2"),
        Archive(f"{_PCAM}valid_y.h5.gz", 3038, "ce1ae30f08feb468447971cfd0472e7becd0ad96d877c64120c72571439ae48c"),
        Archive(f"{_PCAM}test_x.h5.gz", 800875929, "79174c2201ad521602a5888be8f36ee10875f37403dd3f2086caf2182ef87245"),
        Archive(f"{_PCAM}test_y.h5.gz", 3040, "0a522005fccc8bbd04c5a117bfaf81d8da2676f03a29d7499f71d0a0bd6068ef"),
    ),
    "eurosat": (
        Archive(
            "http://madm.dfki.de/files/sentinel/EuroSAT.zip",
            94280567,
            "8ebea626349354c5328b142b96d0430e647051f26efc2dc974c843f25ecf70bd",
        ),
    ),
    "diabetic_retinopathy_detection": (
        Archive(
            "https://storage.googleapis.com/kaggle-forum-message-attachments/90528/2877/retinopathy_solution.csv",
            1181257,
            "a6af3d66804e81887da89b9261bcfb7da4f5bacedb070f1b5db83fa879ab60c9",
        ),
    ),
    "clevr": (
        Archive(
            "https://dl.fbaipublicfiles.com/clevr/CLEVR_v1.0.zip",
            19021600724,
            "5cd61cf1096ed20944df93c9adb31e74d189b8459a94f54ba00090e5c59936d1",
        ),
    ),
    "dmlab": (
        Archive(
            "https://storage.googleapis.com/dmlab-vtab/dmlab.tar.gz",
            3017022789,
            "638b18fa69a5d61bbc310cd0b87ac603a39f41de0fdb07b6e77de274a24480a4",
        ),
    ),
    "kitti": (
        Archive(
            f"{_KITTI}data_object_image_2.zip",
            12569945557,
            "351c5a2aa0cd9238b50174a3a62b846bc5855da256b82a196431d60ff8d43617",
        ),
        Archive(
            f"{_KITTI}data_object_label_2.zip",
            5601213,
            "4efc76220d867e1c31bb980bbf8cbc02599f02a9cb4350effa98dbb04aaed880",
        ),
        Archive(
            f"{_KITTI}devkit_object.zip", 63794, "ce0b76b69c0c5f89690a0d65b7302bbbdb962a0c7e8aba6efc7050d1b04b4cf1"
        ),
    ),
    "dsprites": (
        Archive(f"{_DSPR}?raw=true", 28024106, "729fa22e884c9c500e1f17415d580746b4c5894fbbb780a1319bbcfa39a745bb"),
    ),
    "smallnorb": (
        Archive(
            f"{_NORB_TRAIN}-dat.mat.gz", 131896188, "5ffd6272a07d32695ee1082a26a41a93a37aab8c28da047f8c34ed348d214873"
        ),
        Archive(
            f"{_NORB_TRAIN}-info.mat.gz", 71052, "de7eb932ebe7a4ee16217fead60660d0eb3d23632c2f4d1c51f88c501c17bf32"
        ),
        Archive(
            f"{_NORB_TEST}-dat.mat.gz", 130799817, "cf7104eed3e51174d2f65b66d1e5878b9da233b886f161b0d88f4510ba2c7474"
        ),
        Archive(f"{_NORB_TEST}-info.mat.gz", 10428, "16adf314226327ee006d1a44db8cfef52773c06c829951d5653a9f6f310248a2"),
    ),
}
"""By raw folder. resisc45 and the images of retinopathy cannot be fetched, caltech101 has no raw source."""


def _marker(file: Archive, folder: Path) -> Path:
    return folder / ".unpacked" / file.name


def unpacked(file: Archive, folder: Path) -> bool:
    """Whether `unpack` has finished this archive."""
    return _marker(file, folder).exists()


def still_to_fetch(folder: Path) -> list[Archive]:
    """The archives of a raw folder that are not unpacked there yet; none where it has none."""
    return [file for file in ARCHIVES.get(folder.name, ()) if not unpacked(file, folder)]


def unpack(file: Archive, folder: Path) -> None:
    """Unpack a fetched archive in place; a stopped one is unpacked anew. Members cannot leave `folder`."""
    path = folder / file.name
    try:
        if path.name.endswith((".tar.gz", ".tgz")):
            with tarfile.open(path) as archive:  # "r:*": some .tar.gz are plain tar
                archive.extractall(folder, filter="data")
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
        elif path.name.endswith(".h5.gz"):
            with writing(path.with_suffix("")) as part, gzip.open(path) as source, part.open("wb") as target:
                shutil.copyfileobj(source, target, CHUNK)
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be unpacked ({error})") from error
    marker = _marker(file, folder)
    marker.parent.mkdir(exist_ok=True)
    appending(marker).close()
