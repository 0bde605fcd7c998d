"""The README's library example runs as printed, but for the model's size and weights."""

import re

import torch

from tests.helpers import ROOT

README = (ROOT / "README.md").read_text()


def test_library_example():
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    small = '"vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=10'
    arguments = '"vit_small_patch16_224", pretrained=True, num_classes=10'
    assert arguments in code and len(code.splitlines()) <= 18
    images, labels = torch.randn(8, 3, 32, 32), torch.randint(0, 10, (8,))

    def accuracy(model):
        return (model(images).argmax(1) == labels).float().mean().item()

    space = {"loader": [(images, labels)] * 2, "accuracy": accuracy}
    exec(code.replace(arguments, small), space)
    space["model"].eval()
    space["supernet"].set(space["search"].best().subnet)
    torch.testing.assert_close(space["plain"].eval()(images), space["model"](images), rtol=1e-4, atol=1e-5)
    assert len(space["search"].candidates) == 1000
