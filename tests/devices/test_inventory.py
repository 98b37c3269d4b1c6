"""The user's devices: what can be written down, what is refused, and that a broken file is told in one sentence."""

import re
from pathlib import Path

import pytest

from edgefc.cli import main
from edgefc.devices import inventory
from edgefc.devices.inventory import Device
from edgefc.errors import UsageError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    """The one line on stderr of a command that fails with 2."""
    assert main(["devices", *command]) == 2
    line = capsys.readouterr().err
    assert line.startswith("edgefc devices: ") and line.endswith(".\n") and line.count("\n") == 1
    return line.removeprefix("edgefc devices: ").strip()


def test_written_and_read_back(home: Path) -> None:
    kitchen = Device(profile="pi5", transport="ssh", address="kitchen.lan")
    phone = Device(profile=None, transport="adb", address="192.168.1.7:5555")

    inventory.add("kitchen", kitchen)
    inventory.add("a-phone-2", phone)

    assert inventory.devices() == {"a-phone-2": phone, "kitchen": kitchen}
    assert inventory.device("kitchen") == kitchen
    assert sorted(each.name for each in (home / "edgefc").iterdir()) == ["devices.toml"]
    inventory.remove("a-phone-2")
    assert list(inventory.devices()) == ["kitchen"]


def test_by_the_command(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "add", "kitchen", "--profile", "pi5", "--ssh", "k1"]) == 0
    assert main(["devices", "add", "box", "--command", "docker exec -i box"]) == 0
    assert main(["devices"]) == 0
    assert main(["devices", "remove", "kitchen"]) == 0

    out = capsys.readouterr().out
    assert f"Added kitchen to {home}/edgefc/devices.toml." in out
    assert re.search(r"^kitchen +pi5 +ssh +k1 *$", out, re.M)
    assert re.search(r"^box +command +docker exec -i box *$", out, re.M)
    assert list(inventory.devices()) == ["box"]


@pytest.mark.parametrize(
    "alias", ["-oProxyCommand=x", "a b", "a;b", "$(id)", "`id`", "a|b", "me@host", "h:22", "a\nb", ""]
)
def test_an_alias_is_no_option_and_no_program(alias: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="is not an alias of the ssh configuration"):
        inventory.add("x", Device(transport="ssh", address=alias))
    assert not inventory.path().exists()


@pytest.mark.parametrize(
    ("transport", "address"),
    [
        ("adb", "-s"),
        ("adb", "a b"),
        ("command", ""),
        ("command", "-c x"),
        ("command", "sh -c 'id'"),
        ("command", "a  b"),
        ("command", "a;b"),
        ("command", "a $HOME"),
        ("command", "a\nb"),
        ("command", "x" * 401),
    ],
)
def test_other_addresses(transport: str, address: str) -> None:
    with pytest.raises(UsageError, match=r"is not (a serial of adb devices|a command of plain words)|at most 400"):
        inventory.add("x", inventory.made(None, transport, address))


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("add", "x", "--ssh", "10.0.0.7"), "'10.0.0.7' is an address, and addresses stay in the ssh configuration. "
         "Write Host ALIAS and HostName 10.0.0.7 to it, and give ALIAS here."),
        (("add", "x", "--ssh", "a;b"), "'a;b' is not an alias of the ssh configuration. "
         "Use letters, digits and -._, and do not start with a hyphen."),
        (("add", "Kitchen", "--ssh", "k"), "'Kitchen' is not a valid device name. "
         "Use lowercase letters, digits and hyphens, at most 40 characters."),
        (("add", "local", "--ssh", "k"), "'local' is a reserved device name. "
         "Choose another name."),
        (("add", "there", "--ssh", "k"), "the device 'there' already exists. "
         "Remove it first: edgefc devices remove there."),
        (("remove", "absent"), "no device 'absent'. Devices are: there; "
         "add one with: edgefc devices add NAME --ssh ALIAS."),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(command: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    inventory.add("there", Device(transport="ssh", address="there"))

    assert said(capsys, *command) == sentence
    assert list(inventory.devices()) == ["there"]


def test_an_unknown_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "add", "x", "--profile", "pi9", "--ssh", "k").startswith("no profile 'pi9'. Profiles are: ")
    assert not inventory.path().exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[devices", "it is not valid TOML: "),
        ("speed = 3", "speed: Extra inputs are not permitted"),
        ('[devices.a]\ntransport = "ssh"', "devices.a.address: Field required"),
        ('[devices.a]\ntransport = "ssh"\naddress = "a"\nkey = "id"', "devices.a.key: Extra inputs"),
        ('[devices.a]\ntransport = "ssh"\naddress = "-oX"', "'-oX' is not an alias"),
        ('[devices."a b"]\ntransport = "ssh"\naddress = "a"', "'a b' is not a valid device name"),
        ('[devices.a]\nprofile = "pi9"\ntransport = "ssh"\naddress = "a"', "no profile 'pi9'"),
    ],
)
def test_a_file_that_someone_changed(content: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    inventory.path().parent.mkdir()
    inventory.path().write_text(content)

    line = said(capsys)

    assert str(inventory.path()) in line and why in line


def test_a_device_whose_transport_is_not_installed(capsys: pytest.CaptureFixture[str]) -> None:
    """The others can be used, and it can be removed."""
    inventory.add("near", Device(transport="ssh", address="near"))
    inventory.path().write_text(inventory.path().read_text() + '[devices.far]\ntransport = "telnet"\naddress = "a"\n')

    assert list(inventory.devices()) == ["far", "near"]
    assert inventory.device("near").address == "near"
    with pytest.raises(UsageError, match=r"^no transport 'telnet'\. Transports are: adb, command, ssh; "):
        inventory.device("far")
    inventory.remove("far")
    assert list(inventory.devices()) == ["near"]


def test_the_place_without_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A relative one is not taken, as the specification says."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CONFIG_HOME", value)
        assert inventory.path() == tmp_path / ".config" / "edgefc" / "devices.toml"
