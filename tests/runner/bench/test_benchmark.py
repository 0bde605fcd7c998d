"""The benchmark's command line: tables, JSON with all they need, wrong overrides; its baseline equals the formula."""

import json
import statistics
import subprocess
import sys

import pytest
import torch

from runner.bench import growth
from runner.bench.command import COMMANDS
from runner.bench.model import Step, kinds, step_flops, tf32
from runner.bench.profile import PYTHON, REST, group_of
from runner.bench.setting import Setting, flops, in_turn
from runner.config.compute import use_tf32
from tests.helpers import ROOT
from tests.helpers.commands import forked


def run(*overrides):
    return subprocess.run([sys.executable, "benchmark.py", *overrides], cwd=ROOT, capture_output=True, text=True)


def test_data_in_small(tmp_path):
    done = run("data", "images=140", "size=48x64", "repeats=2", f"json={tmp_path / 'x.json'}")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5 and "| cached epoch |" in done.stdout
    found = json.loads((tmp_path / "x.json").read_text())
    assert all(len(v) == 2 and min(v) > 0 for v in found["images_per_second"].values())
    assert found["ratio_to_imagefolder"]["ImageFolder + DataLoader"] == [1.0, 1.0]
    assert found["hardware"]["processor"] and found["versions"]["torch"]


@pytest.mark.slow
def test_train_and_search_in_small(tmp_path):
    small = ["backbone=vit_micro", "batch=4", "repeats=2", f"json={tmp_path / 'x.json'}"]
    done = run("train", *small)
    assert done.returncode == 0, done.stderr
    names = ["glora, branches", "glora, static graph", "reference", "full fine-tuning"]
    assert [line.split(" | ")[0] for line in done.stdout.splitlines()[2:]] == [f"| {name}" for name in names]
    found = json.loads((tmp_path / "x.json").read_text())
    work = found["flops_per_step"]
    assert work["glora, branches"] < min(work["glora, static graph"], work["reference"])
    assert found["ratio_to_base"]["reference"] == [1.0, 1.0] and min(found["peak_megabytes"].values()) > 100
    assert found["command"].endswith("batch=4 device=cpu precision=fp32 repeats=2")
    done = forked(["benchmark.py", "search", *small, "ranks=[2]"])
    assert done.returncode == 0 and "| merged model |" in done.stdout
    found = json.loads((tmp_path / "x.json").read_text())
    floor, measured = found["floor_seconds"], found["seconds"]
    ratios = [a / b for a, b in zip(measured["merged model"], measured["untouched model"], strict=True)]
    assert found["further_ratios"] == {"merged model / untouched model": ratios}
    assert f"merged model / untouched model: {statistics.median(ratios):.3f} (" in done.stdout
    share = floor["merged model"] / statistics.median(measured["merged model"])
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("| merged model "))
    assert row.endswith(f"| {share:.0%} |")
    assert all(0 < floor[name] < min(measured[name]) for name in floor)


@pytest.mark.slow
def test_profile_and_growth_in_small(tmp_path):
    small = ["batch=4", "ranks=[2]", "repeats=1", f"json={tmp_path / 'x.json'}"]
    done = forked(["benchmark.py", "profile", *small])
    assert done.returncode == 0, done.stderr
    times = {name: values[0] for name, values in json.loads((tmp_path / "x.json").read_text())["seconds"].items()}
    whole = times.pop("training step")
    assert {PYTHON, REST, "attention", "matrix products and convolutions"} < times.keys()
    assert sum(times.values()) >= whole * 0.999 and min(times.values()) >= 0
    done = forked(["benchmark.py", "growth", *small, f"plot={tmp_path / 'x.png'}"])
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ")[:3] for line in done.stdout.splitlines()[2:]]
    three = ["images", "rank", "layers"]
    assert [row[::2] for row in rows] == [[a, w] for a in three for w in ("training step", "candidate")] + [
        ["population", "generation"]
    ]
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_candidates_of_growth_run_in_the_precision_asked_for(monkeypatch):
    seen = []
    monkeypatch.setattr(growth, "score", lambda model, images, labels, precision: seen.append(precision) or 0.5)
    setting = Setting(batch=2, precision="bf16")
    growth._candidate(setting)(0)
    growth._generation(setting, 3)(0)
    assert seen == [torch.bfloat16] * 4


def test_operations_fall_into_their_groups():
    found = {group_of(f"aten::{name}") for name in ("mm", "addmm", "convolution_backward", "mkldnn_linear")}
    assert found == {"matrix products and convolutions"}
    assert [group_of(f"aten::{n}") for n in ("mul", "sum", "copy_", "_foreach_mul_")] == [REST] * 3 + ["optimizer"]
    kernels = {
        "ampere_sgemm_128x64_tn": "matrix products and convolutions",
        "nvjet_tst_128x256_64x4_2x1_v_bz_coopA_TNT": "matrix products and convolutions",
        "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_bf16_128x128_tn_align8>": "matrix products and "
        "convolutions",
        "void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<...>": "attention",
        "fmha_cutlassF_f32_aligned_64x64_rf_sm80(AttentionKernel)": "attention",
        "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float, float>": "normalisation",
        "void at::native::vectorized_elementwise_kernel<4, at::native::GeluCUDAKernelImpl(...)>": "activation",
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<...FusedAdamMathFunctor...>": "optimizer",
        "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>": REST,
        "triton_poi_fused_gelu_3": "activation",
    }
    assert {name: group_of(name) for name in kernels} == kernels
    assert group_of("aten::_scaled_dot_product_flash_attention_for_cpu_backward") == "attention"


def test_work_is_counted_from_two_images_as_if_on_all():
    step = Step(Setting(batch=6, ranks=(2,)), "branch")
    assert step_flops(step, range(3, 4)) == flops(lambda: step(3))


def test_a_cuda_device_is_taken_with_its_index_and_as_a_run_takes_it():
    setting = Setting(device="cuda:1")
    assert setting.cuda and setting.form == "static" and "device=cuda:1 " in setting.overrides()
    assert kinds(setting)["reference, tf32"] == ("reference", "tf32")
    assert not Setting().cuda and Setting().form == "branch"


def test_float32_is_ieee_unless_tf32_is_measured():
    use_tf32(False)
    with tf32(True):
        assert torch.backends.cudnn.allow_tf32 and torch.get_float32_matmul_precision() == "high"
    assert not torch.backends.cudnn.allow_tf32 and torch.get_float32_matmul_precision() == "highest"


def test_ours_in_bf16_is_held_against_the_published_way_in_fp32():
    assert kinds(Setting(precision="bf16"))["reference"] == ("reference", "fp32")
    step = Step(Setting(batch=2, precision="bf16"), "branch", "bf16")
    found = []
    step.model.blocks[0].mlp.register_forward_hook(lambda m, i, out: found.append(out.dtype))
    step(0)
    assert found == [torch.bfloat16]


def test_a_step_of_the_baseline_has_the_gradients_of_ours():
    steps = {kind: Step(Setting(batch=2), kind) for kind in ("branch", "reference")}
    for step in steps.values():
        step.model.double()
        step.x = step.x.double()
        torch.manual_seed(1)
        for p in step.supernet.trainable().values():
            torch.nn.init.normal_(p, std=0.05)
            p.grad = torch.zeros_like(p)
        step.optimizer = torch.optim.SGD(step.supernet.trainable().values(), lr=0.0)
        step(7)
    ours, plain = (step.supernet.trainable() for step in steps.values())
    assert any(p.grad.any() for p in ours.values())
    for name, p in ours.items():
        torch.testing.assert_close(p.grad, plain[name].grad, rtol=1e-9, atol=1e-10)


WRONG = [
    ("", "data, train, search, profile, growth, inference"), ("dat", "data, train, search, profile, growth"),
    ("data image=3", "did you mean images="), ("data images=ten", "images=ten"), ("data size=9", "at least 32x32"),
    ("train backbone=vit", "backbone=vit is not one of"), ("train ranks=[4,8]", "descending"),
    ("search precision=fp8", "fp32, bf16"), ("train repeats=0", "repeats=0 must be at least 1"),
    ("growth backbone=swin_b", "is not a ViT"), ("train backbone=resnet18", "nothing to adapt"),
    ("train device=cuda:9", "device=cuda:9 is not one of cpu"),
    ("inference methods=[lora,dora]", "methods: dora is not one of full, linear"),
    ("inference batches=[0]", "batches=[0] must be numbers of images"),
    ("inference backbone=swin_b methods=[noah]", "method=noah is defined on ViTs"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "message"), WRONG)
def test_a_mistake_is_one_line(overrides, message):
    done = forked(["benchmark.py", *overrides.split()])
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("error: ") and message in done.stderr and done.stderr.count("\n") == 1


def test_help_names_every_part():
    for overrides in (["help"], ["--help"], ["train", "--help"]):
        done = forked(["benchmark.py", *overrides])
        assert done.returncode == 0 and all(f"benchmark.py {part} " in done.stdout for part in COMMANDS), done.stderr


def test_kinds_take_turns_in_alternating_order_with_the_same_numbers():
    called = []
    times = in_turn({name: lambda i, n=name: called.append((n, i)) for name in "ab"}, repeats=3, calls=2)
    rounds = [called[i : i + 4] for i in range(0, len(called), 4)]
    assert rounds[:2] == [[("a", 0), ("a", 1), ("b", 0), ("b", 1)], [("b", 2), ("b", 3), ("a", 2), ("a", 3)]]
    assert [r[0][0] for r in rounds] == ["a", "b", "a", "b"]
    assert list(times) == ["a", "b"] and all(len(t) == 3 for t in times.values())
