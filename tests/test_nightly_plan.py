"""What a suite comes to with the devices there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship import nightly_plan
from edgeship import suite as suites
from edgeship.errors import BadInput, NothingToDo
from edgeship.nightly_plan import NightPlan
from tests.tiny_tflite import separable

DEVICES = """
[pi-01]
target = "rpi4"
transport = "ssh"
address = "a"
tags = ["desk", "pool"]

[pi-02]
target = "rpi4"
transport = "ssh"
address = "b"
tags = ["pool"]

[zero]
target = "rpi-zero2w"
transport = "ssh"
address = "c"
tags = ["pool"]

[coral]
target = "coral-usb"
transport = "ssh"
address = "d"
"""


def planned(folder: Path, text: str, *, only: str | None = None, devices: str = DEVICES) -> NightPlan:
    """Return the plan of a suite in a folder with a model and devices."""
    separable().write(folder / "tiny.tflite")
    (folder / "devices.toml").write_text(devices)
    (folder / "s.toml").write_text(text)
    return nightly_plan.plan(suites.read(folder / "s.toml"), folder / "devices.toml", only=only)


def names(plan: NightPlan) -> list[str]:
    """Return the names of the cases as they are planned."""
    return [task.case.name for task in plan.tasks]


def test_models_times_recipes_times_devices(tmp_path: Path) -> None:
    """An artifact is built once for all devices of a target."""
    text = (
        'models = ["digits", "tiny.tflite"]\nrecipes = ["int8", "float32"]\ndevices = ["pi-*", "zero", "virtual:rpi4"]'
    )
    plan = planned(tmp_path, text)
    assert len(plan.tasks) == 2 * 2 * 4 and len(plan.artifacts) == 2 * 2 * 2
    assert "tiny/rpi4/float32@virtual:rpi4" in names(plan) and "digits/rpi-zero2w/int8@zero" in names(plan)
    assert len({task.artifact.order.out for task in plan.tasks}) == 8
    assert [device.name for device in plan.devices] == ["pi-01", "pi-02", "zero", "virtual:rpi4"]


def test_the_default_recipe_is_the_targets(tmp_path: Path) -> None:
    """Without `recipes` each target says."""
    assert names(planned(tmp_path, 'models = ["digits"]\ndevices = ["pi-01"]')) == ["digits/rpi4/int8@pi-01"]


def test_a_tag_stands_for_all_and_any_for_one(tmp_path: Path) -> None:
    """`any:` makes one task for each target among the tagged devices; `tag:` one a device, none twice."""
    plan = planned(tmp_path, 'models = ["tiny.tflite"]\ndevices = ["any:pool", "tag:desk", "pi-*"]')
    assert [[device.name for device in task.devices] for task in plan.tasks] == [["pi-01", "pi-02"], ["zero"], ["pi-01"], ["pi-02"]]  # fmt: skip


def test_what_a_target_refuses_is_left_out_and_told(tmp_path: Path) -> None:
    """The rest of the matrix stays."""
    plan = planned(tmp_path, 'models = ["tiny.tflite"]\nrecipes = ["int8", "float16"]\ndevices = ["coral", "pi-01"]')
    assert names(plan) == ["tiny/coral-usb/int8@coral", "tiny/rpi4/int8@pi-01", "tiny/rpi4/float16@pi-01"]
    assert len(plan.skipped) == 1 and plan.skipped[0].startswith("tiny/coral-usb/float16: coral-usb refuses it")


def test_only_is_a_glob_over_anything(tmp_path: Path) -> None:
    """A case's name, model, target, recipe or device."""
    text = 'models = ["digits", "tiny.tflite"]\ndevices = ["pi-01", "zero"]'
    assert len(planned(tmp_path, text, only="tiny").tasks) == 2
    assert names(planned(tmp_path, text, only="*@zero")) == ["digits/rpi-zero2w/int8@zero", "tiny/rpi-zero2w/int8@zero"]
    with pytest.raises(NothingToDo, match=r"no case fits --only tny; did you mean 'tiny'\?"):
        planned(tmp_path, text, only="tny")


def test_a_model_file_that_is_not_there_is_trouble_of_its_cases_alone(tmp_path: Path) -> None:
    """Another job may not have made it tonight; a sample's name that is none is a mistake in the suite."""
    plan = planned(tmp_path, 'models = ["digits", "gone/model.onnx"]\ndevices = ["pi-01"]')
    assert [artifact.trouble is None for artifact in plan.artifacts] == [True, False]
    assert names(plan)[1] == "model/rpi4/int8@pi-01"
    with pytest.raises(BadInput, match=r"s\.toml: 'models': .*did you mean 'digits'"):
        planned(tmp_path, 'models = ["digit"]\ndevices = ["pi-01"]')


def test_a_named_model_brings_its_options(tmp_path: Path) -> None:
    """Files are relative to the suite's folder."""
    text = """
models = ["small", "tiny.tflite"]
devices = ["pi-01"]
[model.small]
source = "tiny.tflite"
data = "d.npz"
calibration = ["c.npz"]
metric = "agreement"
max_drop = 0.02
"""
    order = planned(tmp_path, text).tasks[0].artifact.order
    assert order.data == tmp_path / "d.npz" and order.calibration == (tmp_path / "c.npz",)
    assert (order.metric, order.max_drop, order.model) == ("agreement", 0.02, str(tmp_path / "tiny.tflite"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('models = ["digits"]\ndevices = ["pi-03"]', "no such device 'pi-03'; did you mean 'pi-0"),
        ('models = ["digits"]\ndevices = ["x*"]', "no device fits 'x*'"),
        ('models = ["digits"]\ndevices = ["tag:deks"]', "no such tag 'deks'; did you mean 'desk'?"),
        ('models = ["digits"]\ndevices = ["any:nobody"]', "no such tag 'nobody'"),
        (
            'models = ["digits"]\ndevices = ["pi-01"]\nrecipes = ["int9"]',
            "s.toml: 'recipes': no such recipe 'int9'; did you mean 'int8'?",
        ),
        ('models = ["tiny.tflite", "./tiny.tflite"]\ndevices = ["pi-01"]', "are both called 'tiny'"),
        (
            'models = ["digits"]\ndevices = ["pi-01"]\n[[budget]]\nmodel = "digts"\nsize_bytes = 1',
            "s.toml: [[budget]] model = \"digts\" fits no case; did you mean 'digits'?",
        ),
        (
            'models = ["digits"]\ndevices = ["pi-01"]\n[[exclude]]\nrecipe = "int8"\ndevice = "pi01"',
            "s.toml: [[exclude]] device = \"pi01\" fits no case; did you mean 'pi-01'?",
        ),
        (
            'models = ["digits"]\ndevices = ["pi-01", "zero"]\n[[include]]\n[[include]]\ntarget = "rpi4"\ndevice = "zero"',
            's.toml: [[include]] target = "rpi4", device = "zero" fits no case',
        ),
    ],
    ids=range(9),
)
def test_a_mistake_in_the_suite_is_told_before_any_work(tmp_path: Path, text: str, told: str) -> None:
    """With the near miss."""
    with pytest.raises(BadInput) as refused:
        planned(tmp_path, text)
    assert told in refused.value.message


def test_a_pattern_may_fit_what_is_not_measured_tonight(tmp_path: Path) -> None:
    """What `--only`, `targets` or another pattern left out is no mistake."""
    text = """
models = ["digits", "tiny.tflite"]
devices = ["pi-*", "zero"]
targets = ["rpi4"]
[[budget]]
device = "zero"
size_bytes = 1
[[exclude]]
model = "tiny"
[[exclude]]
model = "t*"
device = "pi-02"
"""
    assert names(planned(tmp_path, text, only="pi-01")) == ["digits/rpi4/int8@pi-01"]


def test_a_tag_where_no_device_has_one(tmp_path: Path) -> None:
    """There is nothing to choose from, so it says how to give one."""
    with pytest.raises(BadInput, match=r"s\.toml: 'devices': any:shelf: no device has a tag") as refused:
        planned(
            tmp_path,
            'models = ["digits"]\ndevices = ["any:shelf"]',
            devices='[pi]\ntarget = "rpi4"\ntransport = "local"',
        )
    assert refused.value.hint == "edgeship devices add NAME … --tag shelf"


def test_nothing_left_is_told(tmp_path: Path) -> None:
    """Filters may leave nothing, and so may refusals."""
    with pytest.raises(NothingToDo, match="leave no case to measure"):
        planned(tmp_path, 'models = ["digits"]\ndevices = ["pi-01"]\ntargets = ["rpi5"]')
    with pytest.raises(BadInput, match=r"nothing is left to measure: .* refuses it"):
        planned(tmp_path, 'models = ["digits"]\ndevices = ["coral"]\nrecipes = ["float16"]')


def test_options_tell_the_suite_as_json(tmp_path: Path) -> None:
    """Only what was said, and the file's digest."""
    plan = planned(tmp_path, 'models = ["digits"]\ndevices = ["any:pool"]\ntags = ["main"]')
    told = nightly_plan.options(plan)
    assert told["suite"] == {"models": ["digits"], "devices": ["any:pool"], "tags": ["main"], "name": "s"}
    assert told["tags"] == ["main"] and len(told["suite_sha256"]) == 64
    assert told["pools"] == {"digits/rpi4/int8@pi-01": ["pi-01", "pi-02"]}
