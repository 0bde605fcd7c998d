"""One task as train.py, search.py and evaluate.py take it, on random images: as far as time goes, then carried on."""

from __future__ import annotations

import math
import random
import statistics
import time
from functools import partial

import torch
from hydra import compose, initialize_config_dir

from data import Split
from glora.evaluation import accuracy
from runner.bench.setting import seconds
from runner.config.overrides import CONFIGS
from runner.config.resolve import resolve, typed_keys
from runner.config.run import Run
from runner.config.schema import register
from runner.config.sweeps import register_resolvers
from runner.rundir.checkpoints import save_checkpoint
from runner.stages.inputs import Preprocess, TrainingSet
from runner.stages.model import searched
from runner.stages.search import Fitness
from runner.stages.train import Job
from tools.gpu_check.candidates import CANDIDATES, random_images
from tools.gpu_check.check import NINETEEN, WHOLE_TASK, Check

TRAIN, VAL, TEST, COMPARED = 800, 200, 10_000, 22_000
"""Images of phase one, the selection, the test, and of all the comparators that evaluate.py measures beside it."""


def composed(check: Check) -> Run:
    """The run of a task with 100 classes under the paper's recipe, or of a small one."""
    words = ["dataset=cifar100", "ranks=[8,4]"]
    if check.smoke:
        words = ["dataset=digits", "backbone=vit_micro", "trainer=mini", "trainer.batch_size=4", "runtime.graph=static"]
        words += ["backbone.kwargs={img_size:64,patch_size:16,embed_dim:32,depth:2,num_heads:2}"]
    words += ["backbone.pretrained=false", f"device={check.device}", "precision=bf16", f"output_root={check.folder}"]
    register()
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return resolve(compose("train", overrides=words), typed_keys(words))


def random_split(run: Run, count: int, device: str) -> Split:
    """Random images, and labels on the device of the run."""
    labels = torch.arange(count, device=run.compute.device) % run.task.num_classes
    return Split(random_images(count, run.data.image_size, device), labels, f"random {count}")


def measure_task(check: Check) -> None:
    """Epochs for half of the time, candidates and test images for the rest; what is left of them is carried on."""
    run, began = composed(check), time.time()
    sizes = (8, 4, 8) if check.smoke else (TRAIN, VAL, TEST)
    train, val, test = (
        random_split(run, count, device)
        for count, device in zip(sizes, (check.device, check.device, "cpu"), strict=True)
    )
    job = Job(run, TrainingSet(train.images, train.labels, train.content_hash))
    trainer, evaluate, epochs = job.trainer, job.evaluator(val), run.recipe.epochs
    print(run.compute.describe(job.method.model))
    train_epoch = partial(trainer.train_epoch, job.inputs, job.labels)  # its end reads from the device
    start = seconds(train_epoch)
    check.note("task: first epoch, with compilation", start, "s")

    times, checkpoint = list[float](), check.folder / "resume.pt"
    stop = time.time() + 0.5 * check.left
    while not trainer.done and (len(times) < 2 or time.time() < stop) and not (check.smoke and len(times) == 2):
        times.append(seconds(train_epoch))
    epoch = statistics.median(times)
    steps = len(job.labels) // run.recipe.batch_size
    check.note("task: epoch", epoch, "s", f"median of {len(times)}, {steps} steps of {run.recipe.batch_size} images")
    saved = statistics.median(seconds(lambda: save_checkpoint(checkpoint, trainer.state())) for _ in range(3))
    check.note("task: resume file, every epoch", saved, "s")
    logged = seconds(evaluate)
    check.note(f"task: log of the training, every {run.eval_every} epochs", logged, "s")
    training = start + (epochs - 1) * epoch + epochs * saved + math.ceil(epochs / run.eval_every) * logged
    check.note(f"task: training of {epochs} epochs", training, "s", f"extrapolated from {len(times) + 1}")

    supernet = searched(job.method)
    fitness, space = Fitness(run, supernet.evaluator(), val), supernet.space
    fitness(space.largest)  # prepares the batches
    stop, each = time.time() + 0.4 * check.left, list[float]()
    while len(each) < (2 if check.smoke else CANDIDATES) and (len(each) < 2 or time.time() < stop):
        each.append(seconds(partial(fitness, space.sample(random.Random(len(each))))))
    search = CANDIDATES * statistics.fmean(each)
    check.note("task: search", search, "s", f"{CANDIDATES} candidates, extrapolated from {len(each)}")
    model, prep = supernet.evaluator().write(space.largest), Preprocess(run)
    measured = seconds(lambda: accuracy(model, test.images, test.labels, prep)) * TEST / len(test.labels)
    check.note("task: test", measured, "s", f"{TEST:,} images in float32, from {len(test.labels):,}")

    whole = training + search + measured
    remark = f"{epochs} epochs, {CANDIDATES} candidates, {TEST:,} test images; a process's start is not in it"
    check.note(WHOLE_TASK, whole, "s", remark)
    check.note(NINETEEN, 19 * whole, "s", "one after another, each compiled anew")
    more = search + measured * COMPARED / TEST
    check.note("task: with the random search and the comparators beside it", whole + more, "s", "extrapolated")
    print(f"measured in {time.time() - began:.0f} s")
