"""What a user asks of a device by its name: estimate(), check() and provision()."""

from collections.abc import Callable
from pathlib import Path

from edgefc.devices import connect, inventory
from edgefc.devices.board import check as board
from edgefc.devices.board import provision as provisioning
from edgefc.devices.board.provision import Provisioned
from edgefc.devices.browser import check as browser
from edgefc.devices.estimating import estimate as estimating
from edgefc.devices.estimating.estimate import Calibration, Estimate
from edgefc.devices.estimating.rates import of_profile
from edgefc.devices.estimating.work import work_of
from edgefc.devices.profiles import profile
from edgefc.devices.profiles.profile import Profile
from edgefc.devices.transports.local import this_machine
from edgefc.errors import UsageError
from edgefc.runtime.inputs import Ranges, Shapes

_KINDS = {"local": "host", "web": "browser"}


def estimate(
    path: str | Path, device: str, *, batch: int | None = None, threads: int = 1, inputs: str | None = None,
    shapes: Shapes | None = None, ranges: Ranges | None = None, calibration: Calibration | None = None,
) -> Estimate:  # fmt: skip
    """Predict latency and memory of an .onnx file on a device that is not at hand. The model is run once here.

        edgefc.devices.estimate("model.onnx", "pi5", batch=8).seconds

    Args:
        device: a profile or a device of yours, as `edgefc devices` lists them.
        batch: the size of the open first dimension; 1 without it.
        threads: threads per run, at most the number of the device's fastest cores.
        inputs: an .npz file with one array per input. Without it, inputs are drawn.
        shapes, ranges: shapes and values of drawn inputs, as for edgefc.runtime.profile.
        calibration: the constants of the estimate; without it, those that edgefc ships.

    Raises:
        UsageError: no such device, file or input, or a profile without the rates that an estimate needs.
        ModelError: onnxruntime does not load or run the model.
        DeviceError: the device is this machine, and its rates cannot be measured.
    """
    if batch is not None and inputs is not None:
        raise UsageError("batch and inputs were both given, and the arrays have a batch. Give one of them.")
    rates = of_profile(_profile(device))
    work = work_of(path, batch, inputs, shapes=shapes, ranges=ranges)
    return estimating.estimate(work, rates, threads=threads, calibration=calibration)


def check(name: str) -> board.Report:
    """What a device has and lacks, line by line, and the command that fixes what it lacks.

    Args:
        name: a device of yours, "local" for this machine, or "web" for a browser of this machine.

    Raises:
        UsageError: no device has that name.
        DeviceError: it cannot be reached, or lacks Python.
    """
    if name in connect.HERE:
        return board.check(this_machine(name))
    if name == connect.WEB:
        return browser.check(name)
    return board.check(connect.transport(name), inventory.device(name).profile)


def provision(name: str, *, wheels: Path | None = None, say: Callable[[str], None] | None = None) -> Provisioned:
    """Put numpy, onnxruntime and the native kernels on a device of yours, where they are missing.

    Args:
        wheels: a folder of wheels to take instead of the package index, for a machine without internet.
        say: called with a sentence at each step.

    Raises:
        UsageError: no device has that name, or there is no such folder.
        DeviceError: the device is lost, has no room, or no wheels are made for it.
    """
    if wheels is not None and not wheels.is_dir():
        raise UsageError(f"no folder {wheels}. Name one that holds wheels of numpy and onnxruntime.")
    return provisioning.provision(connect.transport(name), wheels=wheels, say=say or (lambda _: None))


def _profile(name: str) -> Profile:
    mine = inventory.devices()
    if name not in mine:
        return profile.load(_KINDS.get(name, name))
    key = mine[name].profile
    if key is None:
        raise UsageError(
            f"your device {name!r} was added without a profile. Add it with one: "
            f"edgefc devices remove {name}, then edgefc devices add {name} --profile KEY ..."
        )
    return profile.load(key)
