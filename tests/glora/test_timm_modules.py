"""The smallest model of every module of timm: adapted by GLoRA, in every layer and merged to the same, or refused."""

import pytest
import timm
import torch
from torch import nn

from glora.backbones import WeightsError
from runner.config.errors import ConfigError
from runner.stages.model import build
from tests.helpers.composing import resolved

SMALLEST = """
beit beit_base_patch16_224 224
byoanet halonet_h1 256
byobnet test_byobnet 64
cait cait_xxs24_224 224
coat coat_tiny 224
convit convit_tiny 224
convmixer convmixer_768_32 64
convnext test_convnext 64
cpubone cpubone_nano 64
crossvit crossvit_tiny_240 64
csatv2 csatv2 64
cspnet cs3darknet_focus_s 64
cspnext cspnext_tiny 64
davit davit_tiny 64
deepseek_vit deepseek_vit_412m 224
deit deit_tiny_patch16_224 224
densenet densenet121 64
dla dla46x_c 64
dpn dpn48b 64
edgenext edgenext_xx_small 64
efficientformer efficientformer_l1 224
efficientformer_v2 efficientformerv2_s0 224
efficientnet test_efficientnet 64
efficientvim efficientvim_m1 64
efficientvit_mit efficientvit_b0 64
efficientvit_msra efficientvit_m0 64
eva vit_tiny_patch16_dinov3_qkvb 64
fasternet fasternet_t0 64
fastvit fastvit_t8 64
focalnet focalnet_tiny_srf 64
gcvit gcvit_xxtiny 224
gemma4_vit gemma4_vit_167m 64
ghostnet ghostnet_050 64
hardcorenas hardcorenas_b 64
hgnet hgnetv2_b0 64
hiera hiera_tiny_224 224
hieradet_sam2 sam2_hiera_tiny 64
hrnet hrnet_w18_small 64
iformer iformer_t 64
inception_next inception_next_atto 64
inception_resnet_v2 inception_resnet_v2 96
inception_v3 inception_v3 96
inception_v4 inception_v4 96
lcnetv2 lcnetv2_small 64
levit levit_128s 224
lowformer lowformer_b0 64
mambaout test_mambaout 64
maxxvit test_coatnet 160
metaformer poolformerv2_s12 64
mlp_mixer gmlp_ti16_224 224
mobilenetv3 mobilenetv3_small_050 64
mobilenetv5 mobilenetv5_base 64
mobilevit mobilevit_xxs 64
mvitv2 mvitv2_tiny 64
naflexvit naflexvit_base_patch16_parfac_gap 64
nasnet nasnetalarge 64
nest nest_tiny 224
nextvit nextvit_small 64
nfnet test_nfnet 64
pit pit_ti_224 224
pnasnet pnasnet5large 64
pvt_v2 pvt_v2_b0 64
qwen3_vit qwen3_vit_88m 64
rdnet rdnet_tiny 64
regnet regnetx_002 64
repghost repghostnet_050 64
repvit repvit_m1 64
res2net res2next50 64
resnest resnest14d 64
resnet test_resnet 64
resnetv2 resnetv2_18 64
rexnet rexnet_100 64
selecsls selecsls42 64
senet legacy_seresnet18 64
sequencer sequencer2d_s 64
shvit shvit_s1 64
sknet skresnet18 64
starnet starnet_s050 64
swiftformer swiftformer_xs 64
swin_transformer swin_tiny_patch4_window7_224 224
swin_transformer_v2 swinv2_tiny_window8_256 256
swin_transformer_v2_cr swinv2_cr_tiny_224 224
tiny_vit tiny_vit_5m_224 64
tnt tnt_s_legacy_patch16_224 224
tresnet tresnet_m 64
twins twins_svt_small 64
vgg vgg11 64
visformer visformer_tiny 224
vision_transformer test_vit 64
vision_transformer_hybrid vit_tiny_r_s16_p8_224 224
vision_transformer_relpos test_vit_relpos 160
vision_transformer_sam samvit_base_patch16_224 64
vitamin vitamin_small_224 224
volo volo_d1_224 224
vovnet ese_vovnet19b_slim_dw 64
xception legacy_xception 64
xception_aligned xception41p 64
xcit xcit_nano_12_p8_224 64
"""
"""Module, its model with the fewest parameters, and the smallest of some usual image sizes that it takes."""
NARROW = {
    "beit": "embed_dim:32,depth:2,num_heads:2",
    "deepseek_vit": "embed_dim:64,depth:2,num_heads:2",
    "gemma4_vit": "embed_dim:64,depth:2,num_heads:2",
    "naflexvit": "embed_dim:32,depth:2,num_heads:2",
    "qwen3_vit": "embed_dim:64,depth:2,num_heads:2",
    "vgg": "mlp_ratio:0.02",
    "vision_transformer_sam": "embed_dim:32,depth:2,num_heads:2",
    "vision_transformer_relpos": "depth:2",
}
"""What makes a large one small: kwargs of its architecture."""
TABLE = {overrides[0]: (overrides[1], int(overrides[2])) for overrides in map(str.split, SMALLEST.strip().splitlines())}
QUICK = ("byobnet", "convnext", "densenet", "efficientformer", "ghostnet", "levit", "naflexvit", "repvit",
         "swiftformer", "vgg", "vision_transformer")  # fmt: skip
REFUSED = {"coat": "are one shared", "volo": "aux_head.weight of volo_d1_224 is new"}
"""What the one line says of those that cannot be adapted."""
DISTILLED = [("deit_tiny_distilled_patch16_224", 224, "embed_dim:32,depth:2,num_heads:2"),
             ("pit_ti_distilled_224", 224, "")]  # fmt: skip
CASES = [
    pytest.param(module, *TABLE.get(module, (None, 224)), marks=() if module in QUICK else pytest.mark.slow, id=module)
    for module in timm.list_modules()
]


def adapted(name, size, kwargs=""):
    """GLoRA on the model as a run with these overrides builds it; where it has no linear layer, on its convolutions."""
    overrides = ["dataset=digits", "backbone=timm", f"backbone.timm_name={name}", "backbone.pretrained=false",
                 "ranks=[2]", f"backbone.image_size={size}", f"+backbone.kwargs={{{kwargs}}}",
                 "device=cpu"]  # fmt: skip
    try:
        return build(resolved(*overrides))
    except ConfigError as error:
        if not str(error).endswith("; try convs=true"):
            raise
    return build(resolved(*overrides, "convs=true"))


def check_every_layer_takes_part(method, size):
    """No parameter is zero, as in a pre-trained model: many a block begins as the identity."""
    torch.manual_seed(0)
    model = method.model.double().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=0.02)
    method.set(method.space.largest)
    x = torch.randn(2, 3, size, size, dtype=torch.double)
    logits = model(x)
    logits.square().sum().backward()
    assert logits.shape == (2, 10)
    assert not [n for n, p in method.trainable().items() if p.grad is None]
    assert not [n for n, layer in method.supernet.layers.items() if not layer.Bd.grad.any() or not layer.E.grad.any()]
    assert all(p.grad.any() for p in method.head_parameters().values())
    with torch.no_grad():
        torch.testing.assert_close(method.merge().eval()(x), logits, rtol=1e-6, atol=1e-6 * logits.abs().max().item())


@pytest.mark.parametrize(("module", "name", "size"), CASES)
def test_the_smallest_model_of_a_module_is_adapted_or_refused_in_one_line(module, name, size):
    name = name or timm.list_models(module=module)[0]  # of a timm newer than the table
    if module not in REFUSED:
        check_every_layer_takes_part(adapted(name, size, NARROW.get(module, "")), size)
        return
    with pytest.raises((ConfigError, WeightsError), match=REFUSED[module]) as caught:
        adapted(name, size)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("name", "size", "kwargs"), DISTILLED)
def test_both_heads_of_a_distilled_model_are_its_classifier(name, size, kwargs):
    method = adapted(name, size, kwargs)
    assert isinstance(method.head, nn.ModuleList) and not method.head_parameters().keys() & set(method.space.names)
    assert {n.partition(".")[0] for n in method.head_parameters()} == {"head", "head_dist"}
    check_every_layer_takes_part(method, size)


@pytest.mark.slow  # its kwargs make it no smaller
def test_a_volo_without_its_second_classifier_is_adapted():
    check_every_layer_takes_part(adapted("volo_d1_224", 224, "use_aux_head:false"), 224)
