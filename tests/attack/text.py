"""Names with terminal escape sequences in every position that a message or a table quotes."""

from __future__ import annotations

import json
import os
import random
import struct
import zipfile
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.attack.commands import Done, Setting, first, forked, judged
from tests.attack.harness import Case
from tests.attack.kills_measure import on_this_machine
from tests.attack.outcome import Outcome

NASTY = {
    "clears the screen": "a\x1b[2J\x1b[1;1Hb",
    "sets the title": "a\x1b]0;title\x07b",
    "8-bit escape": "a\x9b31mb",
    "carriage return": "good\rbad ",
    "newline": "first line\nedgefc export: second line",
    "backspaces": "abc\b\b\bxyz",
    "other line ends": "a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g",
    "right to left": "a\u202egnp.exe\u202c",
    "isolates": "a\u2067b\u2066c\u2069d",
    "nothing but spaces": " \t \u00a0 ",
    "null": "a\x00b",
    "markup": "[bold red]a[/] [link=file:///etc/passwd]b[/link]",
    "braces": "{0} {name} %s %(x)s $HOME `id`",
    "100,000 letters": "x" * 100_000,
    "wide letters": "層" * 50,
    "combining letters": "e" + "\u0301" * 300,
    "a lone surrogate": "a\udcffb",
    "emoji and joiners": "\U0001f469\u200d\U0001f4bb\ufeff",
    "private use and delete": "\ue000\x7f\U000f0000",
    "a message of edgefc's": "a.\nedgefc inspect: b.\n  c",
}
PLACES = (
    "file name", "node name", "op type", "domain", "input name", "output name", "axis name", "weight name",
    "doc string",
    "location", "factory message", "forward message", "factory module", "layer name", "output-names option",
    "device option", "TOML key", "TOML value", "profile option", "json option", "npz name", "shape option", "exit text",
"producer", "source option",
)  # fmt: skip
PAIRS = list(product(PLACES, NASTY))
random.Random(0).shuffle(PAIRS)
COUNT = len(PAIRS)
_LONGEST = 20_000  # characters that a command may print for a name of 100,000


def case(rng: random.Random, number: int, folder: Path) -> Case:
    place, kind = PAIRS[number % len(PAIRS)]
    return Case(f"{kind} in the {place}", partial(_act, place, NASTY[kind]), limit_s=600)


def _act(place: str, text: str, work: Path) -> Outcome:
    try:
        lines = _lines(place, text, work)
    except (OSError, ValueError, struct.error) as error:
        return Outcome("ok", f"no such file can be made: {error!r}"[:200])
    return first(*(partial(_run, line, work) for line in lines))


def _run(line: list[str], work: Path) -> Outcome:
    if any("\0" in word for word in line):
        return Outcome("ok", "no argument holds a zero byte")
    setting = Setting(cwd=work, env={"XDG_CONFIG_HOME": str(work / "config"), "PYTHONPATH": str(work)})
    done = forked(line, setting, work.parent / "said", on_this_machine if "kitchen" in line else lambda: None).done()
    return first(lambda: judged(done, {0, 1, 2, 3}), lambda: _length(done))


def _length(done: Done) -> Outcome | None:
    size = len(done.out) + len(done.err)
    return Outcome("no sentence", f"{size} characters: {done.err[:200]}") if size > _LONGEST else None


def _lines(place: str, text: str, work: Path) -> list[list[str]]:
    """Write files to `work`. Returns the commands that process the text."""
    if place in ("factory message", "forward message", "exit text", "layer name", "factory module"):
        return _sources(place, text, work)
    if place in ("TOML key", "TOML value"):
        return _inventory(place, text, work)
    save(model(), work / "m.onnx")
    if place == "file name":
        path = work / f"{text}.onnx"
        save(model(), path)
        return [[command, str(path), *more] for command, *more in (
            ("inspect",), ("estimate", "--device", "pi5"), ("profile", "--time", "0.02", "--no-memory"),
        )]  # fmt: skip
    if place == "npz name":
        with zipfile.ZipFile(work / "x.npz", "w") as archive:
            for each, value in (("x", np.zeros((1, 16), np.float32)), (text, np.zeros(1, np.float32))):
                with archive.open(f"{each}.npy", "w") as file:
                    np.lib.format.write_array(file, value)
        return [["profile", "m.onnx", "--inputs", "x.npz", "--time", "0.02"]]
    options = {
        "output-names option": ["export", "tests.attack.sources:small", "-o", "o.onnx", "--output-names", text],
        "device option": ["profile", "m.onnx", "--device", text],
        "profile option": ["devices", "add", "shed", "--ssh", "shed", "--profile", text],
        "json option": ["inspect", "m.onnx", "--json", f"{text}/r.json"],
        "shape option": ["profile", "m.onnx", "--shape", f"{text}=1x16"],
        "source option": ["export", f"{text}:{text}", "-o", "o.onnx"],
    }
    if place in options:
        return [options[place]]
    save(model(place, text), work / "n.onnx")
    more = [["profile", "n.onnx", "--time", "0.02", "--no-memory"], ["estimate", "n.onnx", "--device", "pi5"]]
    lines = [["inspect", "n.onnx", "--all"], *more, ["verify", "n.onnx", "tests.attack.sources:small"]]
    return [*lines, ["profile", "n.onnx", "--device", "kitchen", "--time", "0.02"]] if place == "input name" else lines


def _sources(place: str, text: str, work: Path) -> list[list[str]]:
    said = {
        "factory message": f"raise RuntimeError({text!r})",
        "exit text": f"raise SystemExit({text!r})",
        "factory module": "pass",
        "forward message": "pass",
        "layer name": "pass",
    }[place]
    forward = f"raise ValueError({text!r})" if place == "forward message" else "return self.layers(x)"
    name = text if place == "layer name" else "first"
    (work / "net.py").write_text(
        "import torch, edgefc\nfrom torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layers = nn.Sequential()\n"
        f"        self.layers.add_module({name!r}, edgefc.CirculantLinear(16, 16))\n\n"
        f"    def forward(self, x):\n        {forward}\n\n\n"
        f"def make():\n    {said}\n    return Net(), torch.zeros(2, 16)\n",
        encoding="utf-8", errors="surrogatepass",
    )  # fmt: skip
    source = "net.py:make"
    if place == "factory module":
        os.rename(work / "net.py", work / f"{text}.py")
        source = f"{text}.py:make"
    save(model(), work / "m.onnx")
    lines = [["export", source, "-o", "o.onnx"], ["verify", "m.onnx", source]]
    return [*lines, ["inspect", "o.onnx"]] if place == "layer name" else lines


def _inventory(place: str, text: str, work: Path) -> list[list[str]]:
    quoted = json.dumps(text)
    body = {
        "TOML key": f'[devices.{quoted}]\ntransport = "ssh"\naddress = "a"\n',
        "TOML value": f"[devices.a]\ntransport = {quoted}\naddress = {quoted}\nprofile = {quoted}\n",
    }[place]
    file = work / "config" / "edgefc" / "devices.toml"
    file.parent.mkdir(parents=True)
    file.write_text(body, encoding="utf-8", errors="surrogatepass")
    save(model(), work / "m.onnx")
    return [["devices"], ["devices", "check", "a"], ["profile", "m.onnx", "--device", "a"], ["devices", "remove", "a"]]


def model(place: str = "", text: str = "") -> onnx.ModelProto:
    """y = x w + b, with the text in one position."""
    names = {"input name": "x", "output name": "y", "weight name": "w", "node name": "n", "axis name": "batch"}
    x, y, w, n, batch = (text if each == place else name for each, name in names.items())
    weight = numpy_helper.from_array(np.eye(16, dtype=np.float32), w)
    if place == "location":
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=text)
    op, domain = (text if place == each else usual for each, usual in (("op type", "MatMul"), ("domain", "")))
    node = helper.make_node(op, [x, w], [y], name=n, domain=domain)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 16]) for name in (x, y)]
    graph = helper.make_graph([node], "g", ports[:1], ports[1:], [weight])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if domain:
        made.opset_import.append(helper.make_opsetid(domain, 1))
    if place == "doc string":
        made.doc_string = made.graph.doc_string = node.doc_string = text
    if place == "producer":
        made.producer_name = made.producer_version = made.domain = text
    return made


def save(made: onnx.ModelProto, path: Path) -> None:
    path.write_bytes(made.SerializeToString())
