"""Command lines that nobody should type: real keys of the config with values from a pool of nasty ones, and noise."""

from __future__ import annotations

import random
import string
import sys
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

from runner.cli import main
from runner.config.run import Run
from runner.config.schema import TrainConf
from runner.stages.train import train
from tools.torture.children import Ended, run
from tools.torture.fingerprint import not_finite
from tools.torture.sandboxes import Sandboxes
from tools.torture.small import BASE, SEARCH

LIMIT = 90.0
CONFIGS = Path(__file__).resolve().parent.parent.parent / "configs"
SKIPPED = ("logger", "plugins")
"""Keys that are to reach a network or to run code."""
NUMBERS = ("0", "-1", "-0.0", "1", "2", "7", "0.5", "1e30", "-1e30", "1e38", "1e-300", "nan", "inf", "-inf", "10000000",
           "1" + "0" * 30, "9223372036854775808", "-9223372036854775809", "1" + "0" * 400, "0x10", "1_000", "٣", "1,2",
           "1e400", "20000", "true", "null")  # fmt: skip
TEXTS = ("", "''", "x", "None", "null", "???", "~", "~nobody/x", "é", "日本", "../x", "../../../x", "/proc/x", "a/b",
         "a b",
         "'a b'", "a\\b", "%s", "{}", "[]", "[[8]]", "[1000000000]", "[8,4]", "[0]", "[-1]", "[nan]", "[8,8]", "{a:1}",
         "{a:{b:{c:[]}}}", "{lr:nan}", "${seed}", "${nothing}", "${oc.env:HOME}", "${oc.env:NOTHING}", "${", "$",
         "$${x}",
         "${seed:1}", "${.}", "[" * 50 + "]" * 50, "x" * 5000, "9" * 5000, "\u200b", "\udcff", "a=b", "a,b",
         "choice(1,2)",
         "range(1,4)", "glob(*)", "int(3)", "str(3)", "sort(3,1)", "shuffle(1,2)", "yes", "off", "1:2", "#", "!!python",
         "!", "*", "&a", "|", ">", "'", '"', "\n", "\t", "a\nb", "(", ")", "]", "}", "\x1b[31m", "torch.float64", "cpu",
         "cuda", "cuda:99", "meta", "mps", "auto", "static", "on", "bf16", "fp16", "images", "images/ant/000.png",
         "glora", "lora", "noah", "linear", "digits", "vit_micro", "evolution", "mini", "clean")  # fmt: skip
KWARGS = ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "global_pool", "num_classes",
          "in_chans", "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "class_token",
          "norm_layer", "act_layer", "drop_rate", "features_only", "scriptable", "exportable", "no_jit", "device",
          "dtype", "cache_dir", "qkv_bias", "weight_init", "x")  # fmt: skip
EVIL = "evil.pt"
"""A pickle in the sandbox that makes a file if anybody opens it as one."""
NOISE = ("--cfg", "--help", "-h", "--info", "-c", "job", "--multirun", "-m", "--run", "--version", "--package", "x",
         "=",
         "==", "+", "++", "~", "+=1", "=x", "dataset", "-x", "--", "", " ", "seed==1", "seed", "train.py", "é=1", ".=1",
         "a.=1", ".a=1", "a..b=1", "@=1", "backbone@x=vit_micro", "hydra=1", "hydra.job.name=x", "hydra.verbose=x",
         "hydra.mode=x", "hydra.sweeper=1", "hydra/sweeper=x", "hydra.run.dir=/proc/x", "hydra.sweep.dir=/proc/x",
         "hydra.run.dir=out/h", "hydra.output_subdir=x", "hydra.run=1", "--config-name=x", "--config-name=prepare",
         "--config-dir=/nowhere", "--config-path=x", "~protocol=-1", "~trainer", "~dataset", "~method", "trainer=[[8]]",
         "search=50", "method=null", "backbone=null", "dataset=null", "protocol=", "output_root=images/ant/000.png",
         "output_root=out/é", "output_root='out/a b'", "data_root=images/ant/000.png", "sweep=mini",
         "trainer.lr.glora=0")  # fmt: skip


def keys(schema: Any = TrainConf, prefix: str = "") -> list[str]:
    """The dotted keys of the config, groups included, and those of the groups' YAMLs that the schema leaves open."""
    found = []
    for name, hint in get_type_hints(schema).items():
        if name in SKIPPED or name not in {f.name for f in fields(schema)}:
            continue
        found.append(prefix + name)
        inner = next((t for t in (hint, *getattr(hint, "__args__", ())) if is_dataclass(t)), None)
        found += keys(inner, f"{prefix}{name}.") if inner is not None else []
    if not prefix:
        for group, file in (("search", "evolution"), ("protocol", "clean"), ("method.options", "../method/glora")):
            text = (CONFIGS / group.partition(".")[0] / f"{file}.yaml").read_text()
            names = [line.partition(":")[0] for line in text.splitlines() if line[:1].isalpha()]
            found += [f"{group}.{n}" for n in (("ranks", "tensors", "convs") if "." in group else names)]
        found += [f"backbone.kwargs.{name}" for name in KWARGS]
    return found


def words(seed: int) -> list[str]:
    """The overrides of a seed: one to three hostile ones after the usual ones, sometimes as a sweep."""
    rng, known = random.Random(f"overrides {seed}"), keys()
    found = [_word(rng, known) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    flags = ["-m"] if rng.random() < 0.15 else []
    base = [word for word in (*BASE, *SEARCH) if rng.random() > 0.01]
    return [*flags, *base, *(word.replace("\0", "") for word in found)]


def _word(rng: random.Random, known: list[str]) -> str:
    if rng.random() < 0.15:
        return rng.choice(NOISE)
    key = rng.choice(known) if rng.random() > 0.2 else f"backbone.kwargs.{rng.choice(KWARGS)}"
    if rng.random() < 0.04:
        at = rng.randrange(len(key))
        key = key[:at] + rng.choice(string.printable) + key[at + rng.randrange(2) :]
    if key.endswith("checkpoint_path"):
        value = EVIL
    else:
        value = rng.choice(NUMBERS if rng.random() < 0.5 else TEXTS)
        if rng.random() < 0.1:
            value = f"{value},{rng.choice(NUMBERS)}"
    if key in ("output_root", "data_root"):
        value = f"out/{value.replace('..', '').lstrip('~/')}"
    prefix = "+" if "kwargs" in key and rng.random() < 0.8 else rng.choice(("", "", "", "", "+", "++", "~"))
    return f"{prefix}{key}={value}"


def _short(run: Run) -> Run:
    """The same run, one step long: that it would take years is no mistake."""
    recipe = replace(run.recipe, epochs=min(run.recipe.epochs, 2), max_steps=1)
    return replace(run, recipe=recipe)


def _typed(arguments: list[str]) -> None:
    sys.argv = ["train.py", *arguments]
    main(lambda run: print(f"trained: {train(_short(run))}"))


class Evil:
    """What unpickles into a changed file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (partial(open, mode="w"), ("victim",))


def case(boxes: Sandboxes, seed: int) -> tuple[str, str, str]:
    """Type it; what was asked, its kind and why."""
    import torch

    asked = words(seed)
    with boxes.sandbox(None) as folder:
        torch.save(Evil(), folder / EVIL)
        ended: Ended = run(partial(_typed, asked), folder, LIMIT, allowed=("out", "data"))
        kind, detail = ended.kind()
        if kind == "identical" and (wrong := not_finite(folder / "out")) is not None:
            kind, detail = "silent", wrong
    hostile = [word for word in asked if word not in BASE and word not in SEARCH]
    return repr(hostile), kind, detail
