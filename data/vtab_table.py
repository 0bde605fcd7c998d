"""The 19 tasks of VTAB-1K in the paper's column order, and what a user needs to know to obtain each.

Sizes, classes and builders are those of google-research/task_adaptation, the authors' own code. Download sizes come
from the checksum files of tensorflow-datasets 4.9.10. The licence words are short notes, not legal advice: the
terms on the data set's own page decide.
"""

from __future__ import annotations

from typing import NamedTuple


class VtabRow(NamedTuple):
    """One VTAB-1K task. `download_bytes` is the automatic download (None: none is possible, see `manual`)."""

    id: str
    title: str
    group: str
    num_classes: int
    test_size: int
    builder: str  # tensorflow-datasets name, with its config after a slash
    download_bytes: int | None
    licence: str
    noah_folder: str  # folder of the task in the public "vtab-1k" archive of the NOAH authors
    manual: str = ""  # what must be fetched by hand; empty when nothing must


_RESISC = "NWPU-RESISC45 archive (rar, about 0.4 GB), unpacked to NWPU-RESISC45/<class>/*.jpg"
_KAGGLE = "Kaggle competition diabetic-retinopathy-detection (over 80 GB): sample/, train/, test/, trainLabels.csv"

# fmt: off
VTAB_ROWS: tuple[VtabRow, ...] = (
    VtabRow("cifar100", "Cifar100", "natural", 100, 10000, "cifar100", 168513733, "none stated", "cifar"),
    VtabRow("caltech101", "Caltech101", "natural", 102, 6084, "caltech101", 137414764, "CC BY 4.0", "caltech101"),
    VtabRow("dtd", "DTD", "natural", 47, 1880, "dtd", 625239812, "research use", "dtd"),
    VtabRow("flowers102", "Flowers102", "natural", 102, 6149, "oxford_flowers102", 344878000, "none stated",
            "oxford_flowers102"),
    VtabRow("pets", "Pets", "natural", 37, 3669, "oxford_iiit_pet", 811092049, "CC BY-SA 4.0", "oxford_iiit_pet"),
    VtabRow("svhn", "SVHN", "natural", 10, 26032, "svhn_cropped", 1575594780, "non-commercial", "svhn"),
    VtabRow("sun397", "Sun397", "natural", 397, 21750, "sun397/tfds", 39095590629, "research use", "sun397"),
    VtabRow("camelyon", "Camelyon", "specialized", 2, 32768, "patch_camelyon", 8028222167, "CC0", "patch_camelyon"),
    VtabRow("eurosat", "EuroSAT", "specialized", 10, 5400, "eurosat/rgb", 94280567, "MIT", "eurosat"),
    VtabRow("resisc45", "Resisc45", "specialized", 45, 6300, "resisc45", None, "none stated", "resisc45", _RESISC),
    VtabRow("retinopathy", "Retinopathy", "specialized", 5, 42670,
            "diabetic_retinopathy_detection/btgraham-300", None, "Kaggle competition rules",
            "diabetic_retinopathy", _KAGGLE),
    VtabRow("clevr_count", "Clevr-Count", "structured", 8, 15000, "clevr", 19021600724, "CC BY 4.0", "clevr_count"),
    VtabRow("clevr_dist", "Clevr-Dist", "structured", 6, 15000, "clevr", 19021600724, "CC BY 4.0", "clevr_dist"),
    VtabRow("dmlab", "DMLab", "structured", 6, 22735, "dmlab", 3017022789, "unknown", "dmlab"),
    VtabRow("kitti_dist", "KITTI-Dist", "structured", 4, 711, "kitti", 12575610564, "CC BY-NC-SA 3.0", "kitti"),
    VtabRow("dspr_loc", "dSpr-Loc", "structured", 16, 73728, "dsprites", 28024106, "Apache-2.0", "dsprites_loc"),
    VtabRow("dspr_ori", "dSpr-Ori", "structured", 16, 73728, "dsprites", 28024106, "Apache-2.0", "dsprites_ori"),
    VtabRow("snorb_azim", "sNORB-Azim", "structured", 18, 12150, "smallnorb", 262778180, "research only",
            "smallnorb_azi"),
    VtabRow("snorb_ele", "sNORB-Ele", "structured", 9, 12150, "smallnorb", 262778180, "research only",
            "smallnorb_ele"),
)
# fmt: on

MANUAL_FILES: dict[str, tuple[str, ...]] = {
    "resisc45": ("NWPU-RESISC45",),
    "retinopathy": ("train", "test", "trainLabels.csv"),
}
"""What source=raw reads that must be put into the raw folder by hand."""

OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "cifar100": ("cifar",),
    "flowers102": ("oxford_flowers102",),
    "pets": ("oxford_iiit_pet", "oxford_pet"),
    "svhn": ("svhn_cropped",),
    "camelyon": ("patch_camelyon",),
    "retinopathy": ("diabetic_retinopathy", "diabetic_retinopathy_detection"),
    "clevr_count": ("clevr_count_all",),
    "clevr_dist": ("clevr_distance", "clevr_closest_object_distance"),
    "kitti_dist": ("kitti", "kitti_distance", "kitti_closest_vehicle_distance"),
    "dspr_loc": ("dsprites_location", "dsprites_label_x_position"),
    "dspr_ori": ("dsprites_orientation", "dsprites_label_orientation"),
    "snorb_azim": ("smallnorb_azimuth", "smallnorb_label_azimuth"),
    "snorb_ele": ("smallnorb_elevation", "smallnorb_label_elevation"),
}
"""What google-research/task_adaptation and the code that builds on it call the tasks, besides the names of a row."""

VTAB_BY_ID: dict[str, VtabRow] = {row.id: row for row in VTAB_ROWS}

VTAB_SOURCES: tuple[str, ...] = ("raw", "tfds", "noah")
"""Where the images of a VTAB task may come from; a prepared cache names its own in its metadata."""
