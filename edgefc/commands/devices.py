"""edgefc devices [list | add | remove | check | provision | serve] [options]

List device profiles, register your devices, check them and install what they need.

    edgefc devices
    edgefc devices add kitchen --profile pi5 --ssh kitchen
    edgefc devices add phone --profile oneplus-5 --adb SERIAL
    edgefc devices check kitchen
    edgefc devices provision kitchen
    edgefc devices remove kitchen
    edgefc devices serve model.onnx --batch 1,16

add registers a device under a name. ALIAS is a host of your ssh configuration, which keeps the address, user name and
key. SERIAL is a phone in the output of adb devices. The file edgefc/devices.toml below $XDG_CONFIG_HOME (or ~/.config)
stores your devices.

check lists what the device has, what it lacks, and how to fix it. The exit code is 1 if something is missing that
measurements require. `edgefc devices check web` checks the browser on this machine.

provision copies wheels of numpy and onnxruntime and the native kernels to the device. This machine downloads and builds
them, so the device needs no internet access. If this machine has no internet access either, pass a folder of wheels:
--wheels FOLDER.

serve prints an address, waits until you open it in a browser, and measures in that browser. (edgefc profile --device
web does the same in a headless browser.) By default only this machine can open the address. To use a phone, pass --host
with an address of this machine, or 0.0.0.0 for all its networks.
"""

import argparse
import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefc.commands.profile import add_options, options_of
from edgefc.options import shown, whole
from edgefc.outputs import add_json, check_outputs
from edgefc.screen import out

if TYPE_CHECKING:
    from edgefc.devices.profiles.profile import Profile

TASK, SCHEMAS, EXTRA = "devices", ("devices", "devices check", "devices serve"), "measure"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser, "profiles, sources and your devices")
    parser.set_defaults(act=_list)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    listing = actions.add_parser("list", help="list profiles and your devices (the default)", allow_abbrev=False)
    add_json(listing, "profiles, sources and your devices", nested=True)
    add = actions.add_parser("add", help="register a device", allow_abbrev=False)
    add.add_argument("name", metavar="NAME", help="a name for the device: small letters, digits, hyphens")
    add.add_argument("--profile", metavar="KEY", help="the profile of the device; edgefc devices lists profiles")
    reach = add.add_mutually_exclusive_group(required=True)
    reach.add_argument("--ssh", metavar="ALIAS", help="a host of your ssh configuration")
    reach.add_argument("--adb", metavar="SERIAL", help="a phone that adb devices lists")
    reach.add_argument(
        "--command", dest="prefix", metavar="WORDS",
        help='a command that runs programs on the device: "docker exec -i box"',
    )  # fmt: skip
    reach.add_argument("--via", type=via, metavar="KIND=ADDRESS",
                       help="a transport that another package registers, and its address")  # fmt: skip
    add.set_defaults(act=_add)
    for action, act, text in (
        ("remove", _remove, "remove a device from the list"),
        ("check", _check, "show what the device has, what it lacks, and how to fix it"),
        ("provision", _provision, "install packages and native kernels on the device"),
    ):
        parts = actions.add_parser(action, help=text, allow_abbrev=False)
        parts.add_argument("name", metavar="NAME")
        parts.set_defaults(act=act)
        if action == "check":
            add_json(parts, "the result", nested=True)
        if action == "provision":
            parts.add_argument(
                "--wheels", type=Path, metavar="FOLDER", help="use wheels from this folder, not from the index"
            )

    serve = actions.add_parser("serve", help="measure in a browser that you open", allow_abbrev=False)
    serve.add_argument(
        "models", nargs="+", metavar="MODEL", help="an .onnx file; the first is the baseline for the others"
    )
    serve.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS",
        help="the address to listen on (default: 127.0.0.1); 0.0.0.0 for all networks of this machine",
    )  # fmt: skip
    serve.add_argument("--port", type=whole, default=0, metavar="N", help="the port (default: a free one)")
    add_options(serve, nested=True)
    serve.set_defaults(act=_serve)


def run(args: argparse.Namespace) -> int:
    from edgefc.errors import UsageError, needs_extra

    if args.json is not None and args.act in (_add, _remove, _provision):
        raise UsageError(f"edgefc devices {args.action} does not write JSON. Omit --json.")
    with needs_extra(EXTRA, "edgefc devices"):
        for module in ("edgefc.devices.inventory", "edgefc.progress"):
            importlib.import_module(module)
    return int(args.act(args))


def schema(name: str) -> dict[str, Any]:
    from edgefc.commands.schema import object_of, schema_of
    from edgefc.devices.board.check import Report as Checked
    from edgefc.devices.inventory import Device
    from edgefc.devices.profiles.profile import Profile
    from edgefc.runtime import Report

    if name == "devices serve":
        return schema_of(Report)
    if name == "devices check":
        return schema_of(Checked, complete=bool)
    return schema_of(object_of(profiles=list[Profile], devices=dict[str, Device]), mode="validation")


def via(text: str) -> tuple[str, str]:
    """Parse 'serial=/dev/ttyUSB0' into a pair. argparse shows the error message."""
    kind, _, address = text.partition("=")
    if not (kind.isidentifier() and address):
        raise argparse.ArgumentTypeError(f"{shown(text)} is not KIND=ADDRESS. Give a transport and its address.")
    return kind, address


def _serve(args: argparse.Namespace) -> int:
    from edgefc.devices.browser.serve import serve
    from edgefc.runtime.profiling.record import Report
    from edgefc.runtime.profiling.table import show

    check_outputs([args.json], force=args.force, inputs=[*args.models, args.inputs])
    record = serve(args.models, host=args.host, port=args.port, **options_of(args))
    show(record)
    if args.json is not None:
        Report.from_records(record).write(args.json)
    return 0


def _add(args: argparse.Namespace) -> int:
    from edgefc.devices import inventory

    given = {"ssh": args.ssh, "adb": args.adb, "command": args.prefix}
    transport, address = args.via or next((kind, text) for kind, text in given.items() if text is not None)
    inventory.add(args.name, inventory.made(args.profile, transport, address))
    out(f"Added {args.name} to {inventory.path()}. Next: edgefc devices check {args.name}")
    return 0


def _remove(args: argparse.Namespace) -> int:
    from edgefc.devices import inventory

    inventory.remove(args.name)
    out(f"Removed {args.name}.")
    return 0


def _check(args: argparse.Namespace) -> int:
    from edgefc.devices import check
    from edgefc.devices.board.check import as_json
    from edgefc.files import write_text
    from edgefc.tables import print_table

    check_outputs([args.json], force=args.force)
    report = check(args.name)
    rows = [(line.what, line.state, line.value, line.fix) for line in report.lines]
    print_table((args.name, "", "value", "what to do"), rows, left=4)
    for note in report.notes:
        out(f"note: {note}")
    if args.json is not None:
        write_text(args.json, json.dumps(as_json(report), indent=2) + "\n")
    return 0 if report.complete else 1


def _provision(args: argparse.Namespace) -> int:
    from edgefc.devices import provision

    result = provision(args.name, wheels=args.wheels, say=out)
    for sentence in result.done:
        out(f"installed: {sentence}")
    for sentence in result.lacking:
        out(f"not installed: {sentence}")
    out(f"{args.name} is ready: edgefc profile MODEL --device {args.name}")
    return 0


def _list(args: argparse.Namespace) -> int:
    from edgefc.devices import devices
    from edgefc.devices.profiles import profile
    from edgefc.files import write_text
    from edgefc.tables import print_table

    check_outputs([args.json], force=args.force)
    kinds = [profile.load(key) for key in profile.names()]
    mine = devices()
    print_table(("profile", "device", "kind", "cores", "GHz", "memory GiB", "estimate"), map(_row, kinds), left=4)
    out()
    if mine:
        rows = [(name, each.profile or "", each.transport, each.address) for name, each in mine.items()]
        print_table(("your device", "profile", "transport", "address"), rows, left=4)
    else:
        out("You have not added a device yet. Add one: edgefc devices add NAME --profile KEY --ssh ALIAS")
    if args.json is not None:
        content = {
            "profiles": [each.model_dump(exclude_none=True) for each in kinds],
            "devices": {name: device.model_dump() for name, device in mine.items()},
        }
        write_text(args.json, json.dumps(content, indent=2) + "\n")
    return 0


def _row(profile: "Profile") -> tuple[str, ...]:
    from edgefc.devices.estimating.rates import usable

    cores = " + ".join(f"{each.cores.value} {each.core.value}" for each in profile.clusters)
    clock = f"{profile.clusters[0].max_clock_hz.value / 1e9:.1f}" if profile.clusters else ""
    memory = "/".join(f"{size / 2**30:g}" for size in profile.memory.bytes.value) if profile.memory else ""
    return profile.key, profile.name, profile.kind, cores, clock, memory, "yes" if usable(profile) else "no"
