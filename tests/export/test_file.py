"""What stands in an exported file beside the numbers: names, versions, bodies, weights, and nothing of the machine."""

import getpass
import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

import edgefc
import edgefc.export.exporter
from edgefc import CirculantLinear, PRPLinear
from edgefc.errors import CheckFailed, UsageError
from edgefc.export import export, verify
from edgefc.export.bodies import BodyChoice
from edgefc.export.ops import prp
from tests.support import cli_models as models

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """models.tiny(); tests read it and leave it alone."""
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    export(models.tiny(), models.rows(2), path)
    return path


def metadata(model: ir.Model) -> Iterator[dict[str, str]]:
    """Of the model, its graph, its functions, and every node and value."""
    yield model.metadata_props
    for graph in (model.graph, *model.functions.values()):
        yield graph.metadata_props
        for node in graph.all_nodes():
            yield node.metadata_props
            yield from (value.metadata_props for value in node.outputs)
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        yield value.metadata_props


def test_what_wrote_it(exported: Path) -> None:
    model = onnx.load(exported)

    assert (model.ir_version, model.producer_name, model.producer_version) == (10, "edgefc", edgefc.__version__)
    assert {o.domain: o.version for o in model.opset_import} == {"": 20, "edgefc": 1}
    assert {p.key: p.value for p in model.metadata_props} == {
        "edgefc.version": edgefc.__version__,
        "edgefc.generator": "1",
    }


def test_names(exported: Path) -> None:
    """Structured nodes have the names of their layers, all nodes the key edgefc.layer; ports are plain words."""
    graph = ir.load(exported).graph

    assert [(node.name, node.op_type) for node in graph if node.domain] == [
        ("0", "CirculantLinear"),
        ("3", "PRPLinear"),
    ]
    assert [node.metadata_props["edgefc.layer"] for node in graph] == ["0", "1", "2", "3"]
    assert [value.name for value in (*graph.inputs, *graph.outputs)] == ["input", "output"]
    assert sorted(graph.initializers)[:2] == ["0.bias", "0.kernel"]


def test_metadata_is_ours_alone(exported: Path) -> None:
    assert {key for props in metadata(ir.load(exported)) for key in props} == {
        "edgefc.version",
        "edgefc.generator",
        "edgefc.layer",
    }


def traces(data: bytes) -> list[bytes]:
    """What tells of the machine that a file was written on."""
    places = (str(ROOT), os.getcwd(), str(Path.home()), sys.prefix, f"/{getpass.getuser()}/")
    texts = [text.encode() for text in (*places, "site-packages", 'File "', ".py", "Traceback", "pkg.torch")]
    return [text for text in texts if text in data]


def test_nothing_of_this_machine(exported: Path) -> None:
    assert traces(exported.read_bytes()) == []
    assert str(exported.parent).encode() not in exported.read_bytes()


def test_the_search_for_traces_can_fail(tmp_path: Path) -> None:
    """Meta-test: what torch itself writes holds them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(models.tiny(), (models.rows(2),), tmp_path / "m.onnx", dynamo=True, verbose=False)

    assert {b'File "', b".py", b"pkg.torch"} <= set(traces((tmp_path / "m.onnx").read_bytes()))


def test_no_paths_in_a_function_or_node(exported: Path) -> None:
    model = onnx.load(exported)

    assert not model.doc_string and not model.graph.doc_string
    assert not any(node.doc_string for graph in (model.graph, *model.functions) for node in graph.node)


@pytest.mark.slow
def test_the_same_model_is_the_same_bytes(exported: Path, tmp_path: Path) -> None:
    """Again in this process, and in another that hashes strings otherwise and runs in another folder."""
    export(models.tiny(), models.rows(2), tmp_path / "again.onnx", verify=False)
    code = (
        "from edgefc.export import export; from tests.support import cli_models as m; "
        "export(m.tiny(), m.rows(2), 'other.onnx', verify=False)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "4711"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)

    whole = exported.read_bytes()
    assert (tmp_path / "again.onnx").read_bytes() == whole
    assert (tmp_path / "other.onnx").read_bytes() == whole


def test_another_weight_is_other_bytes(exported: Path, tmp_path: Path) -> None:
    """Meta-test of the one above."""
    model = models.tiny()
    with torch.no_grad():
        model[0].bias[0] += 1

    export(model, models.rows(2), tmp_path / "m.onnx", verify=False)

    assert (tmp_path / "m.onnx").read_bytes() != exported.read_bytes()


def test_flat(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No function and no domain of ours is left; nodes keep their layers; the numbers are the same.

    Nor is a CastLike, which onnxruntime warns of, does not fold, and so computes the tables behind it in every run.
    """
    model, x = models.tiny().eval(), models.rows(7)

    report = export(model, models.rows(2), tmp_path / "flat.onnx", flat=True)

    flat = ir.load(tmp_path / "flat.onnx")
    assert not flat.functions and dict(flat.opset_imports) == {"": 20}
    assert {node.domain for node in flat.graph.all_nodes()} == {""}
    assert {node.metadata_props["edgefc.layer"] for node in flat.graph} == {"0", "1", "2", "3"}
    assert report.layers == ("0", "3")
    assert models.nmse(models.answers(tmp_path / "flat.onnx", x)[0], model(x)) < 1e-10
    assert "CastLike" not in {node.op_type for node in flat.graph.all_nodes()}
    assert capfd.readouterr() == ("", "")
    assert {key for props in metadata(flat) for key in props} >= {"edgefc.flat", "edgefc.layer"}
    assert not any(key for props in metadata(flat) for key in props if not key.startswith("edgefc."))


OPSETS = [  # opset, circulant body, PRP body
    pytest.param(18, "dft", "streaming"),
    pytest.param(19, "dft", "resident", marks=pytest.mark.slow),
    pytest.param(20, "dft", "streaming", marks=pytest.mark.slow),
    pytest.param(21, "matmul", "streaming", marks=pytest.mark.slow),
    pytest.param(22, "dft", "streaming", marks=pytest.mark.slow),
    pytest.param(23, "matmul", "resident"),
    pytest.param(23, "dft", "streaming", marks=pytest.mark.slow),
    pytest.param(18, "matmul", "resident", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("opset", "circulant", "prp"), OPSETS)
def test_opsets_and_bodies(tmp_path: Path, opset: int, circulant: Any, prp: Any) -> None:
    """The bodies differ in their operators, and not in their numbers."""
    model, x = models.tiny().eval(), models.rows(3)

    asked = {"CirculantLinear": circulant, "PRPLinear": prp}
    report = export(model, models.rows(2), tmp_path / "m.onnx", opset=opset, bodies=asked)

    file = ir.load(tmp_path / "m.onnx")
    operators = {f.name: {node.op_type for node in f.all_nodes()} for f in file.functions.values()}
    assert file.opset_imports[""] == opset and {f.opset_imports[""] for f in file.functions.values()} == {opset}
    assert ("DFT" in operators["CirculantLinear"]) == (circulant == "dft")
    assert ("Loop" in operators["PRPLinear"]) == (prp == "streaming")
    assert report.bodies == {op: BodyChoice(body, "as requested") for op, body in asked.items()}
    assert models.nmse(models.answers(tmp_path / "m.onnx", x)[0], model(x)) < 1e-10


@pytest.mark.parametrize(
    ("limit", "body", "reason"),
    [
        pytest.param(1 << 20, "resident", "1.0 MiB of matrices, within 1 MiB: folded at load for speed", id="at"),
        pytest.param(
            (1 << 20) - 1, "streaming", "1.0 MiB of matrices, over 0 MiB: computed a band at a time", id="over"
        ),
    ],
)
def test_auto_folds_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, body: str, reason: str
) -> None:
    """All matrices of the file count: two of 256 x 512 float32 are one MiB."""
    monkeypatch.setattr(prp, "RESIDENT_LIMIT_BYTES", limit)
    model = nn.Sequential(PRPLinear(256, 512), PRPLinear(512, 256))

    report = export(model, models.rows(2, 256), tmp_path / "m.onnx", verify=False)

    assert report.bodies["PRPLinear"].name == body
    assert report.bodies["PRPLinear"].reason.startswith(reason)


def test_the_limit_is_64_mib() -> None:
    assert prp.RESIDENT_LIMIT_BYTES == 64 * 2**20


@pytest.mark.slow
def test_no_prp_layer_has_no_prp_body(tmp_path: Path) -> None:
    report = export(CirculantLinear(4, 4), models.rows(2, 4), tmp_path / "m.onnx", verify=False)

    assert report.bodies == {"CirculantLinear": BodyChoice("matmul", "the default")}


@pytest.fixture(scope="module")
def exported_large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with its weights beside it."""
    path = tmp_path_factory.mktemp("large") / "large.onnx"
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 1024), CirculantLinear(1024, 1024), nn.Linear(1024, 4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edgefc.export.exporter, "EXTERNAL_FROM_BYTES", 1024)
        report = export(model, models.rows(2), path)
    assert report.data is not None and report.data.parent == path.parent
    assert report.data_bytes == report.data.stat().st_size
    return path


@pytest.fixture
def large(exported_large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, in a folder of its own; what is large is set to a kilobyte."""
    monkeypatch.setattr(edgefc.export.exporter, "EXTERNAL_FROM_BYTES", 1024)
    shutil.copytree(exported_large.parent, tmp_path / "one")
    return tmp_path / "one" / "large.onnx"


def test_large_weights_lie_beside_the_file(large: Path, tmp_path: Path) -> None:
    """Each begins on a page, so that the runtime can map it; small ones stay in the file, named without a path.

    The name of the weights has the first digits of their SHA-256.
    """
    (data,) = (path for path in large.parent.iterdir() if path != large)
    assert data.name == f"large-{hashlib.sha256(data.read_bytes()).hexdigest()[:12]}.onnx.data"
    entries = [
        {entry.key: entry.value for entry in tensor.external_data}
        for tensor in onnx.load(large, load_external_data=False).graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]

    assert len(entries) == 5
    assert {entry["location"] for entry in entries} == {data.name}
    assert all(int(entry["offset"]) % 4096 == 0 for entry in entries)
    assert all(traces(path.read_bytes()) == [] for path in large.parent.iterdir())


def test_both_files_move_together(large: Path, tmp_path: Path) -> None:
    x = models.rows(3)
    before = models.answers(large, x)[0]
    shutil.move(large.parent, tmp_path / "elsewhere")

    assert (models.answers(tmp_path / "elsewhere" / "large.onnx", x)[0] == before).all()


def test_small_weights_stay_in_the_file(exported: Path) -> None:
    assert [path.name for path in exported.parent.iterdir()] == ["tiny.onnx"]
    assert edgefc.export.exporter.EXTERNAL_FROM_BYTES == 32 * 2**20


def twice(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 512), nn.Linear(512, 4)).eval()


def is_model(path: Path, model: nn.Module) -> bool:
    return models.nmse(models.answers(path, models.rows(3))[0], model(models.rows(3))) < 1e-10


@pytest.mark.slow
def test_another_model_in_the_place_of_one_in_two_files(large: Path) -> None:
    """The report says which weights stay."""
    shutil.copy(large, large.with_name("copy.onnx"))

    report = export(twice(1), models.rows(2), large, verify=False)

    assert report.data is not None and is_model(large, twice(1))
    assert len(list(large.parent.iterdir())) == 4
    assert len(report.notes) == 1 and report.notes[0].endswith(".onnx.data was kept: copy.onnx refers to it")
    large.with_name("copy.onnx").unlink()
    report = export(CirculantLinear(8, 8), models.rows(2), large, verify=False)
    assert (report.data, report.data_bytes, report.notes) == (None, 0, ())
    assert list(large.parent.iterdir()) == [large]


def test_a_refused_model_leaves_both_files(large: Path) -> None:
    before = models.files(large.parent)
    wrong = nn.Sequential(models.OtherInTheFile(), nn.Linear(8, 512))

    with pytest.raises(CheckFailed):
        export(wrong, models.rows(2), large)

    assert models.files(large.parent) == before


def test_a_full_disk(large: Path) -> None:
    """As a limit on the size of files; export() raises one sentence, and no OSError."""
    resource = pytest.importorskip("resource")
    before, old = models.files(large.parent), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    try:
        with pytest.raises(UsageError, match=r"cannot write .*large\.onnx: File too large\. Free some space there"):
            export(twice(1), models.rows(2), large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)

    assert models.files(large.parent) == before


def test_export_to_a_link(large: Path, tmp_path: Path) -> None:
    """The link stays, its target is the new model, and both paths run; the weights lie beside the target."""
    (tmp_path / "current.onnx").symlink_to("one/large.onnx")

    report = export(twice(1), models.rows(2), tmp_path / "current.onnx", verify=False)

    assert os.readlink(tmp_path / "current.onnx") == "one/large.onnx"
    assert report.data is not None and report.data.parent == large.parent and not report.data.is_symlink()
    for path in (large, tmp_path / "current.onnx"):
        assert is_model(path, twice(1))
    assert verify(tmp_path / "current.onnx", twice(1), models.rows(2)).holds
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["current.onnx", report.data.name, "one"])


_LOOP = """
import sys
import edgefc.export.exporter as exporter
from tests.support import cli_models as models
from tests.export.test_file import twice
exporter.EXTERNAL_FROM_BYTES = 1024
print("ready", flush=True)
while True:
    for seed in (1, 2):
        exporter.export(twice(seed), models.rows(2), sys.argv[1], verify=seed == 2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_killed_at_a_random_moment(large: Path, seed: int) -> None:
    """The model is one of the two, whole; the next export leaves two files."""
    export(twice(1), models.rows(2), large)
    moment = random.Random(seed).uniform(0.1, 1.5)
    command = [sys.executable, "-c", _LOOP, str(large)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    time.sleep(moment)
    process.kill()
    process.communicate()

    assert is_model(large, twice(1)) or is_model(large, twice(2))
    report = export(twice(3), models.rows(2), large)
    assert sorted(large.parent.iterdir()) == sorted([large, report.data or large]) and is_model(large, twice(3))
