"""Small packages, whose releases are made up, for the tests of interfaces and scans."""

from __future__ import annotations

import shutil
from pathlib import Path
from textwrap import dedent

from support import ROOT

from mcore_compat.api import codebase, interface_index, packages, refresh, scan
from mcore_compat.api.definitions import Names
from mcore_compat.api.interface_index import InterfaceIndex
from mcore_compat.api.scan import ScanReport
from mcore_compat.core.workspace import Workspace

MCORE = packages.BY_NAME[packages.MCORE]

OLD: dict[str, Names] = {
    "megatron.core": {"": "module", "parallel_state": "= megatron.core.parallel_state"},
    "megatron.core.parallel_state": {
        "": "module",
        "get_rank": "def()",
        "get_embedding_group": "def(check=True)",
        "_RANK": "value",
    },
    "megatron.core.transformer": {
        "": "module",
        "Config": "= megatron.core.transformer.config.Config",
    },
    "megatron.core.transformer.config": {
        "": "module",
        "Config": "class()",
        "Config.__init__": "def(self, layers, heads=8, *, dropout=0.1)",
        "Config.of": "classmethod(cls, text)",
    },
    "megatron.core.models": {
        "": "module",
        "Model": "class(torch.nn.Module)",
        "Model.__init__": "def(self, config, vocabulary, pre=True, post=True)",
        "Model.forward": "def(self, x, mask)",
        "Kind": "class(enum.Enum)",
        "Kind.first": "value",
        "Kind.second": "value",
        "build": "def(config, kind, *rest, **more)",
        "wrapped": "def?(x)",
    },
    "megatron.core.plugins": {"": "module?"},
    "megatron.core.helpers": {"": "module", "split": "def(x, parts, dim)", "join": "def(x, parts)"},
}


def changed() -> dict[str, Names]:
    """The next release: names gone and moved, parameters renamed, added, by keyword only."""
    new = {module: dict(names) for module, names in OLD.items()}
    del new["megatron.core.parallel_state"]["get_embedding_group"]
    new["megatron.core.transformer.config"]["Config.__init__"] = (
        "def(self, layers, attention_heads=8, *, dropout=0.2)"
    )
    new["megatron.core.models"]["Model.__init__"] = "def(self, config, vocabulary, *, post=True)"
    del new["megatron.core.models"]["Kind.second"]
    del new["megatron.core.helpers"]
    new["megatron.core.utils"] = {"": "module"}
    new["megatron.core.utils.helpers"] = {
        "": "module",
        "split": "def(x, dim, parts)",
        "join": "def(x, parts, group)",
        "brand_new": "def()",
    }
    return new


def index() -> InterfaceIndex:
    """Of three releases: the second is the first, the third changed."""
    return interface_index.of_releases(MCORE, {"0.14.0": OLD, "0.15.0": OLD, "0.16.0": changed()})


def scanned(folder: Path, *codes: str, against: str = "0.16.0", before: str = "") -> ScanReport:
    """What is said of some files, `code0.py` and so on."""
    for number, code in enumerate(codes):
        (folder / f"code{number}.py").write_text(dedent(code))
    written_for = {MCORE.name: before} if before else None
    code = codebase.read(folder)
    return scan.scan(code, {MCORE.name: against}, {MCORE.name: index()}, {}, written_for)


def workspace(folder: Path) -> Workspace:
    """A workspace with the snapshot's constraints and the index above."""
    shutil.copytree(ROOT / "tests" / "snapshot" / "constraints", folder / "constraints")
    place = Workspace(folder)
    refresh.write(index(), place.interfaces)
    for name in (packages.MODELOPT, packages.TE):
        package = packages.BY_NAME[name]
        only = {package.root: {"": "module", "__version__": "value"}}
        versions = {"nvidia-modelopt": ["0.41.0"], "transformer-engine": ["2.11.0"]}[name]
        refresh.write(
            interface_index.of_releases(package, dict.fromkeys(versions, only)), place.interfaces
        )
    return place
