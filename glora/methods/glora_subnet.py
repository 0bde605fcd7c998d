"""One subnet of GLoRA's space (arXiv 2306.07967, equation 10), trained alone: no supernet and no search."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from glora.methods.glora import ALL_TENSORS, OnSupernet
from glora.options import LayerConfig, layer_options
from glora.soup import is_soup
from glora.space import LAYERS, SearchSpace, Subnet
from glora.typed import parse

LARGEST = "largest"


def read_subnet(text: str, ranks: tuple[int, ...], tensors: str) -> str:
    """A subnet's text in the one form that does not depend on a file: `LARGEST`, choices such as "B=lora_8", or JSON.

    Args:
        text: one of these, or the path of a file that `SearchSpace.to_json` wrote; "~" is the user's home.
        ranks: of the space.
        tensors: of the space.

    Raises:
        ValueError: if it is none of them, chooses nothing, or an option that the space does not have.
    """
    if text == LARGEST:
        return text
    if re.match(r"\w=", text):
        config = LayerConfig.parse_choices(text)
        configs, canonical = [config], config.choices()
    else:
        layers = _read_layers(text)
        configs, canonical = [LayerConfig.parse(words) for words in layers.values()], json.dumps(layers)
    for config in configs:
        for tensor, option, allowed in zip("ABCDE", config, layer_options(ranks, True, tensors), strict=True):
            if option not in allowed:
                raise ValueError(f"{tensor}={option} is not in the space (allowed: {', '.join(map(str, allowed))})")
    if all(config == LayerConfig() for config in configs):
        raise ValueError("every tensor is none, so that the head alone would train; choose method=linear for that")
    return canonical


def _read_layers(text: str) -> dict[str, list[str]]:
    """The layers of a subnet's JSON or JSON file."""
    if not text.lstrip().startswith("{"):
        try:
            path = Path(text).expanduser()
            if path.exists() and not path.is_file():  # a pipe would be waited for
                raise OSError("it is no regular file")
            text = path.read_text("utf-8-sig")
        except (OSError, ValueError, RuntimeError) as error:  # the last: "~" without a home
            raise ValueError(
                f"no file that can be read ({error}); write {LARGEST}, choices for every layer such as "
                "B=lora_8,E=vector, or the path of a subnet's JSON file as a search leaves it"
            ) from error
    if is_soup(text):
        raise ValueError("it is a soup, an average of subnets, and no subnet; what a search found is in subnet_*.json")
    try:
        layers = parse(LAYERS.validate_json, text)
    except ValueError as error:
        raise ValueError(f"it is no subnet, which maps layers to their five options: it {error}") from error
    if not layers:
        raise ValueError("the file maps no layers to their five options; it is not a subnet of GLoRA")
    return layers


class GLoRASubnet(OnSupernet):
    """A fixed subnet as a plain method: only what it uses is stored, trained, counted and saved.

    It starts from the leading columns of the tensors that a supernet of these ranks starts from.

    Args:
        model: as `Supernet`'s, and so are `ranks`, `tensors` and `convs`, which say in which space the subnet lies.
        subnet: "largest"; or a choice for every layer, such as "B=lora_8,E=vector" (D is none where there is no bias);
            or a subnet's JSON, or the path of a file with it.

    Raises:
        ValueError: as `read_subnet`, or if the subnet is one of another model.
    """

    name = "glora_subnet"
    label = "GLoRA"
    known_params = {"vit_b16": 3_041_664, "swin_b": 4_087_832}

    def __init__(
        self,
        model: nn.Module,
        ranks: Sequence[int] = (8, 4),
        tensors: str = ALL_TENSORS,
        convs: bool = False,
        subnet: str = LARGEST,
    ) -> None:
        text = read_subnet(subnet, tuple(ranks), tensors)
        super().__init__(model, ranks, tensors, convs)
        space = self.supernet.space
        chosen = _subnet(text, space)
        if not space.params(chosen):
            raise ValueError(f"method={self.name}: subnet={subnet} has no effect on layers without a bias")
        self.supernet.keep(chosen)

    @classmethod
    def check_options(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """All options, a file's content in place of its path, so that a run is the same wherever the file lay.

        Raises:
            ValueError: as `Method.check_options`, and for ranks, tensors or a subnet that make none.
        """
        options = super().check_options(values)
        try:
            options["subnet"] = read_subnet(options["subnet"], options["ranks"], options["tensors"])
        except ValueError as error:
            raise ValueError(f"method={cls.name}: option subnet={options['subnet'][:200]}: {error}") from error
        return options

    @classmethod
    def row_label(cls, options: Mapping[str, Any]) -> str:
        """ "GLoRA largest [8,4]", "GLoRA B=lora_8,E=vector", or "GLoRA subnet 1f2e3d4c [8,4]", the file's digest."""
        text, ranks = options["subnet"], f" [{','.join(map(str, options['ranks']))}]"
        if text == LARGEST:
            chosen = text + ranks
        elif text.startswith("{"):
            chosen = f"subnet {hashlib.sha256(text.encode()).hexdigest()[:8]}{ranks}"
        else:
            chosen = text
        return f"{cls.label} {chosen}{cls.notes(options)}"


def _subnet(text: str, space: SearchSpace) -> Subnet:
    """The subnet of a text that `read_subnet` gave. Raises ValueError if it is one of another model."""
    if text == LARGEST:
        return space.largest
    if not text.startswith("{"):
        return space.everywhere(LayerConfig.parse_choices(text))
    subnet = Subnet.from_json(text, space.names)
    space.check(subnet)
    return subnet
