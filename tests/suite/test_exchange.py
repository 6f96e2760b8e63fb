"""Checkpoints across releases, the suite's side: each way to lose something is said to be broken.

The models and checkpoints here are stand-ins, names and digests in plain files: no package under
test is installed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from suite import check_modelopt_state, checkpoints, quantizers
from suite.compare import Digest, digest
from suite.exchange import check_load, kept, models
from suite.exchange.kept import Manifest
from suite.outcomes import Unsupported, WorksWith
from suite.record import Record

from .exchange_support import (
    AXIS,
    CELL,
    NORM,
    OFF,
    OWN_NORM,
    QUANTIZED,
    SENTINEL,
    WEIGHT,
    WHOLE,
    tensor,
)


class OfAllRanks(BaseException):
    """As torch's own: no `Exception`, and its text begins with the tracebacks."""


@dataclass
class Model:
    """A stand-in: the digests of its tensors, and what the release makes of a checkpoint."""

    tensors: dict[str, Digest]
    quantizers: dict[str, Any] = field(default_factory=dict)
    modes: dict[str, str] = field(default_factory=dict)
    loads: Callable[[dict[str, Digest]], dict[str, Digest]] = dict
    refusal: Exception | None = None
    """What a load with all defaults raises."""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """`load(manifest, model, way)`: ask the check of a kept stand-in; its details."""

    def forget(model: Model, **_: Any) -> dict[str, Digest]:
        model.tensors = dict.fromkeys(model.tensors, SENTINEL)
        return dict(model.tensors)

    def read(folder: Path) -> dict[str, Digest]:
        rows = json.loads((folder / "stand_in.json").read_text())
        return {name: Digest(sha, tuple(shape), dtype) for name, (sha, shape, dtype) in rows}

    def loaded(model: Model, folder: Path, condition: Any = None) -> Any:
        if condition is None and model.refusal is not None:
            raise model.refusal
        found = model.loads(read(folder))
        model.tensors.update({n: d for n, d in found.items() if n in model.tensors})
        return SimpleNamespace(missing_keys=[], unexpected_keys=[])

    def ask(
        manifest: Manifest,
        model: Model,
        way: str = "default",
        strict: tuple[set[str], set[str]] = (set(), set()),
        restore: Callable[..., Any] = lambda _, one, __: (one, []),
        keys: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        def write(part: Path) -> Manifest:
            (part / "checkpoint").mkdir()
            rows = [
                (kept.compare.unfused(n), (d.sha256, d.shape, d.dtype)) for n, d in saved.items()
            ]
            (part / "checkpoint" / "stand_in.json").write_text(json.dumps(rows))
            return manifest

        root = tmp_path / "root"
        saved = (QUANTIZED if way == "quantized" else WHOLE).digests
        kept.keep(root / CELL, "gpt", manifest.kind, write)
        monkeypatch.setattr(check_load, "ROOT", root)
        monkeypatch.setattr(checkpoints, "model", lambda *_, **__: model)
        monkeypatch.setattr(checkpoints, "forget", forget)
        monkeypatch.setattr(checkpoints, "mismatched", lambda *_: strict)
        monkeypatch.setattr(checkpoints, "load", loaded)
        monkeypatch.setattr(checkpoints, "failures", lambda: (OSError, OfAllRanks))
        monkeypatch.setattr(checkpoints, "parameters", lambda one: dict(one.tensors))
        monkeypatch.setattr(models, "keys", lambda one: keys or {n: n for n in one.tensors})
        monkeypatch.setattr(models, "plugin", lambda: None)
        monkeypatch.setattr(models, "quantizers", lambda one: one.quantizers)
        monkeypatch.setattr(check_modelopt_state, "restore", restore)
        monkeypatch.setattr(quantizers, "modes", lambda one: one.modes)
        record = Record(tmp_path / "details.jsonl")
        spec = check_load.WAYS[way].target
        check_load.check_restore_from(CELL, "gpt", way, spec, record, tmp_path)
        return record.read()[0]

    return ask


def model(**changed: Any) -> Model:
    return Model({WEIGHT: SENTINEL, OWN_NORM: SENTINEL}, **changed)


def quantized(**changed: Any) -> Model:
    whole = {"quantizers": QUANTIZED.quantizers, "modes": QUANTIZED.modes}
    return model(**{**whole, **changed})


def changed(manifest: Manifest, name: str, **values: Any) -> Manifest:
    one = replace(manifest.tensors[name], **values)
    return replace(manifest, tensors={**manifest.tensors, name: one})


def test_a_whole_load_is_without_fault(load: Callable[..., Any]) -> None:
    details = load(WHOLE, model())
    assert details["saved with"] == {"megatron-core": "0.1.0"}


def test_a_changed_digest_in_the_manifest_is_found(load: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError, match=r"of other values: .*linear_qkv.weight"):
        load(changed(WHOLE, WEIGHT, sha256="0" * 64), model())


def test_a_changed_shape_in_the_manifest_is_found(load: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError, match="of another shape"):
        load(changed(WHOLE, NORM, shape=(3,)), model())


def test_two_norms_that_changed_places_are_found(load: Callable[..., Any]) -> None:
    def swapped(found: dict[str, Digest]) -> dict[str, Digest]:
        return dict(zip(found, reversed(found.values()), strict=True))

    with pytest.raises(AssertionError, match="2 of other values"):
        load(WHOLE, model(loads=swapped))


def test_a_tensor_that_is_silently_skipped_is_found(load: Callable[..., Any]) -> None:
    def without(found: dict[str, Digest]) -> dict[str, Digest]:
        return {name: one for name, one in found.items() if name != OWN_NORM}

    with pytest.raises(AssertionError, match=r"still the sentinel: .*input_layernorm"):
        load(WHOLE, model(loads=without))


def test_a_tensor_that_the_model_does_not_have_is_found(load: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError, match=r"nothing has its name: .*input_layernorm"):
        load(WHOLE, Model({WEIGHT: SENTINEL}))


def test_a_tensor_that_the_checkpoint_does_not_have_is_found(load: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError, match="not from the checkpoint: extra"):
        load(WHOLE, Model({WEIGHT: SENTINEL, OWN_NORM: SENTINEL, "extra": SENTINEL}))


EXTRA_KEY = "decoder.layers.0.self_attention.core_attention._extra_state"


def refused_once(then: Callable[[dict[str, Digest]], dict[str, Digest]]) -> Any:
    """The load with all defaults raises, the one after it gives what `then` does."""
    asked: list[int] = []

    def load(found: dict[str, Digest]) -> dict[str, Digest]:
        asked.append(1)
        if len(asked) == 1:
            raise OSError(f"Missing key: {EXTRA_KEY}")
        return then(found)

    return load


def test_what_only_a_lenient_load_gets_works_with_its_condition(load: Callable[..., Any]) -> None:
    with pytest.raises(WorksWith, match=r"strict=StrictHandling\.LOG_ALL") as caught:
        load(WHOLE, model(refusal=OSError("Missing key")), strict=(set(), {EXTRA_KEY}))
    assert str(caught.value.refused) == "Missing key"


def test_a_lenient_load_that_loses_something_says_that(load: Callable[..., Any]) -> None:
    lossy = model(loads=lambda _: {}, refusal=OSError("Missing key"))
    with pytest.raises(AssertionError, match="not loaded, still the sentinel"):
        load(WHOLE, lossy, strict=(set(), {EXTRA_KEY}))


def test_a_load_that_raises_for_another_reason_is_told_as_it_is(load: Callable[..., Any]) -> None:
    with pytest.raises(OSError, match="Missing key"):
        load(WHOLE, model(loads=refused_once(dict)))


def test_quantized_a_whole_load_is_without_fault(load: Callable[..., Any]) -> None:
    load(QUANTIZED, quantized(), "quantized")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ({"quantizers": {}}, "1 missing quantizers"),
        ({"quantizers": {**QUANTIZED.quantizers, "new": AXIS}}, "1 additional quantizers: new"),
        ({"quantizers": {"weight_quantizer": {**AXIS, "num_bits": 8}}}, "1 other quantizers"),
        ({"quantizers": {"weight_quantizer": OFF}}, "1 missing quantizers"),
        ({"modes": {}}, "1 missing modelopt modes"),
    ],
)
def test_quantized_what_is_lost_is_found(
    load: Callable[..., Any], harm: dict[str, Any], told: str
) -> None:
    with pytest.raises(AssertionError, match=told):
        load(QUANTIZED, quantized(**harm), "quantized")


def test_a_disabled_quantizer_and_another_wording_are_no_fault(load: Callable[..., Any]) -> None:
    there = {"weight_quantizer": {**AXIS, "text": "worded anew"}, "new": OFF}
    details = load(QUANTIZED, quantized(quantizers=there), "quantized")
    assert details["disabled quantizers"] == {"gone": ["output_quantizer"], "new": ["new"]}


def test_saved_quantizers_of_which_none_is_enabled_prove_nothing(load: Callable[..., Any]) -> None:
    idle = replace(QUANTIZED, quantizers={"weight_quantizer": OFF})
    with pytest.raises(AssertionError, match="none of the saved quantizers is enabled"):
        load(idle, quantized(quantizers=idle.quantizers), "quantized")


def test_quantized_a_load_that_ranks_refuse_is_told_by_its_cause(load: Callable[..., Any]) -> None:
    def refuse(found: dict[str, Digest]) -> Any:
        raise OfAllRanks("Traceback (RANK 0)\n  File x\nRuntimeError: Missing key: a._amax")

    with pytest.raises(AssertionError, match=r"OfAllRanks: RuntimeError: Missing key: a\._amax"):
        load(QUANTIZED, replace(quantized(), loads=refuse), "quantized")


def test_quantized_a_state_that_ranks_refuse_is_told_by_its_cause(load: Callable[..., Any]) -> None:
    def refuse(*_: Any) -> Any:
        raise OfAllRanks("Traceback (RANK 0)\n  File x\nValueError: of another shape")

    told = "restoring ModelOpt's state raises OfAllRanks: ValueError: of another shape"
    with pytest.raises(AssertionError, match=told):
        load(QUANTIZED, quantized(), "quantized", restore=refuse)


def test_quantized_a_load_that_raises_otherwise_is_told_as_it_is(load: Callable[..., Any]) -> None:
    with pytest.raises(OSError, match="Missing key"):
        load(QUANTIZED, replace(quantized(), loads=refused_once(dict)), "quantized")


def test_experts_of_a_width_that_a_release_refuses_are_unsupported() -> None:
    said = f"Please use GroupedMLP when {models.WIDTHS.replace(' different', '    different')}"
    with pytest.raises(Unsupported, match="the release says: Please use"), models.widths():
        raise AssertionError(said)
    with pytest.raises(AssertionError, match="another"), models.widths():
        raise AssertionError("another")


CONV = "decoder.layers.0.mixer.conv1d.weight"
RENAMED = "decoder.layers.0.mixer.conv1d_weight"


def renaming() -> tuple[Manifest, Model]:
    """A checkpoint with `CONV`, and a release that has that parameter as `RENAMED`."""
    manifest = replace(WHOLE, tensors={**WHOLE.tensors, CONV: tensor(b"c", CONV)})
    digests = manifest.digests
    there = Model(
        {WEIGHT: SENTINEL, OWN_NORM: SENTINEL, RENAMED: SENTINEL},
        loads=lambda found: {**found, RENAMED: digests[CONV]},
    )
    return manifest, there


@pytest.mark.parametrize(("key", "found"), [(CONV, True), (RENAMED, False)])
def test_a_parameter_by_another_name_is_compared_through_its_key(
    load: Callable[..., Any], key: str, found: bool
) -> None:
    manifest, there = renaming()
    keys = {name: name for name in there.tensors} | {RENAMED: key}
    if found:
        details = load(manifest, there, keys=keys)
        assert details["other names"] == {CONV: RENAMED}
    else:
        with pytest.raises(AssertionError, match=r"nothing has its name: .*conv1d\.weight"):
            load(manifest, there, keys=keys)


def test_a_parameter_by_another_name_with_other_values_is_found(load: Callable[..., Any]) -> None:
    manifest, there = renaming()
    wrong = replace(there, loads=lambda found: {**found, RENAMED: digest(b"x", (2,), "float32")})
    keys = {name: name for name in there.tensors} | {RENAMED: CONV}
    with pytest.raises(AssertionError, match="1 of other values"):
        load(manifest, wrong, keys=keys)


def test_layers_and_experts_that_share_a_key_are_told_apart() -> None:
    shared = "decoder.layers.mixer.conv1d.weight"
    saved = {CONV: shared, CONV.replace("0", "1"): shared}
    there = {RENAMED: shared, RENAMED.replace("0", "1"): shared}
    assert kept.other_names(saved, there) == {
        CONV: RENAMED,
        CONV.replace("0", "1"): RENAMED.replace("0", "1"),
    }
    assert kept.other_names(saved, {RENAMED: shared, "decoder.layers.0.another": shared}) == {}


def test_other_keys_are_recorded(load: Callable[..., Any]) -> None:
    details = load(changed(WHOLE, NORM, key="decoder.layers.norm"), model())
    assert details["other keys"] == {OWN_NORM: f"decoder.layers.norm -> {OWN_NORM}"}
