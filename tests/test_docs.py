"""The docs for nights and labs: their suites can be read, their CI files are YAML, their commands and options exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from edgeship import cli, suite
from edgeship.suite import Suite

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
CI = ("github-actions.yml", "gitlab-ci.yml")
TEXTS = [DOCS / "nightly.md", DOCS / "lab.md", *(DOCS / "ci" / name for name in CI)]
FENCED = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def blocks(kind: str) -> list[str]:
    """Return the code of a kind in docs/nightly.md."""
    return [text for found, text in FENCED.findall((DOCS / "nightly.md").read_text()) if found == kind]


def commands() -> Iterator[Any]:
    """Yield every edgeship command in the docs, as words."""
    for path in TEXTS:
        for line in path.read_text().splitlines():
            found = re.match(r"\s*(?:- )?(edgeship [a-z].*)", line)
            if found:
                words = shlex.split(re.split(r" && code=| \|\|", found[1])[0], comments=True)
                yield pytest.param(words[1:], id=f"{path.name}:{' '.join(words[1:4])}")


@pytest.mark.parametrize("words", list(commands()))
def test_commands_and_their_options_exist(words: list[str]) -> None:
    known: Any = typer.main.get_command(cli.app)
    while getattr(known, "commands", None) and words and words[0] in known.commands:
        known, words = known.commands[words[0]], words[1:]
    options = {name for parameter in known.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_the_short_suite_and_the_whole_one_can_be_read(tmp_path: Path) -> None:
    short, whole = blocks("toml")
    for number, text in enumerate((short, whole)):
        file = tmp_path / f"suite-{number}.toml"
        file.write_text(text)
        assert suite.read(file).models


def test_the_whole_suite_has_every_key_and_the_defaults_that_it_says() -> None:
    (_, text) = blocks("toml")
    table = tomllib.loads(text)
    assert set(table) == set(Suite.model_fields) - {"path", "sha256"}
    for name in ("gates", "bench"):
        kind: Any = Suite.model_fields[name].annotation
        assert set(table[name]) == set(kind.model_fields), name
    assert set(table["gates"]["smallest"]) == {"latency", "memory", "size", "quality"}
    assert set(table["model"]["detector"]) == set(suite.ModelOptions.model_fields)
    assert set(table["budget"][0]) | {"target", "recipe"} == set(suite.Budget.model_fields)
    defaults = Suite(models=("a",), devices=("b",))
    for name in ("repeats", "time_limit", "run_limit", "retries", "backoff", "wait", "cool", "boot", "lease"):
        assert table[name] == getattr(defaults, name), name
    assert table["gates"]["alpha"] == defaults.gates.alpha


def test_ci_files_are_yaml_and_keep_the_verdict() -> None:
    github, gitlab = (yaml.safe_load((DOCS / "ci" / name).read_text()) for name in CI)
    steps = github["jobs"]["suite"]["steps"]
    measured = next(step["run"] for step in steps if step.get("id") == "measure")
    assert "edgeship nightly" in measured and "--junit junit.xml" in measured
    assert steps[-1]["run"].startswith("exit ${{ steps.measure.outputs.code"), "the last step fails as the night did"
    assert True in github, "YAML 1.1 reads the key `on` so"
    job = gitlab["devices"]
    assert job["artifacts"]["when"] == "always" and job["artifacts"]["reports"] == {"junit": "junit.xml"}
    assert job["allow_failure"] == {"exit_codes": [6]}
    assert {job["stage"] for job in gitlab.values() if isinstance(job, dict)} == set(gitlab["stages"])


@pytest.mark.parametrize("path", [DOCS / "nightly.md", DOCS / "lab.md"], ids=["nightly", "lab"])
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert "://" in link or (path.parent / link).exists(), link
    for named in re.findall(r"(?:scripts|edgeship)/[\w/]+\.py", path.read_text()):
        assert (ROOT / named).is_file(), named
