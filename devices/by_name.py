"""Functions that take a device by its name: estimate(), check() and provision()."""

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
    """Predict latency and memory of an .onnx file on a device without using it. The model is run once on this machine.

        edgefc.devices.estimate("model.onnx", "pi5", batch=8).seconds

    Args:
        device: a profile or one of your devices, as `edgefc devices` lists them.
        batch: the size of the open first dimension. Default: 1.
        threads: threads per run, at most the number of the device's fastest cores.
        inputs: an .npz file with one array per input. Without it, inputs are random.
        shapes, ranges: shapes and values of random inputs, as for edgefc.runtime.profile.
        calibration: the constants of the estimate. Default: those that edgefc ships.

    Raises:
        UsageError: the device, file or input does not exist, or the profile lacks the rates that an estimate needs.
        ModelError: onnxruntime cannot load or run the model.
        DeviceError: the device is this machine, and its rates cannot be measured.
    """
    if batch is not None and inputs is not None:
        raise UsageError("batch and inputs were both given, but the arrays set the batch size. Give only one of them.")
    rates = of_profile(_profile(device))
    work = work_of(path, batch, inputs, shapes=shapes, ranges=ranges)
    return estimating.estimate(work, rates, threads=threads, calibration=calibration)


def check(name: str) -> board.Report:
    """Check what a device has and lacks. Each problem has the command that fixes it.

    Args:
        name: one of your devices, "local" for this machine, or "web" for a browser on this machine.

    Raises:
        UsageError: no device has that name.
        DeviceError: the device cannot be reached, or has no Python.
    """
    if name in connect.HERE:
        return board.check(this_machine(name))
    if name == connect.WEB:
        return browser.check(name)
    return board.check(connect.transport(name), inventory.device(name).profile)


def provision(name: str, *, wheels: Path | None = None, say: Callable[[str], None] | None = None) -> Provisioned:
    """Install numpy, onnxruntime and the native kernels on one of your devices if they are missing.

    Args:
        wheels: a folder of wheels to use instead of the package index, for a machine without internet.
        say: called with a sentence at each step.

    Raises:
        UsageError: no device has that name, or the folder does not exist.
        DeviceError: the connection is lost, the disk is full, or there are no wheels for the device.
    """
    if wheels is not None and not wheels.is_dir():
        raise UsageError(f"{wheels} is not a folder. Name a folder with wheels of numpy and onnxruntime.")
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
