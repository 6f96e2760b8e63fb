"""Code against the interface of a release: what does not fit, what is prepared, what is left."""

from __future__ import annotations

from pathlib import Path

import pytest
from api_support import scanned
from hypothesis import given, settings
from hypothesis import strategies as st

from mcore_compat.api import codebase, scan_report
from mcore_compat.api.calls import CallShape, misfits
from mcore_compat.api.definitions import read


def said(
    folder: Path, *codes: str, level: str = "failure", **how: str
) -> list[tuple[int, str, str]]:
    """Line, kind, and the path or parameter, of each finding of a level."""
    report = scanned(folder, *codes, **how)
    found = [f for f in report.findings if f.level == level]
    return [(f.line, f.kind, f.name or f.path.removeprefix("megatron.core.")) for f in found]


FITS = """
    import megatron.core
    import megatron.core.models as models
    from megatron.core import parallel_state as mpu, plugins
    from megatron.core.transformer import Config
    from megatron.core.plugins import anything
    from megatron.core.models import *
    from megatron.training import get_args
    import numpy as np

    megatron.core.parallel_state.get_rank()
    mpu.get_rank()
    np.nothing(1, 2)
    get_args(1, 2, 3)
    plugins.whatever(1)
    anything.at.all(2)
    Config(3)
    Config(layers=3, dropout=0)
    Config.of("x").what()
    models.Model(1, 2, post=False).forward(1)
    models.Model.register_hook
    models.Kind.first.value
    models.Kind["x"]
    models.Kind(1)
    models.build(1, 2, 3, 4, five=5)
    models.wrapped(1, 2, 3, x=4)
    models.Model(*all_of_it)
    models.Model(1, **all_of_it)
    print(models.__name__, mpu._RANK)
"""


def test_what_fits_is_not_told(tmp_path: Path) -> None:
    report = scanned(tmp_path, FITS)
    assert report.findings == ()
    (fit,) = report.fits
    assert (fit.failures, fit.newest) == (0, "0.16.0")
    assert fit.uses > 20


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import megatron.core.helpers", "module missing"),
        ("import megatron.core.helpers as h\nh.split(1)", "module missing"),
        ("from megatron.core.helpers import split, join", "module missing"),
        ("from megatron.core import helpers", "missing"),
        ("from megatron.core.parallel_state import get_embedding_group as g\ng(1)", "missing"),
        ("from megatron.core import parallel_state as m\nm.get_embedding_group()", "missing"),
        ("import megatron.core\nmegatron.core.parallel_state.get_embedding_group()", "missing"),
        ("from megatron.core.models import Kind\nKind.second", "missing"),
        ("from megatron import core\ncore.parallel_state.get_embedding_group", "missing"),
        ("from megatron.core.transformer import Config\nConfig(1, heads=2)", "parameter not there"),
        ("from megatron.core.transformer import Config\nConfig()", "parameter required"),
        ("from megatron.core.transformer import Config\nConfig(1, 2, 3)", "by keyword only"),
        ("from megatron.core.models import Model\nModel(1, 2, True)", "by keyword only"),
        ("from megatron.core.models import Model\nModel(1, 2, 3, 4)", "too many by position"),
        ("from megatron.core.models import Model\nModel(1, config=2, vocabulary=3)", "given twice"),
        ("from megatron.core.models import Model\nModel.forward(1, 2)", "parameter required"),
        ("import megatron.core.parallel_state as m\nm.get_rank(1)", "too many by position"),
        (
            "from functools import partial\nfrom megatron.core.transformer import Config\n"
            "partial(Config, heads=2)",
            "parameter not there",
        ),
        (
            "from megatron.core.models import Model\nclass Mine(Model):\n"
            "    def __init__(self):\n        super().__init__(1, 2, pre=False)",
            "parameter not there",
        ),
        (
            "def f():\n    from megatron.core import parallel_state as m\n"
            "    return [m.get_embedding_group() for x in y]",
            "missing",
        ),
    ],
)
def test_what_does_not_fit_is_told_once(tmp_path: Path, code: str, expected: str) -> None:
    assert [kind for _, kind, _ in said(tmp_path, code)] == [expected]
    assert scanned(tmp_path, code, against="0.15.0").fits[0].newest in ("0.15.0", "")


@pytest.mark.parametrize(
    "code",
    [
        "from megatron.core import parallel_state as m\nm = other\nm.get_embedding_group",
        "from megatron.core import parallel_state as m\ndef f(m):\n    m.get_embedding_group()",
        "from megatron.core import parallel_state as m\nlambda m: m.get_embedding_group()",
        "from megatron.core import parallel_state as m\n[m.get_embedding_group for m in all]",
        "from megatron.core import parallel_state as m\ndef f():\n    for m in x:\n        m.y",
        "from megatron.core import parallel_state as m\nm.mine = 1\nm.mine",
        "class A:\n    from megatron.core import parallel_state as m\n"
        "    def f(self):\n        m.x",
        "import megatron.core_of_another\nmegatron.core_of_another.x",
        "from __future__ import annotations\nfrom megatron.core import models\n"
        "def f(a: models.X): ...",
        "text = 'from megatron.core.helpers import split'",
    ],
)
def test_a_name_that_may_be_another_is_not_judged(tmp_path: Path, code: str) -> None:
    assert said(tmp_path, code) == []


GUARDED = [
    ("try:\n    from megatron.core.helpers import split\nexcept ImportError:\n    split = None",
     "in a try that catches ImportError"),
    ("try:\n    from megatron.core.helpers import split\nexcept Exception:\n    pass",
     "in a try that catches ImportError"),
    ("import contextlib\nwith contextlib.suppress(ImportError):\n    import megatron.core.helpers",
     "in a try that catches ImportError"),
    ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import megatron.core.helpers",
     "for type checkers only"),
    ("from megatron.core import parallel_state as m\nif hasattr(m, 'get_embedding_group'):\n"
     "    m.get_embedding_group()", "after a check that it exists"),
    ("from megatron.core import parallel_state as m\ndef f():\n"
     "    if not hasattr(m, 'get_embedding_group'):\n        return\n    m.get_embedding_group()",
     "after a check that it exists"),
    ("from megatron.core import parallel_state as m\n"
     "x = m.get_embedding_group() if hasattr(m, 'get_embedding_group') else None",
     "after a check that it exists"),
    ("from megatron.core import parallel_state as m\nOLD = hasattr(m, 'get_embedding_group')\n"
     "if OLD:\n    m.get_embedding_group()", "after a check that it exists"),
    ("import inspect\nfrom megatron.core.transformer import Config\n"
     "if 'heads' in inspect.signature(Config).parameters:\n    Config(1, heads=2)",
     "after a check that it exists"),
    ("from megatron.core import parallel_state as m\nif hasattr(m, 'get_rank'):\n    pass\n"
     "else:\n    m.get_embedding_group()", "after a check that it exists"),
    ("from megatron.core import parallel_state as m\nif x and not hasattr(m, 'get_rank'):\n"
     "    m.get_embedding_group()", "after a check that it exists"),
    ("from megatron.core import parallel_state as m\nif hasattr(m, 'newer'):\n"
     "    import megatron.core.helpers", "after a check that it exists"),
    ("try:\n    import megatron.core.helpers\nexcept ImportError or ModuleNotFoundError:\n    pass",
     "in a try that catches ImportError"),
    ("import megatron.core as mc\nif mc.__version__ < '0.16':\n    import megatron.core.helpers",
     "after a version check"),
    ("from megatron.core import parallel_state as m\ntry:\n    m.get_embedding_group()\n"
     "except AttributeError:\n    pass", "in a try that catches AttributeError"),
    ("from megatron.core.transformer import Config\ntry:\n    Config(heads=1, layers=1)\n"
     "except TypeError:\n    Config(1)", "in a try that catches TypeError"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "label"), GUARDED)
def test_what_is_prepared_for_is_labelled_and_is_no_failure(
    tmp_path: Path, code: str, label: str
) -> None:
    report = scanned(tmp_path, code)
    assert [f.guard for f in report.findings] == [label]
    assert not report.failures
    assert report.fits[0].newest == "0.16.0"


@pytest.mark.parametrize(
    "code",
    [
        "try:\n    import megatron.core.helpers\nexcept ImportError:\n    raise SystemExit('why')",
        "try:\n    import megatron.core.helpers\nexcept ValueError:\n    pass",
        "try:\n    import megatron.core.helpers\nfinally:\n    pass",
        "if hasattr(x, 'something_else'):\n    import megatron.core.helpers",
        "from megatron.core import parallel_state as m\ntry:\n    m.get_embedding_group()\n"
        "except TypeError:\n    pass",
        "if conversion:\n    import megatron.core.helpers",
        "if hasattr(x, 'newer'):\n    pass\nelse:\n    import megatron.core.helpers",
        "from megatron.core import parallel_state as m\nif hasattr(m, 'get_rank'):\n"
        "    m.get_embedding_group()",
        "from megatron.core import parallel_state as m\nif not hasattr(m, 'get_rank'):\n"
        "    pass\nelse:\n    m.get_embedding_group()",
    ],
)
def test_what_does_not_help_is_no_guard(tmp_path: Path, code: str) -> None:
    assert len(said(tmp_path, code)) == 1


def test_a_fallback_is_run_only_where_the_first_is_missing(tmp_path: Path) -> None:
    code = """
        try:
            from megatron.core.utils.helpers import split
        except ImportError:
            from megatron.core.helpers import split
    """
    assert scanned(tmp_path, code, against="0.16.0").findings == ()
    old = scanned(tmp_path, code, against="0.14.0")
    assert [(f.level, f.path) for f in old.findings] == [("guarded", "megatron.core.utils")]
    assert old.fits[0].newest == "0.16.0"


def test_where_the_fallback_is_missing_too_it_fails(tmp_path: Path) -> None:
    code = """
        try:
            from megatron.core.never import split
        except ImportError:
            from megatron.core.helpers import split
    """
    assert said(tmp_path, code) == [(5, "module missing", "helpers")]
    assert said(tmp_path, code, against="0.14.0") == []


def test_a_fallback_for_another_package_is_labelled(tmp_path: Path) -> None:
    code = "try:\n    import mine\nexcept ImportError:\n    import megatron.core.helpers"
    (finding,) = scanned(tmp_path, code).findings
    assert (finding.level, finding.guard) == ("guarded", "after another import failed")


def test_a_name_taken_from_the_codes_own_module_is_judged(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").touch()
    one = "from megatron.core import parallel_state as mpu"
    other = "from .code0 import mpu\nmpu.get_embedding_group()"
    assert said(tmp_path, one, other) == [(2, "missing", "parallel_state.get_embedding_group")]


def test_since_when_and_where_to(tmp_path: Path) -> None:
    code = (
        "from megatron.core.helpers import split\nfrom megatron.core.utils.helpers import brand_new"
    )
    (gone,) = scanned(tmp_path, code).failures
    assert (gone.last, gone.changed, gone.moved) == (
        "0.15.0",
        "0.16.0",
        "megatron.core.utils.helpers",
    )
    assert scan_report.message(gone) == (
        "module megatron.core.helpers does not exist in megatron-core 0.16.0 (removed in 0.16.0; "
        "0.15.0 was the last to fit; now megatron.core.utils.helpers)"
    )
    (new,) = scanned(tmp_path, code, against="0.14.0").failures
    assert (new.last, new.first) == ("", "0.16.0")
    never = "from megatron.core.models import never"
    assert "no known release fits" in scan_report.message(scanned(tmp_path, never).failures[0])


def test_the_newest_release_that_all_fit(tmp_path: Path) -> None:
    old = "from megatron.core.helpers import split"
    new = "from megatron.core.utils.helpers import split"
    assert scanned(tmp_path, old).fits[0].newest == "0.15.0"
    assert scanned(tmp_path, old, new).fits[0].newest == ""


def test_silent_changes_are_noted_where_it_is_said_what_the_code_was_written_for(
    tmp_path: Path,
) -> None:
    code = """
        from megatron.core.transformer import Config
        Config(1)
        Config(1, dropout=0)
    """
    assert scanned(tmp_path, code).findings == ()
    assert said(tmp_path, code, level="note", before="0.15.0") == [
        (3, "default changed", "dropout: 0.1 → 0.2")
    ]


def test_arguments_that_land_elsewhere_are_noted(tmp_path: Path) -> None:
    code = "from megatron.core.transformer import Config\nConfig.of(1)"
    old, new = read("def(x, parts, dim)")[0], read("def(x, dim, parts)")[0]
    assert misfits(CallShape(positional=3), new.parameters) == ()
    assert old != new
    assert said(tmp_path, code, level="note", before="0.14.0") == []


def test_setting_a_name_that_is_not_there_is_a_note(tmp_path: Path) -> None:
    code = "from megatron.core import parallel_state as m\nm._GONE = 1"
    assert said(tmp_path, code) == []
    assert said(tmp_path, code, level="note") == [(2, "set only", "parallel_state._GONE")]


# Files.


def test_what_does_not_parse_is_one_line(tmp_path: Path) -> None:
    report = scanned(tmp_path, "import megatron.core\ndef (:\n", "import megatron.core\n\0")
    assert [(Path(u.file).name, u.line) for u in report.unreadable] == [
        ("code0.py", 2), ("code1.py", 1),
    ]  # fmt: skip
    assert any("code0.py:2: not read: " in line for line in scan_report.lines(report))


def test_deep_text_is_one_line_too(tmp_path: Path) -> None:
    deep = "import megatron.core\nx = " + "-" * 5000 + "1"
    wide = "import megatron.core\nx = " + "1+" * 5000 + "1"
    report = scanned(tmp_path, deep, wide)
    assert {u.why for u in report.unreadable} <= {
        "nested too deeply",
        "too many nested parentheses",
    }
    assert report.unreadable


@settings(max_examples=60)
@given(
    st.text(max_size=200)
    | st.lists(
        st.sampled_from(
            ["import megatron.core as m", "m.models.Kind.second", "m.x.y(*a, **b)", "try:", "\n",
             "if hasattr(m, 'x'):", "    ", "except:", "def f(m): ",
             "from megatron.core.models import *",
             "(", ")", ":", "class A(m.models.Model): ", "pass", "lambda m: m.x", "\t", "del m.x",
             "with m.x as y: ", "async ", "await m.x", "\r", "match m.x:\n case m.y: ", "\\"]
        ),
        max_size=12,
    ).map("".join)
)  # fmt: skip
def test_no_text_is_too_odd(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("odd")
    (folder / "a.py").write_bytes(f"import megatron.core\n{text}".encode("utf-8", "surrogatepass"))
    code = codebase.read(folder)
    assert len(code.uses) + len(code.unreadable) == 1


def test_files_of_a_package_itself_are_no_callers(tmp_path: Path) -> None:
    place = tmp_path / "megatron" / "core"
    (place / "models").mkdir(parents=True)
    for file in (place / "__init__.py", place / "models" / "__init__.py"):
        file.write_text("from megatron.core.helpers import split")
    report = scanned(tmp_path, "import megatron.core")
    assert report.own == {"megatron-core": 2}
    assert report.findings == ()


def test_environments_and_caches_are_passed_over(tmp_path: Path) -> None:
    for name in (".git", "__pycache__", "env", "site-packages"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text("import megatron.core.helpers")
    (tmp_path / "env" / "pyvenv.cfg").touch()
    assert scanned(tmp_path, "x = 1").files == 1
