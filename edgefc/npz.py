"""Reads calibration data: a .npz file with one array for each input of a model. Needs numpy only."""

import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefc.errors import UsageError, first_line, reason_of, shortened

_ADVICE = "Save one array for each input with numpy.savez(path, name=array)."


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file by name, in the byte order of the machine. Pickled objects are refused, not read.

    Raises:
        UsageError: the file cannot be read, has no arrays, or has something else than numbers of at most 64 bits.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would block
            raise UsageError(f"cannot read the calibration data {path}: it is not a regular file. Check the path.")
        if not zipfile.is_zipfile(path):  # numpy would try to read a pickle
            raise UsageError(f"cannot read the calibration data {path}: it is not a .npz file. {_ADVICE}")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"cannot read the calibration data {path}: {reason_of(error)}. Check the path.") from None
    except Exception as error:  # zipfile, zlib and numpy raise errors of many classes
        raise UsageError(f"cannot read the calibration data {path}: {first_line(error)}. {_ADVICE}") from None
    if not arrays:
        raise UsageError(f"the calibration data {path} have no arrays. {_ADVICE}")
    return {name: _checked(path, name, array) for name, array in arrays.items()}


def _checked(path: Path, name: str, array: Any) -> NDArray[Any]:
    what = f"the calibration data {path} have {shortened(name, 80)!r}"
    if not isinstance(array, np.ndarray):  # numpy returns members without its header as bytes
        raise UsageError(f"{what}, which is not an array. {_ADVICE}")
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise UsageError(f"{what} of type {array.dtype}. Save real numbers of at most 64 bits.")
    return array.astype(array.dtype.newbyteorder("="), copy=False)
