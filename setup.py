"""The native kernels, compiled where there is a compiler; everything else is in pyproject.toml.

EDGEFC_NATIVE=0 installs without them.
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
    """By runtime/native/build.py. Without a compiler there is a notice and no library; edgefc works without it."""

    library: Path | None = None
    tried: ClassVar[set[Path]] = set()

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")[:-1], BUILDER["NAME"]))

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.build_lib, *self._place(ext))
        if target in BuildNative.tried:  # bdist_wheel asks a second time
            return
        BuildNative.tried.add(target)
        try:
            _check_switch()
            BuildNative.library = BUILDER["build"](target, tell=BUILDER["show"])
        except BUILDER["NoLibrary"] as error:
            target.unlink(missing_ok=True)  # one of an earlier build
            self.warn(f"edgefc is installed without its native kernels: {error}")

    def copy_extensions_to_source(self) -> None:
        """Of an editable install, which must not keep the library of an earlier one either."""
        for ext in self.extensions if BuildNative.library is None else ():
            Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
        super().copy_extensions_to_source()

    def _place(self, ext: Extension) -> tuple[str, ...]:
        return Path(self.get_ext_filename(self.get_ext_fullname(ext.name))).parts


def _check_switch() -> None:
    """
    Raises:
        NoLibrary: the kernels are not wanted.
        SystemExit: the switch has a value without a meaning.
    """
    value = os.environ.get(SWITCH) or "1"
    if value not in ("0", "1"):
        raise SystemExit(
            f"{SWITCH} is {value!r}. Set it to 0 to install without the native kernels, or leave it unset."
        )
    if value == "0":
        raise BUILDER["NoLibrary"](f"{SWITCH} is 0.")


class Wheel(bdist_wheel):
    """For this kind of machine where it holds the library, for all where not; of any Python 3 either way."""

    def run(self) -> None:
        self.run_command("build_ext")
        self.root_is_pure = BuildNative.library is None
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        platform: Any = super().get_tag()[2]
        return ("py3", "none", "any" if BuildNative.library is None else platform)


def packages() -> list[str]:
    """Every folder with an __init__.py, by its installed name. pyproject.toml maps the folders beside edgefc/."""
    beside = ("export", "runtime", "devices")
    found = find_packages(".", include=("edgefc", "edgefc.*"), exclude=[f"edgefc.{name}*" for name in beside])
    return found + [f"edgefc.{name}" for name in find_packages(".", include=[*beside, *(f"{n}.*" for n in beside)])]


setup(
    packages=packages(),
    ext_modules=[Extension("edgefc.runtime.native.library", SOURCES, optional=True)],
    cmdclass={"build_ext": BuildNative, "bdist_wheel": Wheel},
)
