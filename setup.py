"""The native kernels, compiled where there is a compiler; everything else is said in pyproject.toml."""

import runpy
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

NATIVE = Path("runtime/native")
BUILDER = runpy.run_path(str(NATIVE / "build.py"))


class BuildNative(build_ext):
    """By runtime/native/build.py. Without a compiler there is a notice and no library; edgefc works without it."""

    missing = False

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")[:-1], BUILDER["NAME"]))

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name) if self.inplace else Path(self.build_lib, *self._place(ext)))
        try:
            BUILDER["build"](target)
        except BUILDER["NoLibrary"] as error:
            BuildNative.missing = True
            self.warn(f"edgefc is installed without its native kernels: {error}")

    def _place(self, ext: Extension) -> tuple[str, ...]:
        return Path(self.get_ext_filename(self.get_ext_fullname(ext.name))).parts


class Wheel(bdist_wheel):
    """For this kind of machine where it holds the library, for all where not; of any Python 3 either way."""

    def run(self) -> None:
        self.run_command("build_ext")
        self.root_is_pure = BuildNative.missing
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        platform: Any = super().get_tag()[2]
        return ("py3", "none", "any" if BuildNative.missing else platform)


setup(
    ext_modules=[Extension("edgefc.runtime.native.library", sorted(map(str, NATIVE.glob("*.cc"))), optional=True)],
    cmdclass={"build_ext": BuildNative, "bdist_wheel": Wheel},
)
