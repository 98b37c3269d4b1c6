"""Compiles the native kernels if there is a compiler. All other settings are in pyproject.toml.

EDGEFC_NATIVE=0 installs edgefc without the kernels.
"""

import os
import runpy
from pathlib import Path
from typing import Any, ClassVar

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

NATIVE = Path("runtime/native")
BUILDER = runpy.run_path(str(NATIVE / "build.py"))
SOURCES = [os.path.relpath(path) for path in BUILDER["sources"]()]
SWITCH = "EDGEFC_NATIVE"


class BuildNative(build_ext):
    """Builds the library with runtime/native/build.py. Without a compiler, prints a notice and builds nothing."""

    library: Path | None = None
    targets: ClassVar[set[Path]] = set()

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")[:-1], BUILDER["NAME"]))

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.build_lib, *self._place(ext))
        if target in BuildNative.targets:  # bdist_wheel calls this a second time
            return
        BuildNative.targets.add(target)
        try:
            _check_switch()
            BuildNative.library = BUILDER["build"](target, tell=BUILDER["show"])
        except BUILDER["NoLibrary"] as error:
            target.unlink(missing_ok=True)  # from an earlier build
            self.warn(f"edgefc is installed without its native kernels: {error}")

    def copy_extensions_to_source(self) -> None:
        """For an editable install. Removes the library of an earlier install if none was built."""
        for ext in self.extensions if BuildNative.library is None else ():
            Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
        super().copy_extensions_to_source()

    def _place(self, ext: Extension) -> tuple[str, ...]:
        return Path(self.get_ext_filename(self.get_ext_fullname(ext.name))).parts


def _check_switch() -> None:
    """Checks EDGEFC_NATIVE.

    Raises:
        NoLibrary: it is 0.
        SystemExit: it has an invalid value.
    """
    value = os.environ.get(SWITCH) or "1"
    if value not in ("0", "1"):
        raise SystemExit(f"{SWITCH} is {value!r}. Set it to 0 to install without the native kernels, or unset it.")
    if value == "0":
        raise BUILDER["NoLibrary"](f"{SWITCH} is 0.")


class Wheel(bdist_wheel):
    """A wheel for any Python 3, and for this platform if it contains the library, otherwise for all platforms."""

    def run(self) -> None:
        self.run_command("build_ext")
        self.root_is_pure = BuildNative.library is None
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        platform: Any = super().get_tag()[2]
        return ("py3", "none", "any" if BuildNative.library is None else platform)


def packages() -> list[str]:
    """The installed name of every folder with an __init__.py. pyproject.toml maps the folders beside edgefc/."""
    beside = ("export", "runtime", "devices")
    inner = find_packages(".", include=("edgefc", "edgefc.*"), exclude=[f"edgefc.{name}*" for name in beside])
    return inner + [f"edgefc.{name}" for name in find_packages(".", include=[*beside, *(f"{n}.*" for n in beside)])]


setup(
    packages=packages(),
    ext_modules=[Extension("edgefc.runtime.native.library", SOURCES, optional=True)],
    cmdclass={"build_ext": BuildNative, "bdist_wheel": Wheel},
)
