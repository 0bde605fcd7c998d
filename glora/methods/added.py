"""Methods that add modules of their own between the modules of a frozen timm ViT or Swin; none of them merges."""

from __future__ import annotations

from typing import Any, ClassVar

from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from glora.attach import NotDefined
from glora.methods.base import Method, NotMergeable
from glora.state import parameters_of


class AddedModules(Method):
    """`parts` lists what was added and trains; `lists` holds the blocks, one list for a ViT, one per stage for a Swin.

    Raises:
        NotDefined: for a model that is neither, or whose blocks are not timm's pre-norm ones (parallel, post-norm).
    """

    mergeable = False
    ours_on_swin = True
    reason: ClassVar[str]

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        body: Any = model
        kind: type[nn.Module] = Block
        if isinstance(model, VisionTransformer):
            self.lists: list[nn.Sequential] = [body.blocks]
        elif isinstance(model, SwinTransformer):
            self.lists, kind = [stage.blocks for stage in body.layers], SwinTransformerBlock
        else:
            raise NotDefined(f"method={self.name} is defined on timm's ViTs and Swins, not on {type(model).__name__}")
        other = {type(b).__name__ for blocks in self.lists for b in blocks if type(b) is not kind}
        if other:
            raise NotDefined(
                f"method={self.name} is defined on timm's pre-norm blocks ({kind.__name__}) without another method on "
                f"them, not on {', '.join(sorted(other))}"
            )
        self.parts: list[nn.Module] = []

    def trainable(self) -> dict[str, nn.Parameter]:
        """The added parameters and the head."""
        return parameters_of(self.model, nn.ModuleList(self.parts)) | self.head_parameters()

    def merge(self) -> nn.Module:
        """Raises NotMergeable with the mathematical reason."""
        raise NotMergeable(f"method={self.name} cannot be merged into plain weights: {self.reason}")


def bottleneck(like: Tensor, hidden: int, bias: bool = True) -> tuple[nn.Linear, nn.Linear]:
    """Down (d to h) and up (h to d) projections; d, device and dtype are those of `like`, a (d,) tensor.

    Raises:
        ValueError: for a width below 1.
    """
    if hidden < 1:
        raise ValueError(f"hidden={hidden} must be at least 1; Table 1 has 8")
    width, factory = like.shape[0], {"device": like.device, "dtype": like.dtype}
    return nn.Linear(width, hidden, bias, **factory), nn.Linear(hidden, width, bias, **factory)
