"""Folders of images that nobody should have: damaged and disguised files, strange names, links, pipes, broken lists."""

from __future__ import annotations

import os
import random
import shutil
import sys
from functools import partial
from pathlib import Path

from data import DataError, load_own
from data.base import STORED_SPLITS
from data.folder import own_images
from tests.helpers.damaged_images import mutated, random_exif, samples, with_exif
from tools.torture.children import run
from tools.torture.sandboxes import Sandboxes

LIMIT = 60.0
SIZE = 16
POSTSCRIPT = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(victim) (w) file closefile showpage\n%%EOF\n"
)
DISGUISES = {"postscript": POSTSCRIPT, "empty": b"", "text": b"no image", "html": b"<html><body>404</body></html>",
             "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "pdf": b"%PDF-1.4\n%%EOF\n",
             "bomb": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\xc3P\x00\x00\xc3P\x08\x02\x00\x00\x00",
             "icns": b"icns\x00\x00\x00\x10ic07\x00\x00\x00\x08", "psd": b"8BPS\x00\x01" + bytes(40),
             "zeros": bytes(1000), "gzip": b"\x1f\x8b\x08" + bytes(30)}  # fmt: skip
NAMES = (b"\xff\xfe.png", b" .png", b"a b .png", b".hidden.png", b"-rf.png", b"a\nb.png", b"a\tb.png",
         "é日.png".encode(),
         b"x" * 250 + b".png", b"a.PNG", b"a.png.png", b"a.png ", b"%s{}.png", b"\xc3\x28.jpg", b"con.png", b"'.png",
         "\u202egnp.a.png".encode(), b"Thumbs.db", b"._a.png")  # fmt: skip
LABELS = ("0", "1", "2", "-1", "1.0", "٣", "²", "1e3", "9" * 5000, "999999", "1000000", "2147483648", "+1", "0x1", "00",
          "", " 1", "1 ", "1\r", "nan", "None", "\u00a01", "1_0")  # fmt: skip
PATHS = ("ant/000.png", "bee/000.png", "./ant/000.png", "ant/../bee/001.png", "../images/ant/000.png", "/etc/passwd",
         "/dev/zero", "/dev/stdin", "ant", "", ".", "..", "ant/none.png", "ant//001.png", "ANT/000.png",
         "ant/000.png/x",
         "a b.png", "~/x.png", "$HOME", "\udcff.png", "x" * 300, "ant\\000.png", "ant/00?.png", "pipe.png", "loop.png",
         "\0")  # fmt: skip


def damage_image(folder: Path, rng: random.Random) -> str:
    """Damage, disguise or misname one file of a class folder; what was done."""
    whole = samples()
    place, choice = folder / "ant" / "000.png", rng.random()
    if choice < 0.75:
        name = rng.choice(list(whole))
        content = whole[name]
        if rng.random() < 0.25:
            name = rng.choice(("jpg", "png"))
            content = with_exif(whole[name], random_exif(rng))
        last = rng.choice((40, 120, len(content)))
        content = mutated(content, 0, min(last, len(content)), rng)
        if rng.random() < 0.1:
            content = content[: rng.randrange(1, len(content))]
        place.with_suffix(f".{rng.choice((name.split()[-1], 'jpg', 'png'))}").write_bytes(content)
        return f"a damaged {name}"
    if choice < 0.85:
        name = rng.choice(list(DISGUISES))
        place.with_suffix(rng.choice((".jpg", ".png", ".gif"))).write_bytes(DISGUISES[name])
        return f"{name} as an image"
    if choice < 0.93:
        strange = os.fsdecode(rng.choice(NAMES))
        at = folder / "ant" if rng.random() < 0.7 else folder
        if rng.random() < 0.2:  # a class of that name
            shutil.copytree(folder / "bee", folder / strange)
        else:
            shutil.copyfile(place, at / strange)
        return f"the name {strange!r}"
    return special_file(folder / "ant" / "special.png", rng)


def special_file(path: Path, rng: random.Random) -> str:
    """A pipe, a link to itself, to nowhere, out of the folder or to a device, a folder, an unreadable file."""
    kind = rng.choice(("pipe", "loop", "dangling", "outside", "device", "folder", "folder link", "unreadable"))
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "unreadable":
        shutil.copyfile(path.parent / "000.png", path)
        path.chmod(0)
    else:
        targets = {"loop": path, "dangling": Path("/nowhere/x.png"), "outside": Path("../../home"),
                   "device": Path("/dev/zero")}  # fmt: skip
        path.symlink_to(targets.get(kind, path.parent.parent))
    return kind


def damage_list(folder: Path, rng: random.Random) -> str:
    """Write lists beside the images, one of whose lines is wrong; what was done."""
    good = [f"{name}/{i:03d}.png {label}" for label, name in enumerate(("ant", "bee")) for i in range(8)]
    rng.shuffle(good)
    hostile = f"{rng.choice(PATHS)}{rng.choice((' ', ' ', ' ', '  ', chr(9), ''))}{rng.choice(LABELS)}"
    at = rng.randrange(len(good) + 1)
    lines = [*good[:at], hostile, *good[at + rng.randrange(2) :]]
    ends = rng.choice(("\n", "\n", "\r\n", "\r", "\n\n", "\x0b", "\u2028"))
    content = (rng.choice(("", "", "\ufeff", "# a\n", "\n")) + ends.join(lines) + rng.choice((ends, "", " "))).encode(
        rng.choice(("utf-8", "utf-8", "utf-8", "utf-16", "latin-1")), "replace" if rng.random() < 0.5 else "ignore"
    )
    if rng.random() < 0.2:
        content = mutated(content, 0, len(content), rng)
    name = rng.choice(("list.txt", "list.txt", "train.txt", "Train.txt", "val.txt", "training.txt"))
    (folder / name).write_bytes(content)
    if rng.random() < 0.2:
        (folder / rng.choice(("test.txt", "val.txt", "train.txt", "list.txt"))).write_bytes(content)
    for special in ("pipe.png", "loop.png"):
        if special in hostile:
            os.mkfifo(folder / special) if special[0] == "p" else (folder / special).symlink_to(folder / special)
    return f"{name} with {hostile[:60]!r}"


def _load() -> None:
    """Read the folder as a run does: all splits, checked for what the lists and folders say."""
    try:
        own = own_images(Path("images"), SIZE)
        for name in STORED_SPLITS:
            split = load_own(own, name, Path("data"))
            labels = [label for _, label in own.rows[name]]
            assert split.labels.tolist() == labels and tuple(split.images.shape) == (len(labels), 3, SIZE, SIZE)
    except DataError as error:
        print(f"error: {error}")
        sys.exit(2)


def case(boxes: Sandboxes, seed: int, lists: bool) -> tuple[str, str, str]:
    """Damage a folder of images or a list in it, and read it; what was done, its kind and why."""
    rng = random.Random(f"{'lists' if lists else 'images'} {seed}")
    with boxes.sandbox(None, "images") as folder:
        done = (damage_list if lists else damage_image)(folder / "images", rng)
        kind, detail = run(partial(_load), folder, LIMIT, allowed=("data",)).kind()
    return done, kind, detail
