"""The stand-in for TE's torch extension: its names are read from C++ sources, its functions raise,
and it is loaded as TE loads the real one."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.core import outcomes
from mcore_compat.environments import wheelhouse
from mcore_compat.environments.te_extension import bindings, stand_in, wheel
from mcore_compat.environments.wheelhouse import Wheel
from mcore_compat.index import package_index
from mcore_compat.resolve.locks import Pin

HEADER = r"""
#ifdef __cplusplus
namespace transformer_engine {
/*! enum DType in words: { kNothing = 7 } */
enum class DType { kByte = 0, kInt32, kFloat32 = 4, kBFloat16 };
enum NVTE_Bias_Type { NVTE_NO_BIAS = 0, NVTE_ALIBI = 0x10 };
typedef enum { FORMAT_BYTES = 0, FORMAT_BITS = 1, } Format;
constexpr int num_streams = 4;
}
#endif
#define DECLARE_COMMON(m)                                                       \
  pybind11::enum_<NVTE_Bias_Type>(m, "NVTE_Bias_Type", pybind11::module_local()) \
      .value("NVTE_NO_BIAS", NVTE_Bias_Type::NVTE_NO_BIAS)                       \
      .value("NVTE_ALIBI", NVTE_Bias_Type::NVTE_ALIBI);
"""

SOURCE = r"""
#include <pybind11/pybind11.h>
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  DECLARE_COMMON(m)
  // m.def("commented_out", &commented_out);
  m.def("gelu", &gelu, "GeLU (a kernel; with \"quotes\" and a ( in its text)",
        py::call_guard<py::gil_scoped_release>());
  m.def(
      "layernorm_fwd", [](at::Tensor x) -> std::vector<int> { return {f(x)}; }, py::arg("x") = 1);
  m.def("get_cudnn_version", &get_cudnn_version);
#ifdef WITH_MPI
  m.def("only_with_mpi", &f);
#else
  m.def("without_mpi", &f);
#endif
#ifdef WITH_NCCL_EP
  m.def("by_default", &f);
#endif
  m.attr("_num_cublas_streams") = py::int_(transformer_engine::num_streams);
  auto sub = m.def_submodule("experimental", "unstable");
  sub.def("pack", &pack);
  py::class_<te::Meta>(m, "Meta")
      .def(py::init<>())
      .def_readwrite("scale", &te::Meta::scale);
  py::class_<te::Core, std::shared_ptr<te::Core>>(m, "Core")
      .def(py::init([]() { return new te::Core(); }))
      .def("size", &te::Core::size);
  py::class_<Overlap, std::shared_ptr<Overlap>, te::Core>(m, "Overlap")
      .def(py::init<int, bool>(), py::arg("n"));
  py::enum_<transformer_engine::DType>(m, "DType", py::module_local())
      .value("kByte", transformer_engine::DType::kByte)
      .value("kBFloat16", transformer_engine::DType::kBFloat16)
      .def("__reduce__", [](transformer_engine::DType self) { return f(self); });
  py::enum_<Format>(m, "Format").value("BYTES", FORMAT_BYTES).value("BITS", FORMAT_BITS);
}
"""

SCRIPT = """
    if bool(int(os.getenv("WITH_NCCL_EP", "1"))):
        flags.append("-DWITH_NCCL_EP")
    if bool(int(os.getenv("WITH_MPI", "0"))):
        flags.append("-DWITH_MPI")
"""

FILES = {
    "common/include/te.h": HEADER,
    "csrc/extensions/pybind.cpp": SOURCE,
    "build_tools/pytorch.py": SCRIPT,
}
PIN = Pin(name=wheel.PACKAGE, version="2.4.0", hashes=("ab" * 32,))


def sdist(folder: Path, files: dict[str, str] = FILES) -> Path:
    path = folder / "transformer_engine_torch-2.4.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"transformer_engine_torch-2.4.0/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def loaded(name: str = "transformer_engine_torch") -> ModuleType:
    """The stand-in of the sources above."""
    module = ModuleType(name)
    exec(wheel.module_text(bindings.read(FILES)), module.__dict__)
    return module


def test_names_and_numbers_are_those_of_the_sources() -> None:
    bound = bindings.read(FILES)
    assert bound.functions == (
        "by_default",
        "gelu",
        "get_cudnn_version",
        "layernorm_fwd",
        "without_mpi",
    )
    assert bound.modules == {"experimental": ("pack",)}
    assert bound.numbers == {"_num_cublas_streams": 4}
    assert bound.enums["DType"].members == {"kByte": 0, "kBFloat16": 5}
    assert bound.enums["NVTE_Bias_Type"].members == {"NVTE_NO_BIAS": 0, "NVTE_ALIBI": 16}
    assert bound.enums["Format"].members == {"BYTES": 0, "BITS": 1}
    assert list(bound.classes) == ["Meta", "Core", "Overlap"]
    assert bound.classes["Overlap"].bases == ("Core",)


def test_only_enums_without_a_scope_are_equal_to_their_numbers() -> None:
    """As pybind11 has it: those convert to their number by themselves."""
    module = loaded()
    assert module.NVTE_Bias_Type.NVTE_NO_BIAS == 0
    assert module.DType.kByte != 0
    assert {module.DType.kByte: 1}[module.DType(0)] == 1
    assert hash(module.DType.kBFloat16) == hash(5)
    said = 'py::object c = m.attr("DType"); c.attr("__eq__") = py::cpp_function(f);'
    more = {**FILES, "csrc/extensions/pybind.cpp": f"{SOURCE}\n{said}"}
    assert bindings.read(more).enums["DType"].integral, "the release says so itself"


@pytest.mark.parametrize(
    ("text", "instead", "said"),
    [
        (".def(", ".not(", "no function"),
        ("num_streams = 4", "num_streams = other()", "num_streams"),
        ("enum class DType", "enum class Other", "DType"),
        (".value", ".value(", "has no end"),
    ],
)
def test_what_the_sources_do_not_tell_is_said(
    text: str, instead: str, said: str, tmp_path: Path
) -> None:
    changed = {name: content.replace(text, instead) for name, content in FILES.items()}
    with pytest.raises(InfrastructureError, match=f"{said}.*--te-extension real"):
        wheel.make(sdist(tmp_path, changed), "2.4.0", tmp_path)


@pytest.mark.parametrize(
    "call",
    [
        "gelu(1)",
        "layernorm_fwd(x=1)",
        "experimental.pack()",
        "Core()",
        "Overlap(1, True)",
        "Meta(1)",
        "Overlap.size(None)",
    ],
)
def test_every_function_raises_what_the_suite_takes_for_a_kernel(call: str) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from suite.classify import classify

    module = loaded()
    with pytest.raises(module.KernelReached) as caught:
        eval(f"module.{call}", {"module": module})
    outcome, why = classify(caught.value, host=True)
    assert outcome == outcomes.CheckOutcome.NEEDS_GPU
    assert "reached a kernel of transformer_engine_torch: " in why
    assert classify(RuntimeError(str(caught.value)), host=True)[0] == outcome, "raised anew"
    assert classify(RuntimeError("an assertion of its own"), host=False)[0] == "broken"


def test_what_holds_data_only_can_be_made() -> None:
    meta = loaded().Meta()
    assert meta.scale is None
    meta.scale = 1


def test_it_is_loaded_by_the_path_of_a_shared_object(tmp_path: Path) -> None:
    """As every TE loads its extension; nothing else is loaded otherwise than before."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel.make(sdist(tmp_path), "2.4.0", tmp_path)) as archive:
        archive.extractall(site)
    code = """
        import importlib.util, pickle, site, sys
        from pathlib import Path
        folder = Path(sys.argv[1])
        site.addsitedir(folder)  # runs its .pth file, as Python does with site-packages
        path = next(folder.glob("transformer_engine_torch.*.so"))
        spec = importlib.util.spec_from_file_location("transformer_engine_torch", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules["transformer_engine_torch"] = module
        spec.loader.exec_module(module)
        assert module.STAND_IN and module.__file__.endswith("transformer_engine_torch.py")
        assert pickle.loads(pickle.dumps(module.DType.kByte)) is module.DType.kByte
        spec = importlib.util.spec_from_file_location("other", path)
        try:
            importlib.util.module_from_spec(spec)
        except ImportError:
            print("well")
    """
    argv = [sys.executable, "-S", "-c", textwrap.dedent(code), str(site)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stdout == "well\n", done.stderr


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What the index is asked for."""
    names: list[str] = []

    def download(package: str, version: str, hashes: Sequence[str], folder: Path) -> Path:
        names.append(f"{package} {version}")
        return sdist(folder)

    monkeypatch.setattr(package_index, "download_sdist", download)
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    return names


def test_it_is_made_once_and_kept_with_the_wheels(asked: list[str]) -> None:
    said: list[str] = []
    first = stand_in.ensure(PIN, said.append)
    assert stand_in.ensure(PIN, said.append) == first
    assert asked == ["transformer-engine-torch 2.4.0"]
    assert first.path.name == "transformer_engine_torch-2.4.0-0standin-py3-none-any.whl"
    assert str(first.key).startswith("transformer-engine-torch-2.4.0-stand-in-")
    assert stand_in.stands_in([first])
    real = wheelhouse.Key(package=PIN.name, version="2.4.0", torch="2.6.0", python="3.11", cuda=12)
    assert not stand_in.stands_in([Wheel(key=real, path=first.path, sha256="")])
    first.path.write_bytes(b"damaged")
    assert stand_in.ensure(PIN, said.append) == first, "equal sources give equal wheels"
