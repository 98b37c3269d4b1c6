"""Several devices at once, with runners in the place of boards."""

import threading
from pathlib import Path
from typing import Any

import pytest

from edgefc.cli import main
from edgefc.devices import many
from edgefc.devices.many import Interrupted, profile_many
from edgefc.errors import DeviceError, ModelError, UsageError
from edgefc.runtime import Record, Report
from edgefc.runtime.probes.child import LIMIT_S
from edgefc.runtime.probes.contracts import Question
from edgefc.runtime.profiling.runner import Local
from tests.runtime.profiling.test_profile_turns import Recorded
from tests.support import onnx_models as models
from tests.support.json_schema import assert_valid

OPTIONS: dict[str, Any] = {"progress": False}


class Fake(Local):
    """Answers recorded timings; its name decides whether it fails or waits."""

    def __init__(self, name: str, meet: threading.Barrier | None = None) -> None:
        super().__init__()
        self.name, self.meet, self.closed = name, meet, threading.Event()
        self._recorded, self._asked = Recorded(), 0

    def ask(self, question: Question[Any], *, about: str, limit_s: float = LIMIT_S) -> Any:
        self._asked += 1
        if self.meet is not None and self._asked == 1:
            self.meet.wait(20)
        if self.name == "broken" and len(self._recorded.orders) > 20:
            text = "broken: the connection was lost. Check that the board is on, and run the command again."
            raise DeviceError(text, device="broken")
        if self.name == "hanging" and len(self._recorded.orders) > 20:
            self.closed.wait(20)
            raise DeviceError("hanging is not connected any more. Connect to it again.")
        if self.name == "picky":
            raise UsageError("picky: m.onnx: batch 3 does not fit. Leave the batch out.")
        return self._recorded.ask(question, about=about)

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return models.matmul(tmp_path / "a.onnx")


def test_devices_run_at_the_same_time(model: Path) -> None:
    """Each waits for the others at its first probe."""
    meet = threading.Barrier(3)

    report = profile_many(model, ["x", "y", "z"], open_device=lambda name: Fake(name, meet), **OPTIONS)

    assert [record.device.name for record in report.records] == ["x", "y", "z"]
    assert not report.failures


def test_one_that_is_lost_keeps_what_was_finished(model: Path) -> None:
    report = profile_many(model, ["good", "broken"], open_device=Fake, batch=[1, 2, 3, 4, 5], **OPTIONS)

    good, broken = report.records
    assert (len(good.cells), good.unfinished) == (5, None)
    assert 0 < len(broken.cells) < 5 and broken.unfinished == report.failures[0].sentence
    assert [failure.device for failure in report.failures] == ["broken"]


def test_ctrl_c_lets_every_device_go(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runners: list[Fake] = []

    def interrupted(futures: Any) -> None:
        while not any(runner._asked > 30 for runner in runners):
            pass
        raise KeyboardInterrupt

    def opened(name: str) -> Fake:
        runners.append(Fake(name))
        return runners[-1]

    monkeypatch.setattr(many, "wait", interrupted)
    with pytest.raises(Interrupted) as caught:
        profile_many(model, ["hanging"], open_device=opened, batch=[1, 2, 3, 4, 5], **OPTIONS)

    assert all(runner.closed.is_set() for runner in runners)
    assert caught.value.report.records[0].cells


def test_ctrl_c_before_anything_was_finished_keeps_an_earlier_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise Interrupted(Report.from_records())

    monkeypatch.setattr(many, "profile_many", interrupted)
    (tmp_path / "r.json").write_text("old")

    assert main(["profile", str(model), "--device", "x,y", "--force", "--json", "r.json"]) == 130
    assert (tmp_path / "r.json").read_text() == "old"


def test_what_fits_no_device_is_a_mistake_of_the_call(model: Path) -> None:
    with pytest.raises(UsageError, match="batch 3 does not fit"):
        profile_many(model, ["picky"], open_device=Fake, **OPTIONS)
    report = profile_many(model, ["picky", "good"], open_device=Fake, **OPTIONS)
    assert [failure.device for failure in report.failures] == ["picky"]


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ([], "no device is given"),
        (["a", "b", "a"], "given twice in a, b, a"),
        (["local", "host"], "given twice in local, host"),
    ],
)
def test_lists_that_name_no_devices(model: Path, devices: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        profile_many(model, devices)


def test_the_command_shows_one_table_and_writes_one_report(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(many, "connect", None)
    monkeypatch.setattr(profile_many, "__kwdefaults__", {"open_device": Fake})

    code = main(["profile", "a.onnx", "a.onnx", "--device", "good, broken", "--batch", "1,2,3", "--json", "r.json"])

    out, err = capsys.readouterr()
    report = Report.read("r.json")
    assert code == 3
    assert_valid("r.json", "profile")
    assert len(report.records) == 2 and len(report.failures) == 1
    assert out.count("the time of a.onnx divided by the model's time in the same rounds on the same device, with") == 1
    assert (
        err
        == "edgefc profile: broken: the connection was lost. Check that the board is on, and run the command again.\n"
    )
    assert "broken: unfinished, rows are missing" in out


@pytest.mark.parametrize("text", ["", "a,", ",a"])
def test_texts_that_are_no_list_of_devices(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["profile", "a.onnx", f"--device={text}"])
    assert "is not a list of devices" in capsys.readouterr().err


def test_a_report_of_one_device_is_a_record_too(model: Path) -> None:
    report = profile_many(model, ["good"], open_device=Fake, **OPTIONS)
    report.write("r.json")
    report.records[0].write("old.json")

    assert Report.read("r.json") == Report.read("old.json") == report
    assert Record.read("r.json") == Record.read("old.json") == report.records[0]


@pytest.mark.parametrize(("devices", "held"), [("good,other", "2 records and 0"), ("picky,good", "1 records and 1")])
def test_a_report_of_several_devices_is_not_one_record(model: Path, devices: str, held: str) -> None:
    profile_many(model, devices.split(","), open_device=Fake, **OPTIONS).write("r.json")

    with pytest.raises(
        UsageError, match=rf"cannot read r\.json as one record: it has {held} failures of devices\. Read"
    ):
        Record.read("r.json")


def test_one_device_that_is_lost_leaves_a_record_and_a_failure(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgefc.devices.connect.connect", Fake)

    assert main(["profile", "a.onnx", "--device", "broken", "--batch", "1,2,3", "--no-memory", "--json", "r.json"]) == 3

    report = Report.read("r.json")
    assert [failure.device for failure in report.failures] == ["broken"]
    assert Record.read("r.json") == report.records[0] and report.records[0].unfinished == report.failures[0].sentence


def test_a_model_that_fails_on_one_device_does_not_sink_the_rest(model: Path) -> None:
    def opened(name: str) -> Fake:
        if name == "small":
            raise ModelError("a.onnx needs more memory than is available. Give a smaller batch.")
        return Fake(name)

    report = profile_many(model, ["small", "good"], open_device=opened, **OPTIONS)

    assert [record.device.name for record in report.records] == ["good"]
    assert report.failures[0].sentence.startswith("small: a.onnx needs more memory")
