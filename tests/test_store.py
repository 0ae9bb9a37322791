"""The store: a stage runs again only for a reason, which it says; damage, kills and other builds leave it usable."""

from __future__ import annotations

import errno
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeship import digest, store
from edgeship.errors import BadInput, NothingToDo, StageFailed
from edgeship.store import Done, Step, Store


@dataclass(frozen=True)
class Facts:
    number: int
    names: tuple[str, ...]


def step(**changes: object) -> Step:
    given: dict[str, object] = {
        "stage": "quantize", "slot": "digits|rpi4", "inputs": {"the model": "a" * 64},
        "options": {"seed": 0, "layers": ("*",)}, "tools": {"numpy": "2.0"},
    }  # fmt: skip
    return Step(**{**given, **changes})  # type: ignore[arg-type]


def work(folder: Path) -> Facts:
    (folder / "model.tflite").write_bytes(b"content")
    return Facts(3, ("a", "b"))


def never(folder: Path) -> Facts:
    raise AssertionError("the stage ran although nothing changed")


def done(root: Path, asked: Step | None = None, again: str | None = None) -> Done[Facts]:
    with Store(root) as opened:
        return opened.run(asked or step(), Facts, work, again=again)


def test_a_stage_runs_once(tmp_path: Path) -> None:
    first = done(tmp_path)
    assert (first.outcome, first.why) == ("ran", "first build")
    with Store(tmp_path) as opened:
        second = opened.run(step(), Facts, never)
        assert (second.outcome, second.why) == ("cached", "unchanged")
        assert second.facts == Facts(3, ("a", "b"))
        assert second.files == first.files == {"model.tflite": digest.of_bytes(b"content")}
        assert second.seconds == first.seconds
        assert opened.path(second.files["model.tflite"]).read_bytes() == b"content"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"inputs": {"the model": "b" * 64}}, "the model changed"),
        ({"inputs": {}}, "the model is gone"),
        ({"inputs": {"the model": "a" * 64, "the data": "c" * 64}}, "the data is new"),
        ({"options": {"seed": 1, "layers": ("*",)}}, "option seed: 0 to 1"),
        ({"options": {"seed": 0}}, 'option layers: ["*"] to null'),
        ({"tools": {"numpy": "2.1"}}, 'tool numpy: "2.0" to "2.1"'),
        ({"inputs": {"the model": "b" * 64}, "tools": {"numpy": "3"}}, 'the model changed; tool numpy: "2.0" to "3"'),
    ],
)
def test_a_stage_says_what_changed(tmp_path: Path, changes: dict[str, object], why: str) -> None:
    done(tmp_path)
    found = done(tmp_path, step(**changes))
    assert (found.outcome, found.why) == ("ran", why)
    assert done(tmp_path).outcome == "cached"  # what was there before is still there


def test_another_build_of_the_same_model_finds_the_result(tmp_path: Path) -> None:
    done(tmp_path)
    assert done(tmp_path, step(slot="elsewhere")).outcome == "cached"
    assert done(tmp_path, step(slot="caf\udce9")).outcome == "cached"  # a folder whose name is no UTF-8


def test_again_runs_for_the_reason_given(tmp_path: Path) -> None:
    done(tmp_path)
    found = done(tmp_path, again="--fresh")
    assert (found.outcome, found.why) == ("ran", "--fresh")


def test_a_damaged_artifact_is_seen_and_made_again(tmp_path: Path) -> None:
    sha = done(tmp_path).files["model.tflite"]
    path = Store(tmp_path).path(sha)
    for damage in (b"contenT", b"", None):
        path.unlink() if damage is None else path.write_bytes(damage)
        found = done(tmp_path)
        assert (found.outcome, found.why) == ("ran", "its stored model.tflite was missing or damaged")
        assert path.read_bytes() == b"content"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_record_is_never_believed(tmp_path: Path, share: float, bit: int, cut: bool) -> None:
    done(tmp_path)
    for folder in ("stages", "latest"):
        for path in (tmp_path / folder).glob("*.json"):
            content = bytearray(path.read_bytes())
            place = int(share * len(content))
            content[place] ^= 1 << bit
            path.write_bytes(content[:place] if cut else content)
    with Store(tmp_path) as opened:
        assert opened.entries() == []
    found = done(tmp_path)
    assert found.outcome == "ran"
    assert found.facts == Facts(3, ("a", "b"))
    assert done(tmp_path).outcome == "cached"


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"sha256": 1}', '{"sha256": null, "body": {}}', "[" * 9000])
def test_a_record_of_another_form_is_never_believed(tmp_path: Path, content: str) -> None:
    done(tmp_path)
    for path in (tmp_path / "stages").glob("*.json"):
        path.write_text(content)
    assert done(tmp_path).why == "its stored result was gone"


def test_facts_of_an_older_form_are_made_again(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Older:
        word: str

    with Store(tmp_path) as opened:
        opened.run(step(), Older, lambda folder: Older("x"))
        found = opened.run(step(), Facts, work)
    assert (found.outcome, found.why) == ("ran", "its stored result could not be read")


def test_work_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken(folder: Path) -> Facts:
        (folder / "half").write_bytes(b"x" * 1000)
        raise StageFailed("it broke")

    with Store(tmp_path) as opened:
        with pytest.raises(StageFailed, match="it broke"):
            opened.run(step(), Facts, broken)
        assert opened.entries() == []
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"]
    assert left == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_space_is_a_refusal_that_names_the_place(tmp_path: Path, number: int) -> None:
    def full(folder: Path) -> Facts:
        raise OSError(number, os.strerror(number), "/the/file")

    with Store(tmp_path) as opened, pytest.raises(StageFailed, match=f"^/the/file: {os.strerror(number).lower()}"):
        opened.run(step(), Facts, full)


def test_what_a_kill_left_in_the_middle_of_writing_harms_nothing(tmp_path: Path) -> None:
    sha = done(tmp_path).files["model.tflite"]
    (tmp_path / "objects" / sha[:2] / f".{sha}.123.456").write_bytes(b"cont")
    (tmp_path / "stages" / ".abc.json.123.456").write_bytes(b'{"sha')
    (tmp_path / "latest" / ".abc.json.123.456").write_bytes(b"")
    with Store(tmp_path) as opened:
        assert len(opened.entries()) == 1
        assert opened.run(step(), Facts, never).outcome == "cached"
        assert opened.prune(keep_days=1).artifacts == 1
        assert opened.run(step(), Facts, never).outcome == "cached"
    assert not list(tmp_path.glob("*/.abc*"))


def test_prune_keeps_what_is_young_and_what_it_names(tmp_path: Path) -> None:
    done(tmp_path)
    with Store(tmp_path) as opened:
        other = opened.run(step(options={"seed": 1}), Facts, other_work)
        old = next(path for path in opened.stages.glob("*.json") if path.stem != opened.entries()[0].key)
        newest = opened.entries()[0]
        os.utime(old, (time.time() - 40 * 86400,) * 2)
        pruned = opened.prune(keep_days=30)
        assert (pruned.results, pruned.artifacts, pruned.freed_bytes) == (1, 1, len(b"content"))
        assert [entry.key for entry in opened.entries()] == [newest.key]
        assert opened.intact(other.files["model.tflite"])
        assert opened.prune(keep_days=0).results == 1
        assert opened.entries() == []
        assert list(opened.objects.glob("*/*")) == []


def other_work(folder: Path) -> Facts:
    (folder / "model.tflite").write_bytes(b"other")
    return Facts(4, ())


def test_nothing_is_pruned_under_a_running_build(tmp_path: Path) -> None:
    done(tmp_path)
    with Store(tmp_path), Store(tmp_path) as second:
        with pytest.raises(NothingToDo, match="a build is running"):
            second.prune(keep_days=0)
        assert len(second.entries()) == 1


def test_two_stores_at_once_share_their_results(tmp_path: Path) -> None:
    with Store(tmp_path) as first, Store(tmp_path) as second:

        def interleaved(folder: Path) -> Facts:
            assert second.run(step(), Facts, work).outcome == "ran"  # the other build was faster
            return work(folder)

        mine = first.run(step(), Facts, interleaved)
        assert mine.files == second.run(step(), Facts, never).files
        assert first.intact(mine.files["model.tflite"])


def test_entries_are_listed_newest_first_with_their_sizes(tmp_path: Path) -> None:
    done(tmp_path)
    with Store(tmp_path) as opened:
        (old,) = opened.stages.glob("*.json")
        os.utime(old, (1000, 1000))
        opened.run(step(stage="verify"), Facts, other_work)
        found = opened.entries()
    assert [(entry.stage, entry.size_bytes) for entry in found] == [("verify", 5), ("quantize", 7)]
    assert found[1].made == 1000


def test_only_the_latest_logs_are_kept(tmp_path: Path) -> None:
    with Store(tmp_path) as opened:
        for index in range(store.KEPT_LOGS + 10):
            (opened.logs / f"20200101-{index:06d}-1-old.log").touch()
        opened.log("import")
        assert len(list(opened.logs.glob("*.log"))) == store.KEPT_LOGS


def test_a_store_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none")):
        with pytest.raises(BadInput, match="the store cannot be written"), Store(place):
            pass


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    store.write_whole(tmp_path / "a.json", b"old")
    with pytest.raises(TypeError):
        store.write_whole(tmp_path / "a.json", "text")  # type: ignore[arg-type]
    assert (tmp_path / "a.json").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_home_is_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESHIP_HOME", str(tmp_path))
    assert store.home() == tmp_path
    monkeypatch.delenv("EDGESHIP_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert store.home().name == "edgeship"


def test_an_identity_is_json(tmp_path: Path) -> None:
    identity = step(options={"shape": (1, 2), "none": None}).identity()
    assert json.loads(json.dumps(identity)) == identity
    assert identity["option"] == {"shape": [1, 2], "none": None}
