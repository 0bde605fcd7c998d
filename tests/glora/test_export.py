"""The exported winner is a plain timm model: loaded with timm and safetensors alone it gives the same logits."""

import json
import random
import subprocess
import sys

import pytest
import torch

from glora.export import export_model
from tests.helpers.small_models import SMALL, filled


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_a_deployer_needs_timm_alone(kind, tmp_path):
    name, kwargs = SMALL[kind]
    supernet = filled(kind)
    supernet.model.float()
    supernet.sample(random.Random(1))
    export_model(supernet.merge(), tmp_path, f"{name}.tag", kwargs, 5, {"size": kwargs["img_size"]})
    x = torch.randn(2, 3, kwargs["img_size"], kwargs["img_size"])
    torch.save(x, tmp_path / "x.pt")
    script = (
        "import json, sys, timm, torch; from safetensors.torch import load_file\n"
        "c = json.load(open('config.json'))\n"
        "m = timm.create_model(c['architecture'], num_classes=c['num_classes'], **c['kwargs'])\n"
        "m.load_state_dict(load_file('model.safetensors'))\n"
        "assert not any(n.split('.')[0] == 'glora' for n in sys.modules)\n"
        "torch.save(m.eval()(torch.load('x.pt')), 'y.pt')\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    expected = supernet.model.eval()(x)
    torch.testing.assert_close(torch.load(tmp_path / "y.pt"), expected, rtol=1e-4, atol=1e-4)
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == name


def test_a_model_that_is_not_plain_is_refused_and_nothing_written(tmp_path):
    supernet = filled("vit")
    with pytest.raises(ValueError, match="not a plain"):
        export_model(supernet.model, tmp_path / "out", SMALL["vit"][0], SMALL["vit"][1], 5, {})
    assert not (tmp_path / "out").exists()
