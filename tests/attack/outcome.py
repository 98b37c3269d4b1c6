"""The outcome of a case: an answer, one clear sentence, or a fault.

ok         an answer; the right one, if the case knows it
sentence   an EdgefcError, or a command that ended with a documented exit code and one clear sentence
a fault    anything else; FAULTS lists the kinds
"""

import re
from dataclasses import dataclass

OK, SENTENCE = "ok", "sentence"
FAULTS = {
    "crash": "the process was killed by a signal, or ended without a message",
    "hang": "it was still running at its time limit",
    "traceback": "a traceback on stderr",
    "exception": "the API raised an exception that is not an EdgefcError",
    "exit code": "an exit code that edgefc/cli.py does not document, or that does not fit the case",
    "lost message": "the reason is missing",
    "raw text": "text of a library's internals: C++ paths, status codes, type names",
    "control characters": "control characters on a terminal",
    "no sentence": "no text, several lines, no full stop, or much too long",
    "guessed cause": "a cause that was not measured",
    "noise": "lines on stderr that are neither a note nor the sentence",
    "wrong value": "a wrong answer",
    "left behind": "files left in the temporary folder or beside the output",
    "lost measurement": "results that were complete and are not shown",
    "torn": "an output that is neither the old nor the new one",
    "child left": "a process that outlived the command",
    "harness": "the attack itself failed",
}
EXIT_CODES = (0, 1, 2, 3, 130)
LONGEST = 1500  # characters of a sentence

_NEVER = {
    "traceback": r"Traceback \(most recent call last\)",
    "lost message": r"gave no reason|ended without an answer",
    "guessed cause": r"[Mm]emory (probably|may have) r[au]n out",
    "raw text": r"\w\.(cc|cpp|cxx|h|hpp):\d+|\[ONNXRuntimeError\]|\bstd::|bad_alloc|onnxruntime::|/onnxruntime/|"
    r"vector::|basic_string|length_error|This is a fault of edgefc|\berrno\b",
}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_NOTE = re.compile(r"edgefc(?: \w+)?: |usage: |  +\S|.*\.(safetensors|pt): ")  # usage continues in indented lines


@dataclass(frozen=True)
class Outcome:
    status: str
    text: str = ""

    @property
    def is_fault(self) -> bool:
        return self.status in FAULTS


class Fault(Exception):
    """Raised by a case that detects a fault."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.outcome = Outcome(kind, text)


def of_text(text: str) -> Outcome:
    """The outcome for the message of an EdgefcError. The API may quote control characters; commands escape them."""
    for kind, pattern in _NEVER.items():
        if re.search(pattern, text):
            return Outcome(kind, text)
    if not text.strip() or len(text) > LONGEST or text.rstrip()[-1] not in ".?!'\")":
        return Outcome("no sentence", text)
    return Outcome(SENTENCE, text)


def of_command(code: int, out: str, err: str, allowed: tuple[int, ...] = EXIT_CODES) -> Outcome:
    """The outcome of a command for its exit code and output. `out` and `err` have escapes for undecodable bytes."""
    lines = [line for line in err.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    for kind, pattern in _NEVER.items():
        if re.search(pattern, err) or (kind == "traceback" and re.search(pattern, out)):
            return Outcome(kind, f"exit code {code}: {err[-LONGEST:]}")
    if code not in allowed:
        return Outcome("exit code", f"{code}: {last}")
    if match := _CONTROL.search(out + err):
        return Outcome("control characters", f"{match[0]!r} in {(out + err)[max(0, match.start() - 60) :][:200]!r}")
    if noise := [line for line in lines if not _NOTE.match(line)]:
        return Outcome("no sentence" if code else "noise", "\n".join(noise))
    if code == 0:
        return Outcome(OK)
    if re.match(r"edgefc[ \w]*: error: ", last):  # errors of argparse have no full stop
        return Outcome(SENTENCE, last)
    return of_text(last) if last.startswith(("edgefc ", "edgefc: ")) else Outcome("no sentence", err)
