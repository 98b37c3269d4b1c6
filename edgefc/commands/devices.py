"""edgefc devices [list | add | remove | check | provision | serve] [options]

List the kinds of devices that are known and your own; keep the list of yours; see what one lacks, and give it that.

    edgefc devices
    edgefc devices add kitchen --profile pi5 --ssh kitchen
    edgefc devices add phone --profile oneplus-5 --adb SERIAL
    edgefc devices check kitchen        (or web, the browser of this machine)
    edgefc devices provision kitchen
    edgefc devices remove kitchen
    edgefc devices serve model.onnx --batch 1,16

ALIAS is a name that your ssh configuration resolves: addresses, user names and keys stay there. SERIAL is one that
adb devices lists. Your devices are kept in edgefc/devices.toml below $XDG_CONFIG_HOME (or ~/.config).

check ends with 1 where something is missing without which nothing can be measured. provision pushes wheels of numpy
and onnxruntime and the native kernels, fetched and built on this machine: the device needs no internet. Where this
machine has none either, give it a folder of wheels: --wheels FOLDER.

serve prints an address, waits for a browser to open it, and measures there: as edgefc profile --device web does in a
headless one. Only this machine reaches the address unless --host names another one, such as 0.0.0.0 for a phone.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgefc.commands.profile import add_options, options_of
from edgefc.options import whole
from edgefc.screen import out

if TYPE_CHECKING:
    from edgefc.devices.inventory import Transport
    from edgefc.devices.profiles.profile import Profile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="PATH", help="write profiles, sources and your devices here")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("list", help="what edgefc devices alone does", allow_abbrev=False)
    add = actions.add_parser("add", help="write down a device of yours", allow_abbrev=False)
    add.add_argument("name", metavar="NAME", help="what you call it: small letters, digits, hyphens")
    add.add_argument("--profile", metavar="KEY", help="the kind of device that it is, as edgefc devices lists them")
    reach = add.add_mutually_exclusive_group(required=True)
    reach.add_argument("--ssh", metavar="ALIAS", help="a host of your ssh configuration")
    reach.add_argument("--adb", metavar="SERIAL", help="a phone that adb devices lists")
    reach.add_argument("--emulated", metavar="FOLDER", help="a folder with an arm64 system, run by qemu")
    for action, text in (
        ("remove", "forget a device of yours"),
        ("check", "what it has and lacks, and the command that fixes it"),
        ("provision", "put packages and native kernels there"),
    ):
        parts = actions.add_parser(action, help=text, allow_abbrev=False)
        parts.add_argument("name", metavar="NAME")
        if action == "check":
            parts.add_argument("--json", type=Path, metavar="PATH", help="write the same for machines")
        if action == "provision":
            parts.add_argument(
                "--wheels", type=Path, metavar="FOLDER", help="take wheels from here, not from the index"
            )

    serve = actions.add_parser("serve", help="measure in a browser that you open", allow_abbrev=False)
    serve.add_argument(
        "models", nargs="+", metavar="MODEL", help="an .onnx file; the others are compared with the first"
    )
    serve.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0 for all networks of this machine"
    )
    serve.add_argument("--port", type=whole, default=0, metavar="N", help="default: one that is free")
    add_options(serve)


def run(args: argparse.Namespace) -> int:
    if args.action == "add":
        return _add(args)
    if args.action == "remove":
        from edgefc.devices import inventory

        inventory.remove(args.name)
        out(f"{args.name} is forgotten.")
        return 0
    if args.action == "check":
        return _check(args.name, args.json)
    if args.action == "provision":
        return _provision(args.name, args.wheels)
    if args.action == "serve":
        return _serve(args)
    return _list(args.json)


def _serve(args: argparse.Namespace) -> int:
    from edgefc.devices.browser.serve import serve
    from edgefc.files import check_writable
    from edgefc.runtime.profiling.record import Report
    from edgefc.runtime.profiling.table import show

    if args.json is not None:
        check_writable(args.json, *args.models, *([args.inputs] if args.inputs else []))
    record = serve(args.models, host=args.host, port=args.port, **options_of(args))
    show(record)
    if args.json is not None:
        Report.from_records(record).write(args.json)
    return 0


def _add(args: argparse.Namespace) -> int:
    from edgefc.devices import inventory

    transport: Transport = "ssh" if args.ssh is not None else "adb" if args.adb is not None else "emulated"
    address = getattr(args, transport)
    inventory.add(args.name, inventory.made(args.profile, transport, address))
    out(f"{args.name} is written to {inventory.path()}. See what it has and lacks: edgefc devices check {args.name}")
    return 0


def _check(name: str, path: Path | None) -> int:
    from edgefc.devices import inventory
    from edgefc.devices.board.check import as_json, check
    from edgefc.devices.browser.check import check as check_browser
    from edgefc.devices.connect import HERE, WEB, transport
    from edgefc.devices.transports.local import this_machine
    from edgefc.files import check_writable, write_text
    from edgefc.tables import print_table

    if path is not None:
        check_writable(path)
    if name in HERE:
        found = check(this_machine(name))
    elif name == WEB:
        found = check_browser(name)
    else:
        found = check(transport(name), inventory.device(name).profile)
    rows = [(line.what, line.state, line.found, line.mend) for line in found.lines]
    print_table((name, "", "found", "what to do"), rows, left=4)
    for note in found.notes:
        out(f"note: {note}")
    if path is not None:
        write_text(path, json.dumps(as_json(found), indent=2) + "\n")
    return 0 if found.complete else 1


def _provision(name: str, wheels: Path | None) -> int:
    from edgefc.devices.board.provision import provision
    from edgefc.devices.connect import transport
    from edgefc.errors import UsageError

    if wheels is not None and not wheels.is_dir():
        raise UsageError(f"no folder {wheels}. Name one that holds wheels of numpy and onnxruntime.")
    found = provision(transport(name), wheels=wheels)
    for sentence in found.done:
        out(f"put there: {sentence}")
    for sentence in found.lacking:
        out(f"still lacking: {sentence}")
    out(f"{name} is ready: edgefc profile MODEL --device {name}")
    return 0


def _list(path: Path | None) -> int:
    from edgefc.devices import inventory
    from edgefc.devices.profiles import profile
    from edgefc.files import check_writable, write_text
    from edgefc.tables import print_table

    if path is not None:
        check_writable(path)
    kinds = [profile.load(key) for key in profile.names()]
    mine = inventory.devices()
    print_table(("profile", "device", "kind", "cores", "GHz", "memory GiB", "estimate"), map(_row, kinds), left=4)
    out()
    if mine:
        rows = [(name, each.profile or "", each.transport, each.address) for name, each in mine.items()]
        print_table(("your device", "profile", "by", "address"), rows, left=4)
    else:
        out("You have written down no device yet: edgefc devices add NAME --profile KEY --ssh ALIAS")
    if path is not None:
        content = {
            "profiles": [each.model_dump(exclude_none=True) for each in kinds],
            "devices": {name: device.model_dump() for name, device in mine.items()},
        }
        write_text(path, json.dumps(content, indent=2) + "\n")
    return 0


def _row(profile: "Profile") -> tuple[str, ...]:
    from edgefc.devices.estimating.rates import usable

    cores = " + ".join(f"{each.cores.value} {each.core.value}" for each in profile.clusters)
    clock = f"{profile.clusters[0].max_clock_hz.value / 1e9:.1f}" if profile.clusters else ""
    memory = "/".join(f"{size / 2**30:g}" for size in profile.memory.bytes.value) if profile.memory else ""
    return profile.key, profile.name, profile.kind, cores, clock, memory, "yes" if usable(profile) else "no"
