"""The build page: all that is in a record, escaped, and nothing that a browser would have to load."""

from __future__ import annotations

import ast
import dataclasses
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from edgeship.artifact import Advice, LayerError
from edgeship.report.app_program import program
from edgeship.report.build_page import render
from edgeship.report.charts import charts
from edgeship.report.terminal import Terminal
from edgeship.run import BuildRecord, Port, Quality, QuantizedShare, TrainingSummary
from tests.sample_record import bare, record

HOSTILE = "<script>alert(1)</script>\"'>&{{ 7 * 7 }}\n\\"
LOADING = {"src", "srcset", "href", "data", "action", "poster", "background", "cite", "formaction", "xlink:href"}
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Collects a page's text, elements and everything that names another resource; checks that elements close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.elements: list[str] = []
        self.loaded: list[str] = []
        self.handlers: list[str] = []
        self.open: list[str] = []
        self.feed(html.replace("<wbr>", ""))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        for name, value in attrs:
            if name in LOADING and not (value or "").startswith("#"):
                self.loaded.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def hostile() -> BuildRecord:
    """Return a record whose every text is an attack."""
    made = record(
        quality=Quality(HOSTILE, 0.5, 0.4, 0.1, None, 10, False, True),
        quantized=QuantizedShare(1, 2, 0.5, {HOSTILE: 1}),
        layers=(LayerError(HOSTILE, HOSTILE, 12.0, 0.1, 1.0), LayerError(HOSTILE, "ADD", None, 0.0, 0.0)),
        advice=(Advice("note", HOSTILE),),
        warnings=(HOSTILE,),
        notes=(HOSTILE,),
        inputs=(Port(HOSTILE, (-1, 2), HOSTILE, 0.5, 3, {"scale": [2.0], "offset": [1.0], "range": None}),),
        outputs=(Port(HOSTILE, (), "float32", None, None),),
        labels=(HOSTILE,),
        options={HOSTILE: HOSTILE},
        input_hashes={HOSTILE: HOSTILE},
        training=TrainingSummary(({"technique": HOSTILE, "loss": 1.0}, {"technique": "b", "loss": 2.0}), (), None, ()),
    )
    texts: dict[str, Any] = {
        f.name: HOSTILE for f in dataclasses.fields(made) if isinstance(getattr(made, f.name), str)
    }
    names = [dataclasses.replace(histogram, name=HOSTILE, operator=HOSTILE) for histogram in made.histograms]
    costs = tuple(dataclasses.replace(cost, name=HOSTILE, output=HOSTILE) for cost in made.complexity.operators)
    complexity = dataclasses.replace(made.complexity, operators=costs)
    stages = tuple(
        dataclasses.replace(stage, stage=HOSTILE, outcome=HOSTILE, why=HOSTILE, tools={HOSTILE: HOSTILE})
        for stage in made.stages
    )
    return dataclasses.replace(made, **texts, histograms=tuple(names), complexity=complexity, stages=stages)


@pytest.mark.parametrize("made", [record(), bare(), hostile()], ids=["full", "bare", "hostile"])
def test_loads_nothing_runs_nothing_and_closes_what_it_opens(made: BuildRecord) -> None:
    html = render(made)
    page = Page(html)

    assert page.open == []
    assert page.loaded == ["data:,"], "an empty icon keeps browsers from asking for one"
    assert page.handlers == []
    assert not {"script", "iframe", "img", "object", "embed", "base", "form"} & set(page.elements)
    style = "".join(re.findall(r"<style>(.*?)</style>|style=\"(.*?)\"", html, re.DOTALL)[0])
    assert "url(" not in style and "@import" not in style


def test_hostile_names_are_shown_as_text() -> None:
    html = render(hostile())

    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "{{ 7 * 7 }}" in html, "shown, not evaluated"


def test_verdict_stands_first_and_says_what_was_asked() -> None:
    text = Page(render(record())).text

    assert text.rindex("Passed") < text.index("Size and quality") < text.index("Complexity")
    for words in ("pqat50-int8", "rpi4", "top1 0.7624 → 0.7531 on 10,000 examples: 0.0093 worse", "0.015 was allowed"):
        assert words in text


def test_a_missed_budget_and_warnings_cannot_be_missed() -> None:
    quality = Quality("top1", 0.7624, 0.6331, 0.1293, 0.015, 10_000, False, False)
    text = Page(render(record(quality=quality, warnings=("most of the model was left untouched",)))).text

    assert "Missed the budget" in text and "Passed" not in text
    assert "Over the budget: a drop of 0.015 was allowed." in text
    assert text.index("most of the model was left untouched") < text.index("Size and quality")


def test_synthetic_inputs_are_said_at_the_top() -> None:
    text = Page(render(bare())).text

    assert "Synthetic inputs. No examples were given" in text
    assert "on 256 seeded random inputs" in text


def test_without_a_budget_nothing_passed() -> None:
    html = render(bare())
    text = Page(html).text

    assert "Built" in text and "Passed" not in text
    assert 'class="verdict built"' in html
    assert "No budget was set, so nothing could fail." in text


@pytest.mark.parametrize(
    ("after", "words"),
    [(700, "1.4x smaller"), (1400, "1.4x larger"), (4000, "4.0x larger"), (950, "5.0 % smaller"), (1000, "unchanged")],
)
def test_the_page_and_the_terminal_tell_a_size_alike(
    after: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = record(size_bytes=after, reference_size_bytes=1000)
    Terminal().build(made)

    assert f"({words})" in capsys.readouterr().out
    assert f", {words}" in Page(render(made)).text.replace("\N{MULTIPLICATION SIGN}", "x")


def test_what_is_absent_is_said_or_left_out() -> None:
    text = Page(render(bare())).text

    assert "No roofline for linux-x86_64" in text
    assert "Latency bound" not in text and "at best" not in text
    for section in ("Error by layer", "Weights before and after", "Fine-tuning", "Advice and notes"):
        assert section not in text


def test_a_target_without_an_int8_peak_still_shows_the_reference() -> None:
    text = Page(render(record(roofline=None))).text

    assert "No roofline for the artifact: rpi4 states no published peak for its arithmetic" in text
    assert "57.6 Gop/s" in text and "115.2" not in text


def test_the_roofline_is_marked_as_a_bound() -> None:
    text = Page(render(record())).text

    assert "A bound, not a measurement." in text
    assert "compute-bound" in text and "217 µs" in text
    assert "at best, from published peaks; not measured" in text


def test_every_layer_operator_stage_and_hash_is_there() -> None:
    made = record()
    html = render(made)
    text = Page(html).text

    assert all(layer.name in text for layer in made.layers)
    assert all(cost.output in text for cost in made.complexity.operators)
    assert all(stage.why in text for stage in made.stages)
    assert all(digest in text for digest in (made.sha256, *made.input_hashes.values()))
    assert html.count("<svg") == 1 + 2 + len(made.histograms)
    assert text.index("resnet/dense/BiasAdd") < text.index("resnet/block1/conv2/BiasAdd"), "worst first"


def test_charts_of_nothing_are_left_out() -> None:
    assert charts(roofline=None, reference_roofline=None, histograms=(), training=None) == {}
    one = TrainingSummary(({"technique": "qat", "loss": 1.0},), (), None, ())
    assert charts(roofline=None, reference_roofline=None, histograms=(), training=one) == {}


def test_a_chart_of_a_flat_history_and_of_no_arithmetic() -> None:
    made = record()
    assert made.roofline is not None
    flat = TrainingSummary(({"loss": 0.0, "held_out": 1.0},) * 3, (), None, ())
    still = dataclasses.replace(made.roofline, intensity=0.0, compute_ms=0.0, bound_by="memory")
    drawn = charts(roofline=still, reference_roofline=None, histograms=made.histograms, training=flat)

    assert {"roofline", "loss", "held_out"} <= set(drawn)
    assert not re.search(r"\b(nan|inf)\b", "".join(drawn.values()))


@pytest.mark.parametrize("made", [record(), hostile(), bare()], ids=["full", "hostile", "bare"])
def test_the_program_for_apps_is_python(made: BuildRecord) -> None:
    text = program("model.tflite", made.inputs, made.outputs, made.labels)
    names = {
        node.func.id
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }

    assert "alert" not in names
    assert "interpreter.invoke()" in text


def test_the_program_prepares_inputs_as_the_model_was_evaluated() -> None:
    plain = {"scale": [1.0], "offset": [0.0], "range": None}
    scaled = {"scale": [0.5, 0.25, 0.5], "offset": [-1.0], "range": None}
    text = program(
        "m.tflite", (Port("a", (1, 2, 3), "int8", 1.0, 0, plain), Port("b", (1, 3), "int8", 1.0, 0, scaled)), (), ()
    )

    assert "x1 = x1 * np.array([0.5, 0.25, 0.5], np.float32)\nx1 = x1 + -1.0" in text
    assert "x0 = x0" not in text


def test_a_second_page_takes_no_time() -> None:
    made = record()
    render(made)
    began = time.process_time()
    render(made)

    assert time.process_time() - began < 0.15


def test_the_compiled_template_is_kept_and_gives_the_same_page(tmp_path: Path) -> None:
    folder = tmp_path / "pages" / "compiled"
    pages = {render(record(), compiled=folder), render(record())}

    assert len(pages) == 1
    assert len(list(folder.iterdir())) == 2, "the page and its style"


def test_layers_that_a_converter_fused_go_by_their_first_name() -> None:
    html = render(record(layers=(LayerError("net/relu;net/norm/add;<b>conv", "CONV_2D", 12.0, 0.1, 1.0),)))

    assert (
        'net/<wbr>relu <span class="muted nowrap" title="net/relu;net/norm/add;&lt;b&gt;conv">+2 fused</span>' in html
    )
