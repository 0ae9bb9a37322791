"""The rules about the Edge TPU as data: whole, sourced, refused with a near miss where they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema

from edgeship import edgetpu_rules, resources
from edgeship.edgetpu_conditions import Case
from edgeship.errors import BadInput
from tests.tiny_edgetpu import EightBit

HEAD = 'source = "a document somewhere"\ndate = 2026-11-22\nconfidence = "certain"\nruntimes = [12, 14]\n'
WHOLE = (
    HEAD
    + """
[[every]]
condition = "eight_bit"
[[rule]]
operations = ["RELU"]
[[rule]]
operations = ["SOFTMAX"]
since = 13
confidence = "likely"
[[rule.needs]]
condition = "softmax_size_at_most"
limit = 100
until = 13
[[rule.needs]]
condition = "one_dimensional_input"
otherwise = "doubt"
confidence = "unknown"
[[refused]]
operations = ["LEAKY_RELU"]
cure = "replace it by another one"
"""
)


def table(tmp_path: Path, text: str = WHOLE) -> edgetpu_rules.Table:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    return edgetpu_rules.read_file(path)


def found(model: EightBit, folder: Path, runtime: int) -> list[tuple[bool, str, str]]:
    main = model.read(folder).main
    rules = table(folder)
    every = edgetpu_rules.findings(Case(main.operators[-1], main), runtime, rules)
    return [(one.maps, one.rule, one.confidence) for one in every]


def test_what_ships_fits() -> None:
    rules, compiler = edgetpu_rules.read(), edgetpu_rules.compiler()
    assert rules.runtimes == (10, 12, 13, 14)
    assert compiler.runtime in rules.runtimes
    assert len(rules.rule) > 20


def test_operations_are_called_as_in_the_schema() -> None:
    builtin = {name for name in vars(schema.BuiltinOperator) if name.isupper()}
    rules = edgetpu_rules.read()
    named = {name for rule in rules.rule for name in rule.operations}
    named |= {name for refused in rules.refused for name in refused.operations if name.isupper()}
    assert named <= builtin
    assert set(edgetpu_rules.compiler().highest()) <= builtin


def test_no_operation_both_maps_and_is_refused() -> None:
    rules = edgetpu_rules.read()
    mapped = {name for rule in rules.rule for name in rule.operations}
    assert not mapped & {name for refused in rules.refused for name in refused.operations}


def test_every_version_of_an_operation_is_named_once() -> None:
    versions = edgetpu_rules.compiler().versions
    names = [name for listed in versions.values() for name in listed]
    assert len(names) == len(set(names))


def test_what_maps_has_a_version_that_the_compiler_reads() -> None:
    known = edgetpu_rules.compiler().highest()
    assert {name for rule in edgetpu_rules.read().rule for name in rule.operations} <= set(known)


def test_what_stays_on_the_cpu_for_a_condition_has_a_cure() -> None:
    rules = edgetpu_rules.read()
    needs = [*rules.every, *(need for rule in rules.rule for need in rule.needs)]
    assert all(need.cure for need in needs if need.otherwise == "cpu")
    assert all(refused.cure for refused in rules.refused)


def test_a_guess_at_a_size_is_not_called_certain() -> None:
    """The table gives no sizes but SOFTMAX's and MEAN's: what is read out of logs is likely at most."""
    documented = {"softmax_size_at_most", "reduced_depth_multiple_of", "version_at_most"}
    for rule in edgetpu_rules.read().rule:
        for need in rule.needs:
            if need.limit is not None and need.condition not in documented:
                assert (need.confidence or rule.confidence) in ("likely", "unknown"), need.condition
                assert need.source, need.condition


MISTAKES = [
    (HEAD.replace("runtimes", "runtims"), "no such key 'runtims'; did you mean 'runtimes'?"),
    (WHOLE.replace("until", "untill"), "did you mean 'until'?"),
    (WHOLE.replace("eight_bit", "eigth_bit"), "no such condition; did you mean 'eight_bit'?"),
    (WHOLE.replace("limit = 100\n", ""), "softmax_size_at_most takes a 'limit'"),
    (WHOLE.replace('condition = "eight_bit"', 'condition = "eight_bit"\nlimit = 3'), "eight_bit takes no 'limit'"),
    (WHOLE.replace('"doubt"', '"maybe"'), "'rule.1.needs.1.otherwise'"),
    (WHOLE.replace('"unknown"', '"sure"'), "confidence"),
    (WHOLE.replace("2026-11-22", '"today"'), "'date'"),
    (WHOLE.replace("since = 13", 'since = "13"'), "since"),
    ("source = ", "not a TOML file"),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES)
def test_a_mistake_in_the_table_is_told_with_the_file(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refusal:
        table(tmp_path, text)
    assert refusal.value.message.startswith(str(tmp_path / "rules.toml"))
    assert said in refusal.value.message


def test_a_table_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        edgetpu_rules.read_file(tmp_path / "gone.toml")


def test_a_rule_maps(tmp_path: Path) -> None:
    assert found(EightBit().source().chain("RELU"), tmp_path, 14) == [(True, "", "certain")]


def test_a_rule_holds_from_its_runtime_on(tmp_path: Path) -> None:
    softmax = EightBit().source(shape=(1, 10)).chain("SOFTMAX")
    assert found(softmax, tmp_path, 12)[0] == (False, "since", "likely")
    assert found(softmax, tmp_path, 13) == [(True, "", "likely")]


def test_a_need_holds_between_its_runtimes(tmp_path: Path) -> None:
    wide = EightBit().source(shape=(1, 101)).chain("SOFTMAX")
    assert found(wide, tmp_path, 13)[0] == (False, "softmax_size_at_most", "likely")  # as sure as its rule
    assert found(wide, tmp_path, 14) == [(True, "", "likely")]


def test_a_doubt_leaves_it_mapped_with_its_own_confidence(tmp_path: Path) -> None:
    flat = EightBit().source(shape=(1, 5, 10)).chain("SOFTMAX")
    assert found(flat, tmp_path, 14) == [(True, "one_dimensional_input", "unknown"), (True, "", "likely")]


def test_what_is_refused_and_what_is_not_listed_differ(tmp_path: Path) -> None:
    assert found(EightBit().source().chain("LEAKY_RELU"), tmp_path, 14)[0] == (False, "refused", "certain")
    assert found(EightBit().source().chain("ABS"), tmp_path, 14)[0] == (False, "not_listed", "likely")


def test_a_custom_operation_has_no_place(tmp_path: Path) -> None:
    model = EightBit().source()
    model.custom("MyOwn", [model.last], (1, 4))
    assert found(model, tmp_path, 14)[0] == (False, "custom", "certain")


def test_findings_name_their_source_and_its_day(tmp_path: Path) -> None:
    main = EightBit().source().chain("LEAKY_RELU").read(tmp_path).main
    first = next(edgetpu_rules.findings(Case(main.operators[-1], main), 14, table(tmp_path)))
    assert first.source == "a document somewhere (2026-11-22)"
    assert first.cure == "replace it by another one"


def test_runtimes() -> None:
    assert edgetpu_rules.runtime(None) == 14
    assert edgetpu_rules.runtime(12) == 12
    with pytest.raises(BadInput, match="runtime 11: nothing is known of it"):
        edgetpu_rules.runtime(11)


def test_the_data_lies_in_the_package() -> None:
    assert (resources.data("edgetpu") / "operations.toml").is_file()
