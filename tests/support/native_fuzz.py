"""Hostile nodes and callers through onnxruntime and the native library, in a process that may die.

    python -m tests.support.native_fuzz --library PATH [--seconds 20] [--seed 1] [--case 17]

Either one sentence says which layer cannot be run and with which values, or every variant of this processor gives the
answer of the portable body. --case runs one of the cases again; the file EDGEFC_FUZZ_LOG holds the one that is running.
"""

import argparse
import ctypes
import os
import random
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import AttributeProto, helper, numpy_helper

from edgefc.runtime.native import build
from tests.support import native_ops
from tests.support.native_ops import OPS

Array = NDArray[Any]
VARIANTS = ("portable", "avx2", "avx512", "neon")
SIZES = (1, 2, 3, 7, 8, 16, 17, 31, 33, 64, 65, 97, 130)
ROWS = (1, 0, 2, 3, 5, 8, 9, 17, 65)
INTEGERS = (
    0, -1, 1, 2, 3, 8, 9, 17, 255, 65536, 2**30, 2**31 - 1, 2**31, 2**32 + 8, 2**61, 2**62, 2**63 - 1, -(2**31),
    -(2**63),
)  # fmt: skip
ODD = (np.nan, np.inf, -np.inf, 1e18, 1e-40, -0.0)
ROOM = 2 << 30
"""Bytes of addresses beyond those in use before the first case: a size that a file declares must not be allocated."""
KERNELS = "".join(path.read_text() for path in build.HERE.glob("*/*_op.cc"))
NEVER = ("bad_alloc", "vector::", "length_error", "basic_string", "terminate")


class Case:
    """One node, what is fed to it, and what was changed."""

    def __init__(self, seed: int, number: int) -> None:
        self.random = random.Random(f"{seed} {number}")
        self.op = self.pick(list(OPS))
        n, m, kind = self.pick(SIZES), self.pick(SIZES), self.random.randrange(30)
        self.model = native_ops.model(self.op, n, m, kind, body=True)
        self.x = x = np.random.default_rng(number).standard_normal((self.pick(ROWS), n)).astype(np.float32)
        self.feeds: dict[str, Array] = {"x": x}
        self.int8 = OPS[self.op].int8 and self.pick((True, False, False))
        self.same_body = True  # no attribute is changed that only the body reads
        self.said = [
            f"case {number} of seed {seed}: {self.op} {n} -> {m}, kind {kind}{', int8' * self.int8}, x {x.shape}"
        ]
        for _ in range(self.pick((0, 1, 1, 1, 2, 3))):
            self.pick((self.attribute, self.attribute, self.weight, self.weight, self.caller, self.node_))()

    def pick(self, among: Any) -> Any:
        return self.random.choice(among)

    @property
    def node(self) -> Any:
        return self.model.graph.node[0]

    def attribute(self) -> None:
        found = self.pick(self.node.attribute)
        name, value = found.name, helper.get_attribute_value(found)
        self.node.attribute.remove(found)
        number = self.pick((*INTEGERS, self.random.getrandbits(64) - 2**63))
        changed = self.pick((None, 1.5, "text", [1.0], [1, 2], number, number, number))
        if found.type == AttributeProto.FLOATS:
            longer = list(value) + [1.0] * self.pick((1, 300))
            odd = [*value[1:], self.pick(ODD)]
            changed = self.pick((None, 7, value[:-1] or None, longer, odd, [float(v) + 1 for v in value]))
        if changed is not None:
            self.node.attribute.append(helper.make_attribute(name, changed))
        self.said.append(f"{name} = {str(changed)[:40]}")
        self.same_body &= f'"{name}"' in KERNELS

    def weight(self) -> None:
        if not self.model.graph.initializer:
            return
        stored = self.pick(self.model.graph.initializer)
        value = numpy_helper.to_array(stored).copy()
        what = self.pick(("shape", "number", "type", "fed", "fed otherwise"))
        if what == "number" and value.size:
            odd = self.pick(ODD) if value.dtype.kind == "f" else self.random.randrange(256)
            with np.errstate(over="ignore"):  # of float16
                value.flat[self.random.randrange(value.size)] = odd
        elif what in ("shape", "fed otherwise"):
            value = np.atleast_1d(value)  # an earlier change may have made a number of it
            value = self.pick((value.ravel(), value[None], value[:0], np.float32(2), np.concatenate([value, value])))
        elif what == "type":
            value = value.astype(self.pick((np.float64, np.float16, np.int32)))
        self.said.append(f"{stored.name}: {what}, {value.dtype} {np.shape(value)}")
        if what.startswith("fed"):
            self.model.graph.input.append(helper.make_tensor_value_info(stored.name, stored.data_type, None))
            self.feeds[stored.name] = value
            self.model.graph.initializer.remove(stored)
        else:
            stored.CopyFrom(numpy_helper.from_array(np.asarray(value), stored.name))

    def caller(self) -> None:
        """Another x, and a model that does not say beforehand what x is."""
        x = self.x
        self.model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None))
        self.model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None))
        odd = x.copy()
        if odd.size:
            odd.flat[self.random.randrange(odd.size)] = self.pick(ODD)
        wide = np.zeros((2 * len(x), x.shape[-1] + 3), np.float32)
        wide[::2, 1:-2] = x
        self.feeds["x"] = self.pick(
            (odd, odd, odd, x[..., None], x[None, None], np.float32(1), x[..., :-1], x.T, x[::-1], np.asfortranarray(x),
             wide[::2, 1:-2], x[:0], x.astype(np.float64), np.zeros((2, 0, 3, x.shape[-1]), np.float32))
        )  # fmt: skip
        self.said.append(f"x: {np.shape(self.feeds['x'])}")

    def node_(self) -> None:
        what = self.pick(("name", "one input less", "one input more", "an input without a name", "two outputs"))
        if what == "name":
            self.node.name = self.pick(("", "%s%n%1000d", "a" * 400, "\n", "a" + "é" * 150))
        elif what == "one input less":
            del self.node.input[-1]
        elif what == "one input more":
            self.node.input.append("x")
        elif what == "two outputs":
            self.node.output.append("z")
        else:
            self.node.input[-1] = ""
        self.said.append(what)


def answer(case: Case, library: str | None) -> Array | str:
    """What the node gives, or what is said instead; by its body where there is no library."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = case.random.choice((1, 1, 3))
    if library is not None:
        del model.functions[:]
        if case.int8:
            options.add_session_config_entry("edgefc.activations", "int8")
        options.register_custom_ops_library(library)
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        result: Array = session.run(None, case.feeds)[0]
    except Exception as error:
        return str(error) or type(error).__name__
    return result


def check_sentence(case: Case, text: str) -> None:
    assert not any(word in text for word in NEVER), text
    if own := re.search(r"(?: : |Status Message: )(edgefc.*)", text, re.DOTALL):  # else onnxruntime refused the file
        name = case.node.name.encode()
        shown = name[:200].decode(errors="ignore") + "..." if len(name) > 200 else case.node.name
        head = f"edgefc::{case.op}{' ' if name else ''}{shown}: "
        assert own[1].startswith(head) and own[1].endswith("."), text


def check_values(case: Case, name: str, y: Array, body: Array) -> None:
    """Rows of finite numbers as the body has them, the others where a dense layer sends them, or as it says."""
    op, nmse = OPS[case.op], 1e-3 if case.int8 else OPS[case.op].nmse
    assert y.shape == body.shape and y.dtype == np.float32, f"{name}: {y.shape}, and the body gives {body.shape}"
    if not y.size:
        return
    x, y, body = (np.float64(v).reshape(-1, v.shape[-1]) for v in (case.feeds["x"], y, body))
    finite = np.isfinite(x).all(1) & np.isfinite(body).all(1)
    error, size = np.square(y[finite] - body[finite]).sum(1), np.square(body[finite]).sum(1)
    numbers = [*case.feeds.values(), *map(numpy_helper.to_array, case.model.graph.initializer)]
    floats = [np.float64(v[np.isfinite(v)]) for v in numbers if v.dtype.kind == "f"]
    largest = max([1.0, *(float(np.abs(v).max(initial=0)) for v in floats)]) ** 2
    assert (error <= nmse * (size + body.shape[1] * largest)).all(), f"{name}: off by {error.max()} of {size}"
    if op.infinite == "body" and not case.int8:
        np.testing.assert_array_equal(np.isnan(y), np.isnan(body), f"{name}: NaN elsewhere")
    elif op.infinite and np.isfinite(body[finite]).all():
        assert np.isnan(y[np.isnan(x).any(1)]).all(), f"{name}: NaN does not reach every output of its row"


def run(case: Case, library: str, variants: list[str]) -> bool:
    """Whether there was an answer."""
    answers = {}
    for name in variants:
        os.environ["EDGEFC_NATIVE_CPU"] = name
        answers[name] = answer(case, library)
    first = answers[variants[0]]
    body = None if isinstance(first, str) else answer(case, None)
    for name, found in answers.items():
        if isinstance(found, str):
            check_sentence(case, found)
            assert isinstance(first, str), f"{name} refuses: {found}"
            continue
        assert not isinstance(first, str), f"{name} answers where {variants[0]} refuses: {first}"
        np.testing.assert_array_equal(np.isnan(found), np.isnan(first), f"{name}: NaN elsewhere")
        if not isinstance(body, str) and body is not None and case.same_body:
            check_values(case, name, found, body)
    if len(case.said) == 1:
        assert not isinstance(first, str), f"an ordinary node is refused: {first}"
        assert not (isinstance(body, str) and case.x.size), f"an ordinary node has no body: {body}"  # of no rows, some
    return not isinstance(first, str)


def runnable(library: str) -> list[str]:
    """The variants that this processor has, portable first."""
    which, found = ctypes.CDLL(library).EdgefcNativeCpu, []
    which.restype = ctypes.c_char_p
    for name in VARIANTS:
        os.environ["EDGEFC_NATIVE_CPU"] = name
        found += [name] if which() else []
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, kind, default in (("seconds", float, 20), ("seed", int, 1), ("case", int, None)):
        parser.add_argument(f"--{name}", type=kind, default=default)
    parser.add_argument("--library", required=True)
    given = parser.parse_args()
    variants = runnable(given.library)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    log = Path(os.environ.get("EDGEFC_FUZZ_LOG", os.devnull))
    end, number, answered = time.monotonic() + given.seconds, given.case or 0, 0
    while time.monotonic() < end:
        case = Case(given.seed, number)
        log.write_text("; ".join(case.said))
        try:
            answered += run(case, given.library, variants)
        except AssertionError as error:
            sys.exit(f"BROKEN: {'; '.join(case.said)}\n{error}")
        number += 1
        if given.case is not None:
            break
    what = f"{number} cases" if given.case is None else f"case {given.case}"
    print(f"{what} of seed {given.seed} on {', '.join(variants)}: {answered} answered")


if __name__ == "__main__":
    main()
