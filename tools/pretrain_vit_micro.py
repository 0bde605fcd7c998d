"""Pre-train the embedded `vit_micro` backbone on Tiny-ImageNet-200.

    python -m tools.pretrain_vit_micro /path/to/tiny-imagenet --out weights.safetensors

The data folder is an image folder with `train/<class>/*` and `val/<class>/*` (64x64 RGB). Recipe: Muon on the
weight matrices of the blocks and AdamW on everything else, a constant learning rate that falls linearly to zero
over the last `--cooldown` share of the steps, bf16 matrix products, random crops after a 6-pixel reflection pad,
flips, label smoothing 0.1, and random patch dropping (cheaper steps) until the cool-down begins. One checkpoint an
epoch, so a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from glora.evaluation import accuracy

ARCHITECTURE: dict[str, Any] = {"img_size": 64, "patch_size": 8, "embed_dim": 128, "depth": 6, "num_heads": 4}
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
PAD = 6


def load_split(root: Path, split: str) -> tuple[Tensor, Tensor, list[str]]:
    """Decode one split to a uint8 tensor (N, 3, 64, 64), labels (N,) and the sorted class names."""
    folder = root / split
    if not folder.is_dir():
        raise SystemExit(f"{folder} is missing: give a folder that holds train/<class>/* and val/<class>/*")
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir())
    files = [(f, i) for i, name in enumerate(classes) for f in sorted((folder / name).iterdir())]
    images = torch.empty(len(files), 3, 64, 64, dtype=torch.uint8)

    def read(index: int) -> None:
        with Image.open(files[index][0]) as image:
            array = np.array(image.convert("RGB"))
        images[index] = torch.from_numpy(array).permute(2, 0, 1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, range(len(files))))
    return images, torch.tensor([label for _, label in files]), classes


def normalise(images: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) to float32 with ImageNet mean and standard deviation."""
    mean = torch.tensor(MEAN).view(3, 1, 1) * 255
    std = torch.tensor(STD).view(3, 1, 1) * 255
    return (images.float() - mean) / std


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random flips and shifts of up to PAD pixels, drawn per image; uint8 (B, 3, 64, 64) in and out."""
    count = images.shape[0]
    flip = torch.rand(count, generator=generator) < 0.5
    images = torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images)
    padded = F.pad(images.float(), (PAD,) * 4, mode="reflect").to(torch.uint8)
    shift = torch.randint(0, 2 * PAD + 1, (2, count), generator=generator)
    rows = (shift[0].view(-1, 1) + torch.arange(64)).view(-1, 1, 64, 1)
    columns = (shift[1].view(-1, 1) + torch.arange(64)).view(-1, 1, 1, 64)
    index = torch.arange(count).view(-1, 1, 1, 1)
    return padded[index, torch.arange(3).view(1, 3, 1, 1), rows, columns]


def optimizers(model: nn.Module, args: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Muon for the 2-D weights of the blocks, AdamW for embeddings, norms, biases and the classifier."""
    matrices = [p for n, p in model.named_parameters() if n.startswith("blocks.") and p.ndim == 2]
    owned = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in owned]
    decayed = [p for p in others if p.ndim >= 2]
    plain = [p for p in others if p.ndim < 2]
    return [
        torch.optim.Muon(matrices, lr=args.muon_lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
            lr=args.adam_lr,
            betas=(0.9, 0.98),
        ),
    ]


def main() -> None:
    """Train, evaluate after every epoch, and write the last weights with their recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--muon-lr", type=float, default=3e-3)
    parser.add_argument("--adam-lr", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=200, help="steps of linear warm-up")
    parser.add_argument("--cooldown", type=float, default=0.4, help="share of the steps with falling rate")
    parser.add_argument("--patch-drop", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    train_x, train_y, classes = load_split(args.data, "train")
    val_x, val_y, _ = load_split(args.data, "val")
    print(f"{len(train_y)} training and {len(val_y)} validation images, {len(classes)} classes", flush=True)
    model = timm.create_model(
        "vit_tiny_patch16_224", num_classes=len(classes), patch_drop_rate=args.patch_drop, **ARCHITECTURE
    )
    drop = model.patch_drop
    steps_per_epoch = len(train_y) // args.batch
    total = args.epochs * steps_per_epoch
    decay_from = int(total * (1 - args.cooldown))
    groups = optimizers(model, args)
    for optimizer in groups:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    start, history = 0, []
    resume = args.out.with_suffix(".resume.pt")
    if resume.exists():
        state = torch.load(resume, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(groups, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start, history = state["epoch"], state["history"]
        print(f"resuming after epoch {start}", flush=True)

    for epoch in range(start, args.epochs):
        began = time.time()
        generator = torch.Generator().manual_seed(args.seed * 1000 + epoch)
        torch.manual_seed(args.seed * 1000 + epoch)
        order = torch.randperm(len(train_y), generator=generator)
        model.train()
        losses = []
        for i in range(steps_per_epoch):
            step = epoch * steps_per_epoch + i
            factor = min(1.0, (step + 1) / args.warmup, max(total - step, 1) / max(total - decay_from, 1))
            model.patch_drop = drop if step < decay_from else nn.Identity()
            for optimizer in groups:
                for group in optimizer.param_groups:
                    group["lr"] = group["base_lr"] * factor
            index = order[i * args.batch : (i + 1) * args.batch]
            images = normalise(augment(train_x[index], generator))
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(images)
            loss = F.cross_entropy(logits.float(), train_y[index], label_smoothing=0.1)
            for optimizer in groups:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in groups:
                optimizer.step()
            losses.append(loss.item())
            if i % 50 == 0:
                print(f"epoch {epoch} step {i}/{steps_per_epoch} loss {np.mean(losses[-50:]):.3f}", flush=True)
        top1 = accuracy(model, val_x, val_y, normalise)
        history.append({"epoch": epoch, "loss": float(np.mean(losses)), "val_top1": top1, "s": time.time() - began})
        print(json.dumps(history[-1]), flush=True)
        state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in groups]}
        part = resume.with_suffix(".part")
        torch.save({**state, "epoch": epoch + 1, "history": history}, part)
        part.replace(resume)

    weights = {k: v.contiguous() for k, v in model.state_dict().items()}
    save_file(weights, args.out, metadata={"format": "pt"})
    digest = hashlib.sha256(args.out.read_bytes()).hexdigest()
    recipe = {k: str(v) for k, v in vars(args).items() if k not in ("data", "out")}
    report = {"architecture": ARCHITECTURE, "recipe": recipe, "history": history, "sha256": digest}
    args.out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"top-1 {history[-1]['val_top1']:.4f}, sha256 {digest}, written to {args.out}", flush=True)


if __name__ == "__main__":
    main()
