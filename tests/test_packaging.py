"""One distribution from four folders: what pyproject.toml lists is what there is, and what a wheel brings."""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support import onnx_models

tomllib = pytest.importorskip("tomllib", reason="of Python 3.11")

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"edgefc": "edgefc", "export": "edgefc.export", "runtime": "edgefc.runtime", "devices": "edgefc.devices"}
LINKS = ("export", "runtime", "devices")
NO_DATA = (".py", ".pyc", ".cc", ".h", ".so", ".dylib")  # the kernels are compiled, their sources stay behind
LIBRARY = "edgefc/runtime/native/libedgefc.so"
SKIPPED = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "__pycache__", "shared", "*.so", "*.dylib")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    result: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return result


def packages(root: Path) -> dict[str, Path]:
    """Every package by its installed name: the folders with an __init__.py, links not followed."""
    found = {}
    for top, name in FOLDERS.items():
        for folder, below, files in os.walk(root / top):
            below[:] = [each for each in below if not (Path(folder) / each).is_symlink()]
            if "__init__.py" in files:
                found[".".join((name, *Path(folder).relative_to(root / top).parts))] = Path(folder)
    return found


def data_files(root: Path) -> dict[str, set[str]]:
    """Files that are no code, by the package that they lie in; those of folders that are no package too."""
    found: dict[str, set[str]] = {}
    known = {folder: name for name, folder in packages(root).items()}
    for top in FOLDERS:
        for path in (root / top).rglob("*"):
            if path.is_file() and not path.is_symlink() and path.suffix not in NO_DATA:
                home = next(parent for parent in path.parents if parent in known)
                found.setdefault(known[home], set()).add(path.relative_to(home).as_posix())
    return found


def test_every_package_is_found() -> None:
    """One that is not works in the checkout and is silently absent from the wheel."""
    code = "import setuptools, json; setuptools.setup = lambda **given: print(json.dumps(given['packages']))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport runpy; runpy.run_path('setup.py')"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert sorted(json.loads(done.stdout)) == sorted(packages(ROOT))


def test_a_forgotten_package_is_seen(tmp_path: Path) -> None:
    """Meta-test."""
    (tmp_path / "export" / "passes").mkdir(parents=True)
    for place in ("export", "export/passes"):
        (tmp_path / place / "__init__.py").touch()

    assert sorted(packages(tmp_path)) == ["edgefc.export", "edgefc.export.passes"]


def test_the_map_leads_to_the_folders(project: dict[str, Any]) -> None:
    folders = project["tool"]["setuptools"]["package-dir"]

    assert folders == {name: top for top, name in FOLDERS.items()}
    assert all((ROOT / folder / "__init__.py").is_file() for folder in folders.values())


def test_every_data_file_is_listed(project: dict[str, Any]) -> None:
    """And nothing is listed that does not exist."""
    patterns, listed = project["tool"]["setuptools"]["package-data"], {}
    for name, folder in packages(ROOT).items():
        globs = patterns.get("*", []) + patterns.get(name, [])
        listed[name] = {path.relative_to(folder).as_posix() for each in globs for path in folder.glob(each)}

    assert {name: files for name, files in listed.items() if files} == data_files(ROOT)
    assert set(patterns) <= {"*", *listed}
    assert all(list(packages(ROOT)[name].glob(each)) for name in patterns if name != "*" for each in patterns[name])


@pytest.mark.skipif(os.name == "nt", reason="git on Windows writes links as text files")
@pytest.mark.parametrize("name", LINKS)
def test_links_for_tools_that_read_folders(name: str) -> None:
    link = ROOT / "edgefc" / name

    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"


def test_no_other_links() -> None:
    assert {path.name for path in (ROOT / "edgefc").iterdir() if path.is_symlink()} == set(LINKS)


def test_every_module_has_a_place_in_the_contract(project: dict[str, Any]) -> None:
    """import-linter fails on a module that has none; this says so without running it."""
    contracts = project["tool"]["importlinter"]["contracts"]
    (layered,) = [contract for contract in contracts if contract.get("containers") == ["edgefc"]]
    placed = {name.strip(" ()") for layer in layered["layers"] for name in re.split(r"[|:]", layer)}
    optional = {name for layer in layered["layers"] for name in re.findall(r"\((.*?)\)", layer)}
    modules = {
        path.stem for path in (ROOT / "edgefc").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }

    assert layered["exhaustive"] is True
    assert placed - optional <= modules - {"__init__"} <= placed


def test_constraints_name_what_is_required(project: dict[str, Any]) -> None:
    """Each requirement of pyproject.toml is pinned, to a version within its range."""
    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    extras = project["project"]["optional-dependencies"].values()
    wanted = [Requirement(text) for group in (project["project"]["dependencies"], *extras) for text in group]

    for requirement in wanted:
        if requirement.name != "edgefc":
            assert requirement.specifier.contains(pins[requirement.name]), requirement
    assert all(re.fullmatch(r"\d+(\.\d+)*", version) for version in pins.values())


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """The program, without this checkout on its path."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=environment, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist that is built from a copy of this checkout: a file that either forgets is missing."""
    place = tmp_path_factory.mktemp("build")
    shutil.copytree(ROOT, place / "copy", symlinks=True, ignore=SKIPPED)
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", place / "dist", cwd=place / "copy")
    (built,) = (place / "dist").glob("*.whl")
    built.with_suffix(".log").write_text(done.stdout + done.stderr)
    return built


@pytest.fixture(scope="module")
def board(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts folder of a fresh venv with the wheel and what it requires, as on a board."""
    place = tmp_path_factory.mktemp("board")
    venv.create(place / "venv", with_pip=True, symlinks=os.name != "nt")
    scripts = place / "venv" / ("Scripts" if os.name == "nt" else "bin")
    run(scripts / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=place)
    return scripts


@pytest.mark.slow
def test_the_wheel_holds_every_package_and_its_data(wheel: Path) -> None:
    wanted = {f"{name.replace('.', '/')}/__init__.py" for name in packages(ROOT)}
    wanted |= {f"{name.replace('.', '/')}/{file}" for name, files in data_files(ROOT).items() for file in files}
    wanted |= {
        f"{name.replace('.', '/')}/{path.name}"
        for name, folder in packages(ROOT).items()
        for path in folder.glob("*.py")
    }

    names = zipfile.ZipFile(wheel).namelist()

    assert wanted == {name for name in names if ".dist-info/" not in name} - {LIBRARY}
    assert {name.split("/")[0] for name in names} == {"edgefc", wheel.name.split("-py3")[0] + ".dist-info"}


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler")
def test_the_wheel_holds_the_native_kernels(wheel: Path) -> None:
    """And is then for one kind of machine, but for any Python 3."""
    assert LIBRARY in zipfile.ZipFile(wheel).namelist()
    assert re.search(r"-py3-none-(?!any)[^-]+\.whl$", wheel.name)


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler")
def test_the_build_shows_every_file_once(wheel: Path) -> None:
    """So nothing is compiled twice."""
    shown = re.findall(r"^\[ *(\d+)/(\d+)\] \S+\.cc, \d+\.\d s$", wheel.with_suffix(".log").read_text(), re.M)

    assert shown == [(str(count), str(len(shown))) for count in range(1, len(shown) + 1)] and len(shown) > 20


def wheel_without_library(folder: Path, **environment: str) -> tuple[Path, str]:
    """A wheel built in that environment, which must hold no library, and what the build said."""
    shutil.copytree(ROOT, folder / "copy", symlinks=True, ignore=SKIPPED)
    command = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist")

    done = subprocess.run(
        command, cwd=folder / "copy", env={**os.environ, **environment}, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    (built,) = (folder / "dist").glob("*.whl")
    assert built.name.endswith("-py3-none-any.whl") and LIBRARY not in zipfile.ZipFile(built).namelist()
    return built, done.stdout + done.stderr


@pytest.mark.slow
def test_without_a_compiler_the_wheel_is_for_all_machines(tmp_path: Path) -> None:
    """And the notice says so."""
    _, said = wheel_without_library(tmp_path, CXX="no-such-compiler")

    assert "installed without its native kernels: the compiler no-such-compiler" in said


@pytest.mark.slow
def test_an_install_without_kernels(tmp_path: Path) -> None:
    """Models run, and native="on" says how to get the kernels."""
    built, said = wheel_without_library(tmp_path, EDGEFC_NATIVE="0")
    site, model = tmp_path / "site", tmp_path / "m.onnx"
    onnx_models.matmul(model)
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, built)

    code = f"""
import sys
sys.path.insert(0, {str(site)!r})
import edgefc.runtime
from edgefc.errors import UsageError
assert edgefc.runtime.__file__.startswith({str(site)!r})
session = edgefc.runtime.Session({str(model)!r})
print(session.native_variant, session.inputs[0].name)
try:
    edgefc.runtime.Session({str(model)!r}, native="on")
except UsageError as error:
    print(error)
"""
    ran, refused = run(sys.executable, "-c", code, cwd=tmp_path).stdout.splitlines()

    assert said.count("edgefc is installed without its native kernels: EDGEFC_NATIVE is 0.") == 1
    assert ran.startswith("None ")
    assert refused == (
        "native is 'on', but edgefc was installed without native kernels. Install a C++ compiler and run pip "
        "install again without EDGEFC_NATIVE=0, or run python -m edgefc.runtime.native.build in a checkout."
    )


def test_an_editable_install_without_kernels_removes_those_of_an_earlier_one(tmp_path: Path) -> None:
    shutil.copytree(ROOT, tmp_path / "copy", symlinks=True, ignore=SKIPPED)
    library = tmp_path / "copy" / "runtime" / "native" / Path(LIBRARY).name
    library.touch()

    command = (sys.executable, "setup.py", "-q", "build_ext", "--inplace")
    subprocess.run(
        command, cwd=tmp_path / "copy", env={**os.environ, "EDGEFC_NATIVE": "0"}, capture_output=True, check=True
    )

    assert not library.exists()


@pytest.mark.parametrize("value", ["off", "2"])
def test_a_switch_without_a_meaning(value: str) -> None:
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"], cwd=ROOT, env={**os.environ, "EDGEFC_NATIVE": value},
        capture_output=True, text=True,
    )  # fmt: skip

    said = f"EDGEFC_NATIVE is {value!r}. Set it to 0 to install without the native kernels, or unset it."
    assert done.returncode == 1 and done.stderr.strip().endswith(said)


@pytest.mark.slow
def test_the_wheel_says_what_it_needs(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    text = archive.read(metadata).decode()

    assert {"measure", "onnx", "torch", "demo", "recipes", "all", "dev"} == set(
        re.findall(r"^Provides-Extra: (.*)$", text, re.M)
    )
    assert re.search(r"^Requires-Dist: torch.*; extra == \"torch\"$", text, re.M)
    required = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", text, re.M)
    assert sorted(required) == ["numpy", "onnxruntime"]
    assert re.search(r"^Requires-Dist: edgefc\[measure\]; extra == \"onnx\"$", text, re.M)
    assert re.search(r"^Requires-Dist: edgefc\[onnx\]; extra == \"torch\"$", text, re.M)
    assert str(ROOT) not in text


@pytest.mark.slow
def test_site_packages_gains_one_name(board: Path, wheel: Path) -> None:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(board / "python", "-c", code).stdout.strip())
    record = (site / f"{wheel.name.split('-py3')[0]}.dist-info" / "RECORD").read_text()

    tops = {line.split("/")[0] for line in record.splitlines() if not line.startswith("..")}
    assert tops == {"edgefc", wheel.name.split("-py3")[0] + ".dist-info"}
    assert not any((site / name).exists() for name in (*LINKS, "tests"))
    assert not any((site / "edgefc" / name).is_symlink() for name in LINKS)


def installed(scripts: Path) -> set[str]:
    found = json.loads(run(scripts / "python", "-m", "pip", "list", "--format=json").stdout)
    return {package["name"] for package in found}


@pytest.mark.slow
def test_a_base_install_and_then_measure(board: Path, wheel: Path, tmp_path: Path) -> None:
    """From a folder that is not the checkout: Session, --help, one sentence for profile, and profile with its extra."""
    onnx_models.matmul(tmp_path / "m.onnx")
    edgefc = board / "edgefc"

    where = run(board / "python", "-c", "import edgefc; print(edgefc.__file__)", cwd=tmp_path).stdout
    assert str(ROOT) not in where and "site-packages" in where
    code = "from edgefc.runtime import Session; print(Session('m.onnx').native_variant)"
    assert run(board / "python", "-c", code, cwd=tmp_path).stdout.strip() in ("None", "portable", "avx2", "avx512")
    assert "profile" in run(edgefc, "--help", cwd=tmp_path).stdout
    assert run(edgefc, "--version", cwd=tmp_path).stdout.startswith("edgefc ")
    assert "devices check" in run(edgefc, "schema", cwd=tmp_path).stdout
    arguments = ("profile", "m.onnx", "--time", "0.05", "--json", "record.json")
    for words, extra in ((arguments, "measure"), (("devices",), "measure"), (("inspect", "m.onnx"), "torch")):
        refused = subprocess.run([edgefc, *words], capture_output=True, text=True, cwd=tmp_path)
        assert refused.returncode == 2 and refused.stdout == ""
        assert refused.stderr.count("\n") == 1 and f"pip install 'edgefc[{extra}]'" in refused.stderr
    assert "onnxruntime" in installed(board)
    assert not {"pydantic", "tqdm", "tomli", "rich", "torch", "onnx", "onnx-ir", "onnxscript"} & installed(board)

    run(board / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", f"{wheel}[measure]")
    assert "m.onnx" in run(edgefc, *arguments, cwd=tmp_path).stdout
    assert json.loads((tmp_path / "record.json").read_text())["records"]
    assert "pi5" in run(edgefc, "devices", cwd=tmp_path).stdout
    assert not {"torch", "onnx", "onnx-ir", "onnxscript"} & installed(board)
