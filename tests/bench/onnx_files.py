"""python tests/bench/onnx_files.py magika|silero FOLDER: .onnx files that packages ship, rewritten by edgefc.rewriting.

FOLDER is where the wheel of magika or silero-vad was unpacked (pip download --no-deps, unzip). magika also needs click
and python-dotenv. silero needs espeak-ng; it speaks the sentences.

magika: file types of 100 files of this system that were not used for the fit, by the package with its own model and
with the rewritten one. A label changes where its score lies within the error of the package's threshold, so the number
of equal labels depends on the files of the machine.

silero: the probability of speech of every 32 ms of speech with noise and pauses, where each model runs on its own
state. Both models are timed.

Two x86-64 cores shared with other work, AVX-512, onnxruntime 1.31.1:

    magika   3,163,737 -> 887,424 bytes (.280)   same label on 1,989 of 2,000 files, scores within .019
    silero   2,327,524 -> 741,830 bytes (.319)   largest change of a probability .0115 at 16 kHz, .0165 at 8 kHz
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefc.plan import Int8
from edgefc.rewriting import FileReport, replace_file
from edgefc.runtime import Session

Array = NDArray[Any]

PLANS = {"magika": Int8(group=32), "silero": Int8(group=32)}
FOLDERS = ("/usr/share", "/usr/lib", "/usr/bin", "/usr/include", "/etc", sys.prefix)
SENTENCES = {
    "en-us": "The quick brown fox jumps over the lazy dog. She sells sea shells by the sea shore.",
    "en-gb": "Small devices run networks whose weights take few bytes. How much does each of them cost?",
    "de": "Eins, zwei, drei, vier, fuenf. Guten Morgen, wie spaet ist es heute?",
}
TEST_SENTENCES = {
    "en-us": "Please call Stella, and ask her to bring these things with her from the store.",
    "fr": "Bonjour tout le monde. Il fait beau aujourd'hui, allons nous promener.",
}
RATES = {16000: 512, 8000: 256}
"""Samples of a step by sampling rate."""


def files_of_this_system(count: int) -> list[Path]:
    """Files of many types: those with the most common endings in turn."""
    rng, by_ending = np.random.default_rng(0), dict[str, list[Path]]()
    for folder in FOLDERS:
        for root, _, names in os.walk(folder):
            for name in names:
                path = Path(root, name)
                if path.is_file() and not path.is_symlink() and 64 < path.stat().st_size < 5_000_000:
                    by_ending.setdefault(path.suffix.lower(), []).append(path)
    endings = sorted(by_ending, key=lambda ending: -len(by_ending[ending]))[:80]
    chosen: list[Path] = []
    while len(chosen) < count and any(by_ending.values()):
        for ending in endings:
            if by_ending[ending] and len(chosen) < count:
                chosen.append(by_ending[ending].pop(int(rng.integers(len(by_ending[ending])))))
    return chosen


@dataclass(frozen=True)
class Labels:
    """`same` of `tested` labels are equal. `kinds` labels occur. `change` is the largest change of a score."""

    tested: int
    same: int
    kinds: int
    change: float


def magika(folder: Path, target: Path, *, fitting: int = 250, tested: int = 100) -> tuple[FileReport, Labels]:
    sys.path.insert(0, str(folder))
    from magika import Magika  # type: ignore[import-not-found]

    model = next((folder / "magika" / "models").glob("standard*"))
    files = files_of_this_system(fitting + tested)
    own = Magika(model_dir=model)
    features = [own._get_result_or_features_from_path(path)[1] for path in files[:fitting]]
    data = [[*each.beg, *each.mid, *each.end] for each in features if each is not None]
    report = replace_file(
        model / "model.onnx", PLANS["magika"], target, calibration={"bytes": np.array(data, np.int32)}
    )
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(model, Path(place, "small"))
        shutil.copy(target, Path(place, "small", "model.onnx"))
        small = Magika(model_dir=Path(place, "small"))
        pairs = list(zip(own.identify_paths(files[fitting:]), small.identify_paths(files[fitting:]), strict=True))
    return report, Labels(
        len(pairs),
        sum(a.dl.label == b.dl.label and a.output.label == b.output.label for a, b in pairs),
        len({a.dl.label for a, _ in pairs}),
        max(abs(a.score - b.score) for a, b in pairs),
    )


def speech(sentences: dict[str, str], rate: int) -> Array:
    """Spoken sentences with pauses, and noise everywhere."""
    rng, parts = np.random.default_rng(0), list[Array]()
    with tempfile.TemporaryDirectory() as place:
        for voice, text in sentences.items():
            file = Path(place, "voice.wav")
            subprocess.run(["espeak-ng", "-v", voice, "-w", str(file), text], check=True)
            with wave.open(str(file)) as sound:
                samples = np.frombuffer(sound.readframes(sound.getnframes()), np.int16) / 32768
                at = np.arange(int(len(samples) * rate / sound.getframerate())) * sound.getframerate() / rate
            parts += [np.interp(at, np.arange(len(samples)), samples), 0.02 * rng.standard_normal(rate)]
    audio = np.concatenate(parts)
    return (audio + 0.003 * rng.standard_normal(len(audio))).astype(np.float32)


def probabilities(session: Session, audio: Array, rate: int, feeds: list[dict[str, Array]] | None = None) -> Array:
    """The output of each step. The feeds of all steps are added to `feeds`."""
    state, found = np.zeros((2, 1, 128), np.float32), list[float]()
    for frame in _frames(audio, RATES[rate]):
        feed = {"input": frame, "state": state, "sr": np.array(rate)}
        if feeds is not None:
            feeds.append(feed)
        result = session.run(feed)
        state = result["stateN"]
        found.append(float(result["output"].reshape(())))
    return np.array(found)


def _frames(audio: Array, size: int) -> Iterator[Array]:
    """Each step begins with the last eighth of the one before."""
    context = np.zeros(size // 8, np.float32)
    for start in range(0, len(audio) - size + 1, size):
        part = audio[start : start + size]
        yield np.concatenate([context, part])[None]
        context = part[-(size // 8) :]


def silero(folder: Path, target: Path) -> tuple[FileReport, dict[int, float], float]:
    """Returns the report, the largest change of a probability by sampling rate, and the fraction of speech."""
    source = folder / "silero_vad" / "data" / "silero_vad.onnx"
    own, feeds = Session(source), list[dict[str, Array]]()
    parts = {rate: list[dict[str, Array]]() for rate in RATES}
    for rate, part in parts.items():
        probabilities(own, speech(SENTENCES, rate), rate, part)
    for pair in zip(*parts.values(), strict=False):  # both rates in the fit and in the comparison
        feeds += pair
    report = replace_file(source, PLANS["silero"], target, calibration=feeds)
    small, changes, active = Session(target), dict[int, float](), list[float]()
    for rate in RATES:
        audio = speech(TEST_SENTENCES, rate)
        before, after = probabilities(own, audio, rate), probabilities(small, audio, rate)
        changes[rate] = float(np.abs(after - before).max())
        active.append(float((before > 0.5).mean()))
    return report, changes, min(active)


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    target = Path(tempfile.gettempdir(), f"{name}_small.onnx")
    started = time.perf_counter()
    if name == "magika":
        report, labels = magika(folder, target)
        print(labels)
    else:
        report, changes, active = silero(folder, target)
        print(f"largest change of a probability by rate {changes}; speech {active:.0%}")
    print(report.sentence())
    print(f"{report.file_after / report.file_before:.3f} of its bytes; {time.perf_counter() - started:.0f} s")
    print(*report.outputs, *report.steps, sep="\n")


if __name__ == "__main__":
    main()
