"""`doctor` on the packages around: environments of real packages that are wrong, each in its own
way, and some that are right. Of a real cell's, by links; what is put in is fetched, or is metadata
alone where only that is looked at."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from environment_support import WHOLE, doctor, environment_of, fetched, linked, site

pytestmark = pytest.mark.real


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """What is done to the environment, and what doctor says then: in one line all of `says`, and
    below it `helps`."""

    says: tuple[str, ...]
    helps: str
    without: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    python: str = "3.12"
    metadata: tuple[tuple[str, str], ...] = ()
    options: tuple[str, ...] = ()
    kind: str = "fault"


WRONG = {
    "RoPE fusion is off: this TE has it elsewhere": Wrong(
        pins=("megatron-core==0.12.3",),
        python="3.11",
        kind="note",
        says=(
            "megatron/core/extensions/transformer_engine.py:1343 continues without the fused "
            "rotary embedding",
            "transformer-engine 2.11.0 has no apply_rotary_pos_emb",
        ),
        helps="mcore-compat api apply_rotary_pos_emb prints which releases",
    ),
    "pruning is off: megatron-core is too old for it": Wrong(
        pins=("megatron-core==0.14.0", "nvidia-modelopt==0.47.0"),
        kind="note",
        says=(
            "modelopt/torch/prune/plugins/__init__.py:20 continues without ModelOpt's plugin "
            "mcore_minitron",
            "megatron-core 0.14.0 has no megatron.core.models.hybrid",
        ),
        helps="mcore-compat recommend 'nvidia-modelopt 0.47.0'",
    ),
    "ModelOpt's plugin for megatron-core is off": Wrong(
        pins=("megatron-core==0.12.3",),
        python="3.11",
        says=(
            "modelopt/torch/quantization/plugins/__init__.py:",
            "plugin megatron of modelopt.torch.quantization",
            "megatron-core 0.12.3 has no",
        ),
        helps="mcore-compat recommend 'nvidia-modelopt 0.46.1'",
    ),
    "nvidia-resiliency-ext is too old": Wrong(
        pins=("megatron-core==0.19.2", "nvidia-resiliency-ext==0.4.1"),
        says=(
            "nvidia-resiliency-ext 0.4.1 is installed, but megatron-core 0.19.2 accepts >=0.6.0",
            "megatron/core/dist_checkpointing/strategies/nvrx.py:15",
            "no checkpoint is saved",
        ),
        helps="pip uninstall -y nvidia-resiliency-ext",
    ),
    "transformers is too old": Wrong(
        pins=("transformers==4.53.3",),
        says=(
            "transformers 4.53.3 is installed, but nvidia-modelopt 0.46.1 accepts >=4.57,<5.15 "
            "(modelopt/torch/__init__.py:52)",
        ),
        helps="pip install 'transformers==",
    ),
    "flash-attn is too new": Wrong(
        metadata=(("flash-attn", "2.8.3.post2"),),
        kind="note",
        says=(
            "flash-attn 2.8.3.post2 is installed, but transformer-engine 2.11.0 accepts "
            ">=2.1.1,<=2.8.3 (transformer_engine/pytorch/attention/dot_product_attention/"
            "utils.py:116)",
        ),
        helps="pip install --no-build-isolation --no-deps 'flash-attn==2.8.3'",
    ),
    "NCCL is too old": Wrong(
        pins=("nvidia-nccl-cu12==2.21.5",),
        without=("nvidia-nccl-cu12",),
        says=(
            "torch/lib/libtorch_cuda.so of torch 2.9.1 needs nccl",
            "which nvidia-nccl-cu12 2.21.5 does not have",
        ),
        helps="pip install --no-deps 'nvidia-nccl-cu12==2.27.5'",
    ),
    "cuDNN is missing": Wrong(
        without=("nvidia-cudnn-cu12",),
        says=(
            "torch/lib/libtorch_cuda.so of torch 2.9.1 needs libcudnn.so.9, which is not installed",
        ),
        helps="pip install --force-reinstall --no-deps 'nvidia-cudnn-cu12==9.10.2.21'",
    ),
    "numpy is too new": Wrong(
        pins=("megatron-core==0.14.0",),
        says=("megatron-core 0.14.0 requires numpy<2.0.0; numpy 2.",),
        helps="pip install 'numpy",
    ),
    "huggingface-hub is too old for transformers": Wrong(
        pins=("huggingface-hub==1.1.4",),
        says=("requires huggingface-hub<2.0,>=1.5.0; huggingface-hub 1.1.4 is installed",),
        helps="pip install 'huggingface-hub",
    ),
    "torchvision is of another torch": Wrong(
        pins=("torchvision==0.20.1",),
        says=(
            "torchvision/_C.so of torchvision 0.20.1 was built for another torch than torch "
            "2.9.1, which lacks",
        ),
        helps="pip install --upgrade torchvision 'torch==2.9.1'",
    ),
    "mamba-ssm is missing for hybrid models": Wrong(
        without=("mamba-ssm",),
        options=("--families", "hybrid-mamba"),
        says=("megatron-core 0.16.1 imports mamba-ssm", "mamba-ssm is not installed"),
        helps="pip install ",
    ),
}


@pytest.mark.parametrize("how", sorted(WRONG))
def test_it_names_what_is_wrong_and_what_helps(how: str, tmp_path: Path) -> None:
    wrong = WRONG[how]
    put = [fetched(tmp_path / "put", *wrong.pins, python=wrong.python)] if wrong.pins else []
    python = linked(
        environment_of(WHOLE),
        tmp_path / "env",
        without=wrong.without,
        put=put,
        metadata=dict(wrong.metadata),
    )
    code, said = doctor(python, *wrong.options)
    lines = said.splitlines()
    told = [i for i, line in enumerate(lines) if all(part in line for part in wrong.says)]
    assert told, said
    assert lines[told[0]].startswith(f"{wrong.kind}: ")
    assert lines[told[0] + 1].strip().startswith(wrong.helps) or wrong.helps in lines[told[0] + 1]
    assert wrong.kind == "note" or code == 1


class TestRight:
    """Nothing is said of what is right, and the exit code is 0."""

    def test_a_cell(self) -> None:
        assert doctor(environment_of(WHOLE) / "bin" / "python") == (0, "")

    def test_packages_that_fit(self, tmp_path: Path) -> None:
        """One in the range of the code, and one that this megatron-core does not look at."""
        put = fetched(tmp_path / "put", "nvidia-resiliency-ext==0.4.1")
        metadata = {"flash-attn": "2.8.3"}
        python = linked(environment_of(WHOLE), tmp_path / "env", put=[put], metadata=metadata)
        assert doctor(python) == (0, "")

    def test_what_only_others_need_is_not_missed(self, tmp_path: Path) -> None:
        without = ("mamba-ssm", "causal-conv1d")
        python = linked(environment_of(WHOLE), tmp_path / "env", without=without)
        options = ("--for", "restore", "--families", "gpt")
        assert doctor(python, *options) == (0, "")


def test_nothing_of_the_environment_is_imported(tmp_path: Path) -> None:
    """Packages that fail as they are imported are read all the same."""
    python = linked(environment_of(WHOLE), tmp_path / "env", without=("transformers",))
    broken = site(python.parent.parent) / "transformers"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise SystemExit('imported')\n")
    argv = [python, "-c", "import transformers"]
    assert subprocess.run(argv, check=False, capture_output=True).returncode == 1
    code, said = doctor(python)
    assert code == 1
    assert "transformers is not installed" in said
