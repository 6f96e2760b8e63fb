"""What `doctor` says of the packages around: made-up ones here; real ones in tests/real."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import snapshot
from test_doctor import KNOWN_CELL, RIGHT, VERSIONS

from mcore_compat.analysis import doctor
from mcore_compat.analysis.around.reading import NOTHING_AROUND, Around
from mcore_compat.analysis.package_origin import PackageOrigin
from mcore_compat.analysis.remarks import FAULT, NOTE, Remark
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.profiles import Profile
from mcore_compat.environments import guarded_imports, shared_libraries, version_guards
from mcore_compat.environments.scan import Installed
from mcore_compat.environments.shared_libraries import LibraryFault

GPT = Profile(name="", features=("restore",), families=("gpt",))
HYBRID = Profile(name="", features=("restore",), families=("hybrid-mamba",))


def written(folder: Path, files: Mapping[str, str]) -> Path:
    """A folder of packages."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def said(
    there: Installed,
    around: Around = NOTHING_AROUND,
    profile: Profile | None = None,
    matrix: Matrix | None = None,
) -> list[Remark]:
    matrix = matrix or replace(snapshot.matrix(), undeclared=())
    every = doctor.diagnose(there, matrix, KNOWN_CELL, {}, profile, around=around)
    return [remark for remark in every if remark.cell is None]


class TestMetadata:
    def test_a_requirement_that_is_missing(self) -> None:
        there = replace(RIGHT, requires={"nvidia-modelopt": ("pulp<4",)})
        (remark,) = said(there)
        assert remark.kind == FAULT
        assert remark.text.endswith("requires pulp<4, which is not installed")
        assert remark.help == "pip install 'pulp<4'"

    def test_a_package_around_whose_own_requirement_is_broken(self) -> None:
        versions = {**VERSIONS, "transformers": "4.57.0", "huggingface-hub": "1.2"}
        requires = {"transformers": ("huggingface-hub<1.0", "absent")}
        (remark,) = said(replace(RIGHT, versions=versions, requires=requires))
        assert remark.help == "pip install 'huggingface-hub<1.0'"

    def test_a_range_of_an_extra_is_noted_and_one_of_developers_is_not(self) -> None:
        asked = ('peft>=0.17; extra == "hf"', 'onnx<1; extra == "dev-test"')
        versions = {**VERSIONS, "peft": "0.16", "onnx": "2.0"}
        (remark,) = said(replace(RIGHT, versions=versions, requires={"nvidia-modelopt": asked}))
        assert remark.kind == NOTE
        assert "declares peft>=0.17 in its extra hf; peft 0.16 is installed" in remark.text

    @pytest.mark.parametrize(("profile", "kinds"), [(None, [NOTE]), (GPT, []), (HYBRID, [FAULT])])
    def test_what_a_family_needs_is_a_fault_for_who_uses_it(
        self, profile: Profile | None, kinds: list[str]
    ) -> None:
        matrix = snapshot.matrix()
        rule = next(r for r in matrix.undeclared if "mamba-ssm" in r.requires)
        rule = replace(rule, requires=("mamba-ssm",), families=("hybrid-mamba",))
        matrix = replace(matrix, undeclared=(rule,))
        assert [r.kind for r in said(RIGHT, profile=profile, matrix=matrix)] == kinds

    def test_what_a_release_declares_is_not_said_to_be_undeclared(self) -> None:
        matrix = snapshot.matrix()
        rule = next(
            r for r in matrix.undeclared if r.of == "megatron-core" and r.when.contains("0.16")
        )
        matrix = replace(matrix, undeclared=(replace(rule, requires=("packaging",)),))
        there = replace(RIGHT, requires={"megatron-core": ("packaging>=24.2",)})
        (remark,) = said(there, matrix=matrix)
        assert remark.text == (
            "megatron-core 0.16.1 requires packaging>=24.2, which is not installed"
        )


class TestVersionGuards:
    UTILS = "transformer_engine/pytorch/attention/dot_product_attention/utils.py"
    CODE = (
        "class FlashAttentionUtils:\n"
        '    version_required = PkgVersion("2.1.1")\n'
        '    max_version = PkgVersion("2.8.3")\n'
    )

    @pytest.mark.parametrize(
        ("version", "told"),
        [("2.8.3", False), ("2.8.3.post1", True), ("2.0.9", True), ("2.1.1", False)],
    )
    def test_bounds_are_read_from_the_code(self, version: str, told: bool, tmp_path: Path) -> None:
        place = written(tmp_path, {self.UTILS: self.CODE})
        around = Around(ranges=version_guards.ranges([place], {"flash-attn"}))
        remarks = said(replace(RIGHT, versions={**VERSIONS, "flash-attn": version}), around)
        assert bool(remarks) is told
        if told:
            assert f"accepts >=2.1.1,<=2.8.3 ({self.UTILS}:2)" in remarks[0].text
            assert "'flash-attn==2.8.3'" in remarks[0].help
            assert "mcore-compat toolkit --cuda 12.8 makes one" in remarks[0].help

    def test_a_guard_that_is_not_reached_is_none(self, tmp_path: Path) -> None:
        """Without one of its modules, megatron-core does not look at the version."""
        guard = "megatron/core/dist_checkpointing/strategies/nvrx.py"
        files = {guard: 'NVRX_MIN_VERSION = "0.6.0"\n'}
        modules = ("core", "cached_metadata_filesystem_reader", "filesystem_async")
        base = "nvidia_resiliency_ext/checkpointing/async_ckpt"
        files |= {f"{base}/{name}.py": "" for name in modules}
        place = written(tmp_path, files)
        assert version_guards.ranges([place], {"nvidia-resiliency-ext"}) == ()
        written(tmp_path, {f"{base}/state_dict_saver.py": ""})
        around = Around(ranges=version_guards.ranges([place], {"nvidia-resiliency-ext"}))
        versions = {**VERSIONS, "nvidia-resiliency-ext": "0.4.1"}
        (remark,) = said(replace(RIGHT, versions=versions), around)
        assert remark.kind == FAULT
        assert remark.help.startswith("pip uninstall -y nvidia-resiliency-ext: ")


class TestGuardedImports:
    PLUGIN = (
        "from ..utils import import_plugin\n"
        'with import_plugin("megatron"):\n'
        "    from .megatron import *\n"
    )

    def off(self, folder: Path, files: Mapping[str, str]) -> list[str]:
        place = written(folder, files)
        off = guarded_imports.switched_off([place])
        return [f"{one.where} {one.unmet.missing}" for one in off if not one.unmet.absent]

    @pytest.mark.parametrize(
        ("new", "old", "off"),
        [("rope = 1", "", False), ("", "def rope(): ...", False), ("", "", True)],
    )
    def test_one_way_of_several_must_do(
        self, new: str, old: str, off: bool, tmp_path: Path
    ) -> None:
        code = (
            "import torch\n\n"
            "try:\n"
            "    try:\n"
            "        from transformer_engine.pytorch.rope import rope\n"
            "    except ImportError:\n"
            "        from transformer_engine.pytorch import rope\n"
            "except ImportError:\n"
            "    rope = None\n"
        )
        files = {
            "megatron/core/x.py": code,
            "transformer_engine/__init__.py": "",
            "transformer_engine/pytorch/__init__.py": old,
            "transformer_engine/pytorch/rope/__init__.py": new,
        }
        # A module of the name of what is wanted would be taken for it.
        del files["transformer_engine/pytorch/rope/__init__.py"]
        files["transformer_engine/pytorch/new.py"] = new
        files["megatron/core/x.py"] = code.replace("pytorch.rope import", "pytorch.new import")
        missing = ["megatron/core/x.py:4 rope of transformer_engine.pytorch.new"]
        assert self.off(tmp_path, files) == (missing if off else [])

    def test_a_plugin_is_followed_to_what_it_imports(self, tmp_path: Path) -> None:
        files = {
            "modelopt/torch/quantization/plugins/__init__.py": self.PLUGIN,
            "modelopt/torch/quantization/plugins/megatron.py": (
                '"""A plugin.\n\nfrom nowhere import nothing\n"""\n'
                "from megatron.core.utils import (\n    here,\n    gone,\n)\n"
            ),
            "megatron/core/utils.py": "def here():\n    gone = 1\n",
        }
        assert self.off(tmp_path, files) == [
            "modelopt/torch/quantization/plugins/__init__.py:2 gone of megatron.core.utils"
        ]
        around = Around(switched_off=guarded_imports.switched_off([tmp_path]))
        (remark,) = said(RIGHT, around)
        assert remark.kind == FAULT
        assert "continues without ModelOpt's plugin megatron" in remark.text
        assert "(imported at modelopt/torch/quantization/plugins/megatron.py:5)" in remark.text
        (remark,) = said(RIGHT, around, GPT)
        assert remark.kind == NOTE

    def test_what_is_not_installed_at_all_is_not_off(self, tmp_path: Path) -> None:
        code = "try:\n    import apex\n    import megatron.bridge\nexcept ImportError:\n    pass\n"
        assert self.off(tmp_path, {"megatron/core/x.py": code}) == []

    @pytest.mark.parametrize(
        "text", ["def __getattr__(name): ...", "from .other import *", "from a import name as gone"]
    )
    def test_what_may_be_there_is_not_said_to_be_missing(self, text: str, tmp_path: Path) -> None:
        files = {
            "megatron/core/x.py": "try:\n    from mamba_ssm import gone\nexcept ImportError: ...\n",
            "mamba_ssm/__init__.py": f"\n{text}\n",
            "mamba_ssm/other.py": "gone: int = 1\n",
        }
        assert self.off(tmp_path, files) == []


class TestLibraries:
    def test_a_library_that_is_nowhere(self, tmp_path: Path) -> None:
        """A real library as an extension, and what it needs under a name that nothing has."""
        import _ctypes

        source = Path(_ctypes.__file__)
        needed = shared_libraries.needed(source)
        name = next(n for n in needed if n.startswith("libc.so"))
        text = source.read_bytes().replace(name.encode(), name.replace("libc", "lixx").encode())
        (tmp_path / "flash_attn_2_cuda.so").write_bytes(text)
        (one,) = shared_libraries.faults([tmp_path], {})
        assert (one.package, one.file) == ("flash-attn", "flash_attn_2_cuda.so")
        assert one.missing == name.replace("libc", "lixx")
        (tmp_path / "flash_attn_2_cuda.so").write_bytes(source.read_bytes())
        assert shared_libraries.faults([tmp_path], {}) == ()

    @pytest.mark.parametrize(
        ("fault", "text", "help_"),
        [
            (
                LibraryFault(package="torch", file="f", missing="libcudnn.so.9"),
                "f of torch 2.9.1 needs libcudnn.so.9, which is not installed",
                "pip install --force-reinstall --no-deps 'nvidia-cudnn-cu12==9.1'",
            ),
            (
                LibraryFault(package="torch", file="f", family="libnccl", symbols=("ncclX",)),
                "f of torch 2.9.1 needs ncclX, which nvidia-nccl-cu12 2.0 does not have",
                "pip install --no-deps 'nvidia-nccl-cu12==2.27'",
            ),
            (
                LibraryFault(
                    package="flash-attn",
                    file="f",
                    family="torch",
                    symbols=("_ZN3c10",),
                    other_strings=True,
                ),
                "f of flash-attn 2.8.3 was built for another torch than torch 2.9.1, which lacks "
                "_ZN3c10; it was built with the new C++11 string ABI",
                "pip install --force-reinstall --no-build-isolation --no-deps 'flash-attn==2.8.3'",
            ),
            (
                LibraryFault(
                    package="flash-attn", file="f", versions=("GLIBCXX_3.4.32",), library="/usr/l"
                ),
                "f of flash-attn 2.8.3 needs GLIBCXX_3.4.32, which /usr/l does not have",
                "no pip command",
            ),
        ],
    )
    def test_each_fault_has_what_helps(self, fault: LibraryFault, text: str, help_: str) -> None:
        versions = {**VERSIONS, "flash-attn": "2.8.3", "nvidia-nccl-cu12": "2.0"}
        asked = ("nvidia-cudnn-cu12==9.1", "nvidia-nccl-cu12==2.27")
        there = replace(RIGHT, versions=versions, requires={"torch": asked})
        remarks = said(there, Around(libraries=(fault,)))
        told = next(remark for remark in remarks if remark.text.startswith("f of "))
        assert told.kind == FAULT
        assert told.text.startswith(text)
        assert told.help.startswith(help_)


@pytest.mark.parametrize(("nvcc", "told"), [(False, True), (True, False)])
def test_a_te_with_cuda_sources_needs_an_nvcc(nvcc: bool, told: bool) -> None:
    from packaging.specifiers import SpecifierSet

    origin = PackageOrigin(with_cuda=(SpecifierSet("<2.4"),), nvcc=nvcc, cuda="12.4")
    command = origin.part("1.13.0", "pip install x")
    assert ("mcore-compat toolkit --cuda 12.4 makes one" in command) is told
    assert origin.part("2.4.0", "pip install x") == "pip install x"


def test_an_empty_environment_is_told_versions() -> None:
    empty = Installed(python="3.12.1", versions={}, requires={})
    remarks = doctor.diagnose(empty, snapshot.matrix(), KNOWN_CELL)
    helps = [remark.help for remark in remarks]
    assert helps[0].startswith("pip install 'megatron-core==0.16.1', as in compat-0.16")
    assert any("'transformer-engine[pytorch]==2.11.0'" in help_ for help_ in helps)
