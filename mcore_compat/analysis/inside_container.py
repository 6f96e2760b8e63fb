"""Detect an NVIDIA container, and its packages, from the environment variables that it sets.
Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mcore_compat.core.containers import IMAGES, Containers

MONTH, PRODUCT, BUILD = "NVIDIA_PYTORCH_VERSION", "NVIDIA_PRODUCT_NAME", "NVIDIA_BUILD_ID"

HELD = {
    "torch": "PYTORCH_VERSION",
    "transformer-engine": "TRANSFORMER_ENGINE_VERSION",
    "nvidia-modelopt": "MODEL_OPT_VERSION",
    "CUDA": "CUDA_VERSION",
}
"""The variables in which an image names the versions that it was built with."""


@dataclass(frozen=True, kw_only=True)
class InsideContainer:
    """The container that an environment is in. `short`: its name for `--container`, empty if the
    container is unknown; `held`: its versions by axis, as far as known."""

    name: str
    short: str
    held: Mapping[str, str]

    def text(self, torch: str | None) -> str:
        """Name the container and its versions; say if another `torch` was installed over its
        own."""
        held = ", ".join(f"{axis} {version}" for axis, version in self.held.items())
        own = self.held.get("torch", "")
        over = f"; torch {torch} replaced its own, which its other packages are built for"
        return f"this is {self.name}{f', with {held}' if held else ''}" + (
            over if torch and own and not torch.startswith(own) else ""
        )


def inside(environ: Mapping[str, str], known: Containers) -> InsideContainer | None:
    """Return the container that variables name, or None. The month alone is not enough: people set
    it themselves, because NeMo needs it."""
    month, product, build = (environ.get(name, "") for name in (MONTH, PRODUCT, BUILD))
    if not re.fullmatch(r"\d\d\.\d\d", month) or not (product or build):
        return None
    image = f"{IMAGES['pytorch']}:{month}-py3"
    framework = product not in ("", "PyTorch")
    name = f"NVIDIA's {product} container, built on {image}" if framework else image
    row = known.get("pytorch", month)
    pins = {**row.pins, "CUDA": row.cuda} if row and not framework else {}
    said = {axis: environ.get(variable) or pins.get(axis, "") for axis, variable in HELD.items()}
    return InsideContainer(
        name=f"{name}{f' (build {build})' if build else ''}",
        short=f"pytorch:{month}" if row else "",
        held={axis: version for axis, version in said.items() if version},
    )
