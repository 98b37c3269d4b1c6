"""A model in two files is one thing: at every moment the old one is there whole, or the new one.

Small models made with onnx, not with torch; onnxruntime says which model a file is.
"""

import errno
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from edgefc.errors import UsageError
from edgefc.export.saving.write import publish, write
from edgefc.files import place_of, staging
from edgefc.locks import alone
from tests.support import onnx_models
from tests.support.cli_models import files

N = 32  # a weight of 4 KiB: those of a kilobyte stay in the graph


with TemporaryDirectory() as _folder:
    _MATMUL = ir.load(onnx_models.matmul(Path(_folder) / "m.onnx", N, N))


def save(path: Path, value: float, *, large: bool = True) -> tuple[str, ...]:
    """A model that multiplies by a matrix full of `value`; the notes."""
    place = place_of(path)
    with staging(place) as folder:
        made = ir.from_proto(ir.to_proto(_MATMUL))
        made.graph.initializers["w"].const_value = ir.tensor(np.full((N, N), value, np.float32), name="w")
        return publish(write(made, folder, place, external_from_bytes=1 if large else 1 << 30), place)


def value(path: Path) -> float:
    """Which model it is, by onnxruntime."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.ones((1, N), np.float32)})
    assert (y == y[0, 0]).all()
    return float(y[0, 0]) / N


def data_name(number: float, stem: str = "m") -> str:
    """By the rule, written apart: the first twelve hexadecimal digits of the SHA-256 of the weights' bytes."""
    return f"{stem}-{hashlib.sha256(np.full((N, N), number, np.float32).tobytes()).hexdigest()[:12]}.onnx.data"


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.fixture
def m(tmp_path: Path) -> Path:
    """A model in two files, with the value 1."""
    save(tmp_path / "m.onnx", 1)
    return tmp_path / "m.onnx"


def test_two_files(m: Path) -> None:
    assert names(m.parent) == [data_name(1), "m.onnx"] and value(m) == 1


@pytest.mark.parametrize("large", [True, False])
def test_another_model_in_its_place(m: Path, large: bool) -> None:
    assert save(m, 2, large=large) == ()

    assert value(m) == 2
    assert names(m.parent) == sorted(["m.onnx", *([data_name(2)] if large else [])])
    assert save(m, 3) == () and value(m) == 3 and names(m.parent) == sorted(["m.onnx", data_name(3)])


def test_the_same_model_again(m: Path) -> None:
    before = files(m.parent)

    assert save(m, 1) == ()

    assert files(m.parent) == before and value(m) == 1


def test_equal_weights_are_equal_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        save(tmp_path / folder / "m.onnx", 1)

    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_weights_of_earlier_versions_are_removed(m: Path) -> None:
    """`m.onnx.data`, if the graph that is replaced named it."""
    old_style(m)

    assert save(m, 2) == ()

    assert names(m.parent) == sorted(["m.onnx", data_name(2)])
    (m.parent / "m.onnx.data").write_text("of another tool")
    save(m, 3)
    assert "m.onnx.data" in names(m.parent)


def old_style(m: Path) -> None:
    rename_weights(m, "m.onnx.data")


def rename_weights(m: Path, name: str) -> None:
    (data,) = m.parent.glob("m-*.data")
    point_to(m, name)
    data.rename(m.parent / name)


def point_to(m: Path, location: str) -> None:
    model = ir.load(m)
    tensor = model.graph.initializers["w"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    model.graph.initializers["w"].const_value = ir.ExternalTensor(
        location, 0, 4 * N * N, tensor.dtype, shape=tensor.shape, name="w"
    )
    m.write_bytes(ir.to_proto(model).SerializeToString())


def test_weights_that_another_model_names_stay(m: Path) -> None:
    shutil.copy(m, m.with_name("n.onnx"))

    (note,) = save(m, 2)

    assert note == f"{m.parent / data_name(1)} was kept: n.onnx refers to it"
    assert value(m.with_name("n.onnx")) == 1 and value(m) == 2
    m.with_name("n.onnx").unlink()
    assert save(m, 3) == () and names(m.parent) == sorted(["m.onnx", data_name(3)])


def test_weights_that_another_model_names_through_a_link_stay(m: Path) -> None:
    """And by another spelling."""
    shutil.copy(m, m.with_name("n.onnx"))
    (m.parent / "weights").symlink_to(data_name(1))
    point_to(m.with_name("n.onnx"), "./weights")
    assert value(m.with_name("n.onnx")) == 1

    (note,) = save(m, 2)

    assert "n.onnx refers to it" in note and value(m.with_name("n.onnx")) == 1


def garbage(path: Path) -> None:
    path.write_bytes(b"\xff" * 100)


def cut_off(path: Path) -> None:
    path.write_bytes(path.with_name("m.onnx").read_bytes()[:-20])


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("name", ["n.onnx", "m.onnx.bak", "N.ONNX"])
@pytest.mark.parametrize("make", [garbage, cut_off, dangling, os.mkfifo])
def test_models_that_cannot_be_read_may_name_it(m: Path, make: Callable[[Path], None], name: str) -> None:
    make(m.with_name(name))

    (note,) = save(m, 2)

    assert note == f"{m.parent / data_name(1)} was kept: {name} cannot be read and may refer to it"
    assert names(m.parent) == sorted([data_name(1), data_name(2), "m.onnx", name])


def test_a_copy_by_another_ending_keeps_its_weights(m: Path) -> None:
    shutil.copy(m, m.with_name("m.onnx.bak"))

    assert "m.onnx.bak refers to it" in save(m, 2)[0]

    assert (m.parent / data_name(1)).is_file()


HOSTILE = [
    "train.py", "m_training_data", "m.data", "m-0123456789a.onnx.data", "m-0123456789AB.onnx.data", "n.onnx.data",
    "sub/m.onnx.data", "../outside", "../m.onnx.data", "m-0123456789ab.onnx.data/", "sub",
]  # fmt: skip


@pytest.mark.parametrize("location", HOSTILE)
def test_a_graph_that_names_files_of_others(m: Path, tmp_path: Path, location: str) -> None:
    """None of them is removed, and each that is there is named in a note."""
    inner = tmp_path / "in" / "m.onnx"
    save(inner, 1)
    (inner.parent / "sub").mkdir()
    for file in ("m.onnx.data", "outside", "in/sub/m.onnx.data"):
        (tmp_path / file).write_text("of the user")
    if not location.endswith(("/", "sub")):
        (inner.parent / location).write_text("of the user")
    point_to(inner, location)
    before = files(tmp_path)

    notes = save(inner, 2)

    after = files(tmp_path)
    assert {name: what for name, what in before.items() if name not in after} == {
        f"in/{data_name(1)}": before[f"in/{data_name(1)}"]  # its own weights, which nobody names
    }
    assert len(notes) == os.path.lexists(inner.parent / location.rstrip("\0"))
    assert all("was kept: its name is not one that edgefc writes" in note for note in notes)


@pytest.mark.parametrize("location", ["/etc/hostname", "a\0b", "", ".", "x" * 5000, "\x1b[31mred"])
def test_locations_that_are_no_names(m: Path, location: str) -> None:
    point_to(m, location)

    notes = save(m, 2)

    assert value(m) == 2 and names(m.parent) == sorted([data_name(2), "m.onnx"])
    assert all("was kept: its name is not one that edgefc writes" in note for note in notes)


def test_a_link_and_a_folder_by_the_name_of_weights(m: Path) -> None:
    """A graph that names a link: neither it nor what it leads to is removed."""
    (m.parent / "train.py").write_text("of the user")
    (m.parent / "m.onnx.data").symlink_to("train.py")
    point_to(m, "m.onnx.data")

    (note,) = save(m, 2)

    assert note.endswith("m.onnx.data was kept: it is not a regular file")
    assert (m.parent / "m.onnx.data").is_symlink() and (m.parent / "train.py").read_text() == "of the user"
    (m.parent / "m.onnx.data").unlink()
    (m.parent / "m.onnx.data").mkdir()
    point_to(m, "m.onnx.data")
    assert save(m, 3)[0].endswith("it is not a regular file") and (m.parent / "m.onnx.data").is_dir()


def test_left_weights_of_the_same_model_are_swept(m: Path) -> None:
    """Those of this name and pattern that no model names: a kill between the two renames leaves such a file."""
    stay = [f"{name}.onnx.data" for name in ("m-0123456789a", "n-0123456789ab", "mm-0123456789ab", "m-0123456789abc")]
    for name in (*stay, "m-0123456789ab.onnx.data"):
        (m.parent / name).write_text("left")
    (m.parent / "m-ba9876543210.onnx.data").symlink_to("m.onnx")
    (m.parent / "m-aaaaaaaaaaaa.onnx.data").mkdir()

    assert save(m, 1) == ()

    links_and_folders = ["m-ba9876543210.onnx.data", "m-aaaaaaaaaaaa.onnx.data"]
    assert names(m.parent) == sorted([*stay, *links_and_folders, data_name(1), "m.onnx"])


def test_a_name_that_is_a_pattern(tmp_path: Path) -> None:
    save(tmp_path / "a.c[0-9]*.onnx", 1)
    (tmp_path / "aXc00-0123456789ab.onnx.data").write_text("of the user")

    save(tmp_path / "a.c[0-9]*.onnx", 2)

    assert names(tmp_path) == sorted(["a.c[0-9]*.onnx", data_name(2, "a.c[0-9]*"), "aXc00-0123456789ab.onnx.data"])


def test_a_name_as_long_as_it_may_be(tmp_path: Path) -> None:
    """The name of the weights is cut between characters."""
    m = tmp_path / ("ä" * 125 + ".onnx")
    assert len(m.name.encode()) == 255

    save(m, 1)
    save(m, 2)

    assert value(m) == 2
    (data,) = (name for name in names(tmp_path) if name != m.name)
    assert data == data_name(2, "ä" * 116) and len(data.encode()) == 255


def test_weights_that_were_changed_are_not_taken_for_the_same(m: Path) -> None:
    (m.parent / data_name(1)).write_bytes(b"damaged")
    before = files(m.parent)

    with pytest.raises(UsageError, match=rf"cannot write .*m\.onnx: .*{data_name(1)} exists with other content"):
        save(m, 1)

    assert files(m.parent) == before


def test_permissions(m: Path) -> None:
    """The weights have those of the graph, and both those of the graph that was there."""
    m.chmod(0o640)

    save(m, 2)

    assert [(m.parent / name).stat().st_mode & 0o777 for name in names(m.parent)] == [0o640, 0o640]


# One call to the system fails, or the process ends there.

CALLS = ["fsync", "replace", "unlink", "rmdir", "symlink"]


@contextmanager
def at_call(call: str, number: int, act: Callable[[], None]) -> Iterator[list[int]]:
    """Within the block the number-th call of os.<call> does `act` instead, or afterwards. Yields the count of calls."""
    real, count = getattr(os, call), [0]

    def counted(*args: object, **options: object) -> object:
        count[0] += 1
        if count[0] == number and act is interrupt_after:
            real(*args, **options)
        if count[0] == number:
            act()
        return real(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, counted)
        yield count


Case = Callable[[Path], Path]


def steps(folder: Path, make: Case) -> Iterator[tuple[str, int, Path]]:
    """Each call that replacing a model makes, and a model, with the value 1, to replace."""
    for call in CALLS:
        path = make(folder / f"{call}-0")
        with at_call(call, 0, lambda: None) as count:
            save(path, 2)
        for number in range(1, count[0] + 1):
            yield call, number, make(folder / f"{call}-{number}")


def refuse() -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def interrupt() -> None:
    raise KeyboardInterrupt


def interrupt_after() -> None:
    raise KeyboardInterrupt


def through_a_link(folder: Path) -> Path:
    """A link in another folder; the model has the value 1."""
    (folder / "other").mkdir(parents=True)
    (folder / "other" / "current.onnx").symlink_to("../store/m.onnx")
    save(folder / "other" / "current.onnx", 1)
    return folder / "other" / "current.onnx"


def plain(folder: Path) -> Path:
    save(folder / "m.onnx", 1)
    return folder / "m.onnx"


def outcome_of(model: Path) -> str:
    try:
        save(model, 2)
    except (UsageError, KeyboardInterrupt) as error:
        return str(error) or type(error).__name__
    return ""


@pytest.mark.parametrize("make", [pytest.param(plain, marks=pytest.mark.slow), through_a_link])
@pytest.mark.parametrize("act", [refuse, interrupt, interrupt_after])
def test_a_failure_at_any_step(tmp_path: Path, make: Case, act: Callable[[], None]) -> None:
    """Before the graph's rename everything is as it was; afterwards the new model is there."""
    outcomes = set()
    for call, number, model in steps(tmp_path, make):
        case = tmp_path / f"{call}-{number}"
        before = files(case)
        with at_call(call, number, act):
            said = outcome_of(model)
        assert said in ("", "KeyboardInterrupt") or "Operation not permitted" in said
        if value(model) == 1:
            kept = {name: what for name, what in files(case).items() if ".edgefc-tmp-" not in name}
            assert kept == before, (call, number)
        outcomes.add((call, value(model)))
        save(model, 3)
        assert len([name for name in files(case) if name.endswith(".data")]) == (1 if make is plain else 2)
        assert not [name for name in files(case) if ".edgefc-tmp-" in name and act is refuse]
    assert {("fsync", 1.0), ("replace", 1.0), ("unlink", 2.0)} <= outcomes
    assert (("replace", 2.0) in outcomes) == (act is interrupt_after)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("make", [pytest.param(plain, marks=pytest.mark.slow), through_a_link])
def test_an_end_at_any_step(tmp_path: Path, make: Case) -> None:
    """As by SIGKILL: nothing is tidied up. The next export leaves nothing of it."""
    found = set()
    for call, number, model in steps(tmp_path, make):
        case = tmp_path / f"{call}-{number}"
        child = os.fork()
        if not child:
            try:
                with at_call(call, number, lambda: os._exit(9)):
                    save(model, 2)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        found.add(value(model))
        assert value(case / "store" / "m.onnx" if make is through_a_link else model) == value(model)
        save(model, 3)
        assert value(model) == 3
        left = {name for name, what in files(case).items() if what != "folder"}
        assert len(left) == (2 if make is plain else 4) and not [name for name in left if "tmp" in name]
        assert not list(case.rglob(".edgefc*"))
    assert found == {1, 2}


def test_an_export_waits_for_another_in_the_same_folder(m: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        with alone(m.parent / ".edgefc-tmp-lock"):
            waiting = pool.submit(save, m, 2)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
            assert value(m) == 1
        assert waiting.result() == ()
    assert value(m) == 2


def test_several_exports_to_one_name_at_the_same_time(tmp_path: Path) -> None:
    """Readers meanwhile: the graph that is there names weights that are there, or has just been replaced."""
    m = tmp_path / "m.onnx"
    save(m, 0)
    done = []

    def export(first: int) -> None:
        for number in range(6):
            save(m, first * (number % 3))  # 0 is of all of them

    def read() -> None:
        while not done:
            graph = m.read_bytes()
            (name,) = re.findall(rb"m-[0-9a-f]{12}\.onnx\.data", graph)
            assert (tmp_path / name.decode()).is_file() or m.read_bytes() != graph

    with ThreadPoolExecutor(5) as pool:
        reader = pool.submit(read)
        try:
            list(pool.map(export, range(1, 5)))
        finally:
            done.append(True)
        reader.result()

    assert len(names(tmp_path)) == 2 and value(m) in {0, 1, 2, 3, 4, 6, 8}


# Disks without room.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_with_less_and_less_room(small_disk: Path) -> None:
    """The old model stays, and nothing else, until the new one fits."""
    m, filling = small_disk / "m.onnx", small_disk / "filling"
    save(m, 1)
    outcomes = []
    for kib in range(64, -4, -4):
        filling.write_bytes(b"x" * 1024 * min(kib, shutil.disk_usage(small_disk).free // 1024))
        before = files(small_disk)
        said = outcome_of(m)
        outcomes.append(value(m))
        if value(m) == 1:
            assert said == f"cannot write {m}: No space left on device. Free some space there, or choose another path."
            assert files(small_disk) == before
        filling.unlink()
    assert outcomes[0] == 1 and outcomes[-1] == 2 and outcomes == sorted(outcomes)
    assert names(small_disk) == sorted(["m.onnx", data_name(2)])


def test_a_disk_that_is_read_only(small_disk: Path) -> None:
    save(small_disk / "m.onnx", 1)
    before = files(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    with pytest.raises(UsageError, match=r"cannot write .*: Read-only file system. Choose a path that can be written"):
        save(small_disk / "m.onnx", 2)

    assert files(small_disk) == before


@pytest.mark.parametrize("limit", [0, 100, 2000, 4095])
def test_a_limit_on_the_size_of_files(m: Path, limit: int) -> None:
    resource = pytest.importorskip("resource")
    before, old = files(m.parent), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        said = outcome_of(m)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)

    assert said == f"cannot write {m}: File too large. Free some space there, or choose another path."
    assert files(m.parent) == before


# Links to a model in two files.


def test_a_link_in_another_folder(tmp_path: Path) -> None:
    link = through_a_link(tmp_path)

    assert value(link) == 1 and value(tmp_path / "store" / "m.onnx") == 1
    assert os.readlink(link) == "../store/m.onnx"
    assert os.readlink(tmp_path / "other" / data_name(1)) == f"../store/{data_name(1)}"
    assert save(link, 2) == ()
    assert value(link) == 2 and value(tmp_path / "store" / "m.onnx") == 2
    assert names(tmp_path / "other") == sorted(["current.onnx", data_name(2)])
    assert names(tmp_path / "store") == sorted(["m.onnx", data_name(2)])
    assert save(link, 3, large=False) == ()
    assert names(tmp_path / "other") == ["current.onnx"] and names(tmp_path / "store") == ["m.onnx"]


def test_a_chain_of_links(tmp_path: Path) -> None:
    """Each of them loads."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a" / "top.onnx").symlink_to("../b/middle.onnx")
    (tmp_path / "b" / "middle.onnx").symlink_to(tmp_path / "c" / "d" / "m.onnx")

    for number in (1, 2):
        assert save(tmp_path / "a" / "top.onnx", number) == ()
        for path in ("a/top.onnx", "b/middle.onnx", "c/d/m.onnx"):
            assert value(tmp_path / path) == number
        assert names(tmp_path / "a") == sorted(["top.onnx", data_name(number)])
        assert names(tmp_path / "b") == sorted(["middle.onnx", data_name(number)])
        assert names(tmp_path / "c" / "d") == sorted(["m.onnx", data_name(number)])


def test_a_link_in_the_same_folder(m: Path) -> None:
    (m.parent / "current.onnx").symlink_to("m.onnx")

    assert save(m.parent / "current.onnx", 2) == ()

    assert value(m) == value(m.parent / "current.onnx") == 2
    assert names(m.parent) == sorted(["current.onnx", "m.onnx", data_name(2)])


def test_a_linked_folder_needs_no_link(m: Path, tmp_path: Path) -> None:
    (tmp_path / "short").symlink_to(".")

    assert save(tmp_path / "short" / "m.onnx", 2) == ()

    assert value(tmp_path / "short" / "m.onnx") == 2 and names(tmp_path) == sorted(["m.onnx", data_name(2), "short"])


def test_the_cache_of_the_hugging_face_hub(tmp_path: Path) -> None:
    """A snapshot is a folder of links to blobs without a suffix. What the hub manages is not removed."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshots" / "1").mkdir(parents=True)
    snapshot = tmp_path / "snapshots" / "1" / "m.onnx"
    save(tmp_path / "m.onnx", 1)
    for name, blob in (("m.onnx", "aaa"), (data_name(1), "bbb")):
        (tmp_path / name).rename(tmp_path / "blobs" / blob)
        (snapshot.parent / name).symlink_to(f"../../blobs/{blob}")
    assert value(snapshot) == 1

    (note,) = save(snapshot, 2)

    assert value(snapshot) == 2 and snapshot.is_symlink()
    assert names(tmp_path / "blobs") == sorted(["aaa", "bbb", data_name(2, "aaa")])
    assert names(snapshot.parent) == sorted(["m.onnx", data_name(1), data_name(2, "aaa")])
    name = snapshot.parent / data_name(1)
    assert note == f"{name} was kept: its name is not one that edgefc writes for the weights of aaa"
    assert save(snapshot, 3, large=False) == () and names(tmp_path / "blobs") == ["aaa", "bbb"]


@pytest.mark.parametrize("made", ["file", "link"])
def test_no_room_for_the_link_to_the_weights(tmp_path: Path, made: str) -> None:
    """Something else has its name: nothing is written."""
    link = through_a_link(tmp_path)
    at = tmp_path / "other" / data_name(2)
    at.write_text("of the user") if made == "file" else at.symlink_to("../elsewhere")
    before = files(tmp_path)

    with pytest.raises(UsageError, match=rf"cannot write .*: {at} exists and is not a link to its weights"):
        save(link, 2)

    assert files(tmp_path) == before and value(link) == 1


def test_links_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = through_a_link(tmp_path)
    before = files(tmp_path)
    monkeypatch.setattr(os, "symlink", lambda *_, **__: refuse())

    with pytest.raises(UsageError, match=r"which needs a link to its weights next to .*: Operation not permitted\."):
        save(link, 2)

    assert files(tmp_path) == before and value(link) == 1
    assert save(link, 3, large=False) == () and value(link) == 3  # which needs none
