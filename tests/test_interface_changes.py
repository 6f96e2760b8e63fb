"""What changed in an interface is said as the signatures show it. All results are made up."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
import snapshot
from support import event, record_event, stand_in_cell

from mcore_compat.analysis.interfaces import changes as interfaces
from mcore_compat.analysis.interfaces import words
from mcore_compat.analysis.interfaces.changes import InterfaceChange
from mcore_compat.analysis.interfaces.signatures import InterfaceDifference
from mcore_compat.core.releases import Release, Releases
from mcore_compat.publish import compatibility_json, compatibility_page
from mcore_compat.publish.collation import collate
from mcore_compat.publish.site import series
from mcore_compat.publish.site.view import Site
from mcore_compat.results.result import Result

Made = Callable[..., Result]

F = "megatron.core.a:f"
IMPORTS = event("import-packages", details={"modules": {"megatron.core": "ok", "torch": "ok"}})
KNOWN = Releases(
    {
        "megatron-core": tuple(
            Release(package="megatron-core", version=f"0.{n}.0") for n in range(9, 20)
        )
    }
)


def signs(**recorded: str | None) -> dict[str, Any]:
    """A `signatures` event; `a_f` is `megatron.core.a:f`."""
    details = {f"megatron.core.{k.replace('_', ':', 1)}": v for k, v in recorded.items()}
    return record_event("signatures", **details)


def spec(modules: dict[str, dict[str, str]], outcome: str = "works") -> dict[str, Any]:
    return event("spec-modules[gpt]", outcome, details={"modules": modules} if modules else {})


def cells(made: Made, **events: Any) -> list[Result]:
    """Results of megatron-core releases, where `v9_b` is a second cell with 0.9.0."""
    found = []
    for name, one in events.items():
        version = f"0.{name[1:].partition('_')[0]}.0"
        cell = stand_in_cell(version, "0.41.0" if "_" not in name else "0.42.0")
        found.append(made(IMPORTS, *(one if isinstance(one, list) else [one]), cell=cell))
    return found


def over(made: Made, **events: Any) -> tuple[InterfaceChange, ...]:
    """The changes over the releases of `cells`."""
    return interfaces.changes(cells(made, **events), KNOWN)


def told(changes: tuple[InterfaceChange, ...]) -> list[tuple[str, str | None, bool]]:
    return [(c.what.kind, c.what.name, c.what.breaking) for c in changes]


def test_a_function_comes_and_goes(made: Made) -> None:
    changes = over(made, v9=signs(a_f=None), v10=signs(a_f="(x)"), v11=signs(a_f=None))
    assert told(changes) == [("added", None, False), ("removed", None, True)]
    assert [(c.before, c.after) for c in changes] == [("0.9.0", "0.10.0"), ("0.10.0", "0.11.0")]


def test_a_function_of_the_same_name_and_alike_elsewhere_is_where_it_moved(made: Made) -> None:
    (one,) = over(made, v9=signs(a_f="(x, y)", b_f=None), v10=signs(a_f=None, b_f="(x, y)"))
    assert (one.what.kind, one.subject.name, one.what.new) == ("moved", F, "megatron.core.b:f")
    assert one.what.breaking


def test_what_moved_and_changed_is_told_as_both(made: Made) -> None:
    changes = over(made, v9=signs(a_f="(x, y)", b_f=None), v10=signs(a_f=None, b_f="(x, y, z)"))
    assert told(changes) == [("moved", None, True), ("parameter added", "z", True)]


def test_one_that_was_there_all_along_is_where_it_moved(made: Made) -> None:
    changes = over(made, v9=signs(a_f="(x)", b_f="(x)"), v10=signs(a_f=None, b_f="(x)", c_g="(x)"))
    assert [(c.what.kind, c.what.new) for c in changes] == [("moved", "megatron.core.b:f")]


def test_one_that_takes_something_else_is_another(made: Made) -> None:
    changes = over(made, v9=signs(a_f="(x, y)", b_f=None), v10=signs(a_f=None, b_f="(p, q)"))
    assert sorted(c.what.kind for c in changes) == ["added", "removed"]


def test_a_cell_that_could_not_import_hides_nothing(made: Made) -> None:
    failed = event("import-modules[gpt]", "broken", details={"modules": {"megatron.core.a": "no"}})
    changes = over(made, v9=signs(a_f="(x)"), v10=[failed, signs(a_f=None)], v11=signs(a_f="(x)"))
    assert changes == ()
    changes = over(made, v9=signs(a_f="(x)"), v10=signs(a_f=None), v10_b=signs(a_f="(x)"))
    assert changes == ()


def test_without_word_of_its_imports_a_cell_shows_no_absence(made: Made) -> None:
    cells = (stand_in_cell("0.9.0"), stand_in_cell("0.10.0"))
    found = [made(signs(a_f=v), cell=c) for v, c in zip(("(x)", None), cells, strict=True)]
    assert interfaces.changes(found, KNOWN) == ()


def test_cells_that_disagree_are_named_and_no_side_is_taken(made: Made) -> None:
    changes = over(made, v9=signs(a_f="(x)"), v9_b=signs(a_f="(x, y)"), v10=signs(a_f="(x, y, z)"))
    assert told(changes) == [
        ("recorded differently", None, False),
        ("parameter added", "z", True),
    ]
    assert "compat-0.9-modelopt0.41" in changes[0].what.why
    assert "compat-0.9-modelopt0.42" in changes[0].what.why
    assert "recorded differently" in str(list(interfaces.rows(changes)))


def test_releases_between_are_named_as_untested_or_unrecorded(made: Made) -> None:
    (one,) = over(
        made, v9=signs(a_f="(x)"), v11=signs(b_g="(x)"), v13=signs(a_f="(y=1)", b_g="(x)")
    )[:1]
    assert one.not_tested == ("0.10.0", "0.12.0")
    assert one.not_recorded == ("0.11.0",)
    assert "nothing known of 0.11.0" in str(list(interfaces.rows((one,))))


def test_a_private_name_breaks_who_takes_it_without_a_guard(made: Made) -> None:
    def taken(value: str | None, guarded: bool) -> dict[str, Any]:
        row = {"by": "modelopt.x", "guarded": guarded, "is": value}
        return event("private-names", details={"megatron.core.a:f": row})

    (one,) = over(made, v9=taken("(x)", False), v10=taken(None, False))
    assert (one.what.breaking, one.what.why) == (True, "modelopt.x imports it")
    (one,) = over(made, v9=taken("(x)", True), v10=taken(None, True))
    assert (one.what.breaking, one.what.why) == (False, "modelopt.x imports it, behind a guard")
    assert over(made, v9=taken("(x)", True), v10=signs(b_g="(x)")) == ()  # nobody takes it now


def test_a_spec_function_that_is_not_recorded_is_gone_only_where_the_check_ended(
    made: Made,
) -> None:
    there = event("interface-gpt-spec", details={"megatron.core.a.f": "(x)"})
    (one,) = over(made, v9=there, v10=event("interface-gpt-spec", "unsupported"))
    assert (one.what.kind, one.subject.name) == ("removed", F)
    assert over(made, v9=there, v10=event("interface-gpt-spec", "timed-out")) == ()


def test_what_stands_in_a_spec_is_compared_by_place(made: Made) -> None:
    before = {"layer": {"": "m.L", "mlp": "m.A", "norm": "m.N", "gone": "m.G", "i": "m.IdentityOp"}}
    layer = {"": "m.L", "mlp": "m.B", "norm": "m.N", "new": "m.X", "new.fc": "m.Y"}
    changes = over(made, v9=spec(before), v10=spec({"layers.0": layer, "layers.1": layer}))
    assert told(changes) == [
        ("class changed", "mlp", True),
        ("submodule added", "new", False),
        ("submodule added", "new.fc", False),
        ("submodule removed", "gone", True),
    ]
    text = str(list(interfaces.rows(changes)))
    assert "submodule added: new (with 1 below it)" in text


def test_a_class_in_some_layers_only_takes_nothing_from_the_others(made: Made) -> None:
    after = {"layers.0": {"mlp": "m.A"}, "layers.1": {"mlp": "m.B"}}
    (one,) = over(made, v9=spec({"layers.0": {"mlp": "m.A"}}), v10=spec(after))
    assert (one.what.kind, one.what.old, one.what.new) == ("class changed", None, "m.B")
    assert not one.what.breaking


def test_a_spec_that_a_release_gains_is_added(made: Made) -> None:
    changes = over(made, v9=spec({}, "unsupported"), v10=spec({"layer": {"mlp": "m.A"}}))
    assert told(changes) == [("added", None, False)]
    assert over(made, v9=spec({}, "crashed"), v10=spec({"layer": {"mlp": "m.A"}})) == ()


def test_much_is_counted_and_what_breaks_is_named(made: Made) -> None:
    many = ", ".join(f"p{n}=0" for n in range(9))
    changes = over(made, v9=signs(a_f="(x)"), v10=signs(a_f=f"(x, must, {many})"))
    assert len(changes) == 10
    ((*_, text, breaks),) = interfaces.rows(changes)
    assert text == "added: 10 parameters, must (required)"
    assert breaks == "yes: must: required"
    assert len(interfaces.data(changes)) == 10


def test_annotations_are_told_only_where_nothing_else_changed(made: Made) -> None:
    alone = over(made, v9=signs(a_f="(x: int)"), v10=signs(a_f="(x: str)"))
    assert "only annotations: x" in str(list(interfaces.rows(alone)))
    both = over(made, v9=signs(a_f="(x: int)"), v10=signs(a_f="(x: str, y=1)"))
    assert "annotations" not in str(list(interfaces.rows(both)))
    assert len(both) == 2


def test_what_changed_alike_stands_in_one_row(made: Made) -> None:
    changes = over(made, v9=signs(a_f="(x)", a_g="(x)"), v10=signs(a_f="(x, y)", a_g="(x, y)"))
    ((_, _, names, _, _),) = interfaces.rows(changes)
    assert names == "megatron.core.a:f, megatron.core.a:g"


def test_what_breaks_by_position_alone_is_said_so(made: Made) -> None:
    changes = over(made, v9=signs(a_f="(x=1, y=1)"), v10=signs(a_f="(z=1, x=1, y=1)"))
    assert "only by position: " in str(list(interfaces.rows(changes)))


HOSTILE = "<script>alert(1)</script> | `b` \n## head [x](y) {names} {0.__class__}"


def test_hostile_text_shows_as_text(made: Made) -> None:
    found = cells(
        made,
        v9=[signs(**{f"a_f{HOSTILE}": "(x)", "a_g": "(x='|')"}), spec({"layer": {HOSTILE: "m.A"}})],
        v10=[
            signs(**{f"a_f{HOSTILE}": HOSTILE, "a_g": "(x='<b>{name}|')"}),
            spec({"layer": {HOSTILE: HOSTILE}}),
        ],
    )
    all_ = collate(found, [], snapshot.matrix(), KNOWN)
    assert len(all_.drift) == 3
    text = dict(series.pages(Site(all_, {})))["releases/megatron-core-0.10.html"]
    assert "## head [x](y)" in text
    assert "<script>alert" not in text
    assert "<b>{name}" not in text


@pytest.mark.parametrize("details", [
    {F: 3, "warnings": [{}], "no.owner:x": "(x)"},
    {F: {"by": None, "is": 4}, "x": {}},
    {"modules": {"layer": "text", "layers.0": {"mlp": 3}}},
    {"modules": 3},
])  # fmt: skip
@pytest.mark.parametrize(
    "check", ["signatures", "private-names", "interface-gpt-spec", "spec-modules[gpt]"]
)
def test_details_of_another_form_are_passed_over(
    made: Made, check: str, details: dict[str, Any]
) -> None:
    over(made, v9=event(check, details=details), v10=event(check, details=details))


def test_the_order_of_results_does_not_matter(made: Made) -> None:
    found = [
        made(IMPORTS, signs(a_f=a, b_g=b), cell=stand_in_cell(f"0.{n}.0"))
        for n, a, b in ((9, "(x)", None), (10, "(y)", "(x)"), (11, None, "(z=1)"))
    ]
    texts = {
        json.dumps([interfaces.data(made_), list(interfaces.rows(made_))])
        for order in itertools.permutations(found)
        for made_ in [interfaces.changes(order, KNOWN)]
    }
    assert len(texts) == 1


def test_a_row_of_data_is_json(made: Made) -> None:
    (row,) = interfaces.data(over(made, v9=signs(a_f="(x)"), v10=signs(a_f="(x, y)")))
    assert json.loads(json.dumps(row)) == row
    assert row == {
        "package": "megatron-core", "subject": F, "before": "0.9.0", "after": "0.10.0",
        "not_tested": [], "not_recorded": [], "kind": "parameter added", "name": "y",
        "old": None, "new": None, "breaking": True, "why": "required", "minor": False,
    }  # fmt: skip


def test_every_kind_has_its_words() -> None:
    for kind in words._KINDS:
        assert words.summary([InterfaceDifference(kind=kind, name="x", old="1", new="2")])


def test_the_report_has_the_section_and_the_data(made: Made) -> None:
    found = [
        made(IMPORTS, signs(a_f=text), cell=stand_in_cell(version))
        for version, text in (("0.9.0", "(x)"), ("0.10.0", "(x, y)"))
    ]
    text = compatibility_page.markdown(collate(found, [], snapshot.matrix(), KNOWN))
    row = "| megatron-core | 0.9.0 | [0.10.0](site/releases/megatron-core-0.10.html) | 1 | 0 | 0 |"
    assert row in text
    assert "No recorded interface changed." in compatibility_page.markdown(
        collate([], [], snapshot.matrix(), KNOWN)
    )
    written = "".join(compatibility_json.text(collate(found, [], snapshot.matrix(), KNOWN)))
    assert [row["name"] for row in json.loads(written)["drift"]] == ["y"]
