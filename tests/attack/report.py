"""The result of a run of cases, as text and as JSON."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tests.attack.harness import Result
from tests.attack.outcome import OK, SENTENCE

_SHOWN = 3  # cases that are listed per kind of fault


def shown(kind: str, seed: int, results: Sequence[Result]) -> str:
    """The counts, then the faults, grouped by similar text."""
    counts = Counter(each.outcome.status for each in results)
    faults = [each for each in results if each.outcome.is_fault]
    seconds = sum(each.seconds for each in results)
    lines = [
        f"{kind}, seed {seed}: {len(results)} cases, {counts[OK]} answered, {counts[SENTENCE]} with a sentence, "
        f"{len(faults)} faults; {seconds:.0f} s of cases"
    ]
    groups: dict[tuple[str, str], list[Result]] = {}
    for each in faults:
        groups.setdefault((each.outcome.status, _signature(each.outcome.text)), []).append(each)
    for (status, _), cases in sorted(groups.items(), key=lambda group: (group[0][0], -len(group[1]))):
        lines.append(f"  {len(cases)} x {status}: {_clean(_first(cases[0].outcome.text))[:500]}")
        for each in cases[:_SHOWN]:
            lines.append(f"      {_clean(each.name)[:160]}")
            lines.append(f"      python -m tests.attack {kind} --seed {seed} --case {each.number}")
    return "\n".join(lines)


def one(result: Result) -> str:
    """A case with its output. Control characters are escaped."""
    parts = [
        f"{result.number}: {result.name}",
        f"{result.outcome.status}: {result.outcome.text}",
        f"{result.seconds:.2f} s",
    ]
    parts += [f"-- {name}\n{text}" for name, text in (("stdout", result.out), ("stderr", result.err)) if text]
    return "\n".join(_clean(part, keep="\n") for part in parts)


def as_json(seed: int, results: Sequence[Result]) -> dict[str, Any]:
    counts = Counter(each.outcome.status for each in results)
    cases = [{k: v for k, v in asdict(each).items() if k not in ("out", "err")} for each in results]
    return {"seed": seed, "counts": dict(counts), "cases": cases}


def _signature(text: str) -> str:
    """A text without names, numbers and paths, for grouping."""
    last = text.partition("\n")[0] if "Traceback" in text else text
    return re.sub(r"'[^']*'|\"[^\"]*\"|\S*/\S*|\S*\.onnx\S*|[-\d.x]*\d[\w.]*", "_", last)[:90]


def _first(text: str) -> str:
    """A text without the traceback, which one() shows."""
    return text.partition("\nTraceback")[0]


def _clean(text: str, keep: str = "") -> str:
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)
