"""What must hold on every device: the forms of a step, one compiled graph, no wait within a step, whole batches."""

import random
import weakref

import pytest
import timm
import torch
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from glora import Supernet
from glora.evaluation import Batches, score
from glora.product import in_precision
from glora.recipe import Recipe
from glora.train import Normalizer, Trainer
from runner.config.compute import compiled, use_tf32

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
NORMALIZE = Normalizer((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def vit(depth=1):
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=depth, num_heads=2,
                             num_classes=4, drop_path_rate=0.1)  # fmt: skip


def supernet_of(model, static):
    supernet = Supernet(model, [8, 4])
    torch.manual_seed(1)
    for parameter in supernet.trainable().values():
        torch.nn.init.normal_(parameter, std=0.1)
    if static:
        supernet.use_static_graph()
    return supernet


def images(count=48):
    drawn = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return drawn, torch.arange(count) % 4


def gradients(supernet, forward, x, y):
    """Logits and the gradients of everything that trains, for one batch."""
    logits = forward(x)
    F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), y).backward()
    found = {n: p.grad.double().cpu() for n, p in supernet.trainable().items() if p.grad is not None}
    supernet.model.zero_grad()
    return logits.detach().double().cpu(), found


def together(tensors):
    return torch.cat([t.flatten() for t in tensors.values()])


@pytest.mark.parametrize(
    ("device", "compile"),
    [("cpu", False), *(pytest.param("cuda", c, marks=pytest.mark.gpu) for c in (False, True))],
)
@pytest.mark.parametrize(("precision", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_both_forms_give_the_logits_and_gradients_of_float64(device, compile, precision, bound):
    use_tf32(False)
    torch._dynamo.reset()
    exact = supernet_of(vit().double(), static=False)
    branch, static = (supernet_of(vit().to(device), s) for s in (False, True))
    for supernet in (branch, static):
        supernet.load_state_dict({n: t.float() for n, t in exact.state_dict().items()})
        supernet.model.eval()
    exact.load_state_dict({n: t.double() for n, t in static.state_dict().items()})
    exact.model.eval()
    x, y = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(2)), torch.arange(16) % 4
    forwards = {branch: in_precision(branch.model, precision), static: in_precision(static.model, precision)}
    if compile:
        forwards[static] = compiled(forwards[static])
    for number in range(4):
        subnet = exact.sample(random.Random(number))
        logits, wanted = gradients(exact, exact.model, x.double(), y)
        for supernet, forward in forwards.items():
            supernet.set(subnet)
            got, found = gradients(supernet, forward, x.to(device), y.to(device))
            assert (got - logits).norm() <= bound * logits.norm()
            found = {n: g for n, g in found.items() if n in wanted}
            assert found.keys() == wanted.keys()
            difference = {n: found[n] - g for n, g in wanted.items()}
            assert together(difference).norm() <= bound * together(wanted).norm()


@pytest.mark.parametrize("device", DEVICES)
def test_one_graph_is_replayed_for_fifty_subnets(device):
    """On CUDA as a recorded graph, whose replays read gates and weights of now."""
    use_tf32(False)
    torch._dynamo.reset()
    counters.clear()
    static = supernet_of(vit().to(device), static=True)
    static.model.eval()
    plain = in_precision(static.model, torch.float32)
    forward = compiled(plain, "reduce-overhead") if device == "cuda" else torch.compile(plain, backend="eager")
    optimizer = torch.optim.SGD(static.trainable().values(), lr=1e-3)
    for parameter in static.trainable().values():
        parameter.grad = torch.zeros_like(parameter)
    x, y = torch.randn(8, 3, 32, 32).to(device), (torch.arange(8) % 4).to(device)
    for number in range(50):
        static.sample(random.Random(number))
        with torch.no_grad():
            wanted = plain(x)
        optimizer.zero_grad(set_to_none=False)
        logits = forward(x)
        F.cross_entropy(logits, y).backward()
        torch.testing.assert_close(logits.detach(), wanted, rtol=1e-4, atol=1e-4)
        optimizer.step()
    assert counters["stats"]["unique_graphs"] == 1 and not counters["inductor"]["cudagraph_skips"]


def test_a_compiled_bfloat16_step_forms_weights_and_their_gradients_in_float32():
    x, y = torch.randn(8, 3, 32, 32), torch.arange(8) % 4
    found = []
    for backend in (None, "aot_eager"):
        static = supernet_of(vit(), static=True)
        static.model.eval()
        static.sample(random.Random(3))
        forward = in_precision(static.model, torch.bfloat16)
        found.append(gradients(static, torch.compile(forward, backend=backend) if backend else forward, x, y))
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(found[1][1][name], gradient) for name, gradient in found[0][1].items())


@pytest.mark.parametrize(("precision", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_one_subnet_is_compiled_without_a_static_form(precision, bound):
    """As a winner that trains on; each of these mixes options, A a vector or a scalar in some layers."""
    x, y = torch.randn(8, 3, 32, 32), torch.arange(8) % 4
    for number in range(4):
        torch._dynamo.reset()
        supernet = supernet_of(vit(depth=3), static=False)  # layers share memory
        supernet.model.eval()
        supernet.sample(random.Random(number))
        forward = torch.compile(in_precision(supernet.model, precision), backend="aot_eager")
        got, found = gradients(supernet, forward, x, y)
        logits, wanted = gradients(supernet, supernet.model, x, y)
        assert (got - logits).norm() <= bound * logits.norm() and found.keys() == wanted.keys()
        difference = {n: found[n] - g for n, g in wanted.items()}
        assert together(difference).norm() <= bound * together(wanted).norm()


def test_the_ninth_model_of_a_process_is_compiled_too_and_none_is_kept(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda f, mode, compile=torch.compile: compile(f, backend=backend))
    graphs, models = [], []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    for classes in range(2, 13):
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 4 * 4, classes))
        compiled(in_precision(model, torch.bfloat16))(torch.randn(2, 3, 4, 4))
        models.append(weakref.ref(model))
    del model
    assert len(graphs) == 11 and not any(ref() for ref in models)


@pytest.mark.gpu
def test_a_step_never_waits_for_the_device():
    device = torch.device("cuda")
    supernet = supernet_of(vit().to(device), static=True)

    def begin(rng):
        torch.cuda.set_sync_debug_mode("error" if trainer.step else "default")  # the first step compiles

    trainer = Trainer(supernet.model, supernet.trainable(), Recipe(batch_size=8), NORMALIZE, 7, begin,
                      precision=torch.bfloat16, supernet=supernet, compile=compiled)  # fmt: skip
    trainer.optimizer.register_step_post_hook(lambda *given: torch.cuda.set_sync_debug_mode("default"))
    x, y = images()
    try:
        row = trainer.train_epoch(x.to(device), y.to(device))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.step == 6 and row["loss"] > 0


@pytest.mark.parametrize("static", [False, True])
def test_everything_that_a_forward_pass_reads_moves_with_the_model(static, monkeypatch):
    """On a device that this machine need not have: its tensors hold no numbers, and meet none of another device."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)  # not defined there
    supernet, mode = supernet_of(vit(), static=False), FakeTensorMode(allow_non_fake_inputs=True)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with mode:
            supernet.model._apply(lambda tensor: mode.from_tensor(tensor).to("cuda"))
            if static:
                supernet.use_static_graph()
            x, y = (t.to("cuda") for t in images())
            for number in range(8):
                supernet.sample(random.Random(number))
                logits = supernet.model(NORMALIZE(x))
                assert logits.device.type == F.cross_entropy(logits, y).device.type == "cuda"
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


@pytest.mark.parametrize("device", DEVICES)
def test_a_search_sees_the_same_batches_however_often_it_asks(device):
    """Prepared ahead on a stream of their own while another model keeps the device busy, then kept."""
    given, busy = images(700), torch.randn(512, 512).to(device)
    batches = Batches(given[0], lambda part: NORMALIZE(part.to(device)), torch.device(device), 64, keep=True)
    wanted = NORMALIZE(given[0])
    for _ in range(3):
        parts = []
        for batch in batches:
            busy = (busy @ busy).clamp(-1, 1)
            parts.append(batch + 0 * busy[0, 0].nan_to_num())
        torch.testing.assert_close(torch.cat(parts).cpu(), wanted, rtol=0, atol=1e-6)
    model = vit().to(device)
    assert score(model, batches, given[1].to(device)) == score(model, [wanted.to(device)], given[1].to(device))
