"""Plans: budgets hold for the metric they were written for, and no file may name code to run."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship import digest, recipe, target
from edgeship import plan as plans
from edgeship.errors import BadInput
from edgeship.model import Model
from edgeship.plan import Order, Plan


def made(order: Order, model: Model | None = None, recipe_name: str = "int8") -> Plan:
    subject = model or Model("m", Path("m.tflite"), "0" * 64)
    return Plan(order, subject, target.read("rpi4"), recipe.read(recipe_name), {}, Path("out"))


def test_the_users_own_budget_holds_for_any_metric() -> None:
    plan = made(Order("m", "rpi4", max_drop=0.5))
    assert plans.budget(plan, "sqnr") == plans.budget(plan, "top1") == 0.5


def test_a_files_budget_holds_for_the_metric_it_was_written_with(tmp_path: Path) -> None:
    file = tmp_path / "careful.toml"
    file.write_text('base = "int8"\nmax_drop = 0.01\n')
    plan = made(Order("m", "rpi4"), recipe_name=str(file))
    assert plans.budget(plan, "top1") == 0.01
    assert plans.budget(plan, "sqnr") is None  # 0.01 of accuracy is not 0.01 dB
    file.write_text('base = "int8"\nmax_drop = 3.0\nmetric = "sqnr"\n')
    plan = made(Order("m", "rpi4"), recipe_name=str(file))
    assert plans.budget(plan, "sqnr") == 3.0
    assert plans.budget(plan, "top1") is None


def test_a_model_folder_cannot_name_code_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('it ran')")
    (tmp_path / "m.tflite").write_bytes(b"\0\0\0\0TFL3")
    address = digest.of_file(tmp_path / "m.tflite")
    entry = f'source = "m.tflite"\nsha256 = "{address}"\n[quality]\nmetric = "evil:score"\n'
    (tmp_path / "model.toml").write_text(entry)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="would run code"):
        plans.prepare(Order(str(tmp_path), "rpi4"))


def test_every_metric_named_is_looked_up_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.tflite").write_bytes(b"\0\0\0\0TFL3")
    (tmp_path / "r.toml").write_text('base = "int8"\nmetric = "topp1"\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="did you mean 'top1'"):
        plans.prepare(Order("m.tflite", "rpi4", recipe="r.toml"))
