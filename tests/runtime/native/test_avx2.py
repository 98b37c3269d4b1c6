"""The competitors of edgefc bench and the native kernels on an emulated processor without AVX-512 and VNNI."""

from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgefc.bench import plan
from edgefc.bench.check import Check
from edgefc.bench.make import Made
from edgefc.export.verifying.measures import nmse
from edgefc.runtime import Model, native
from tests.support import avx2

N, ROWS = 256, 16
LAYERS = ["circulantlinear", "prp rademacher", "eugen order 1"]


class Kept(Check):
    """Keeps what it compares."""

    compared: list[tuple[Model, NDArray[Any], float]]

    def errors(self, model: Model, reference: NDArray[Any], bound: float) -> tuple[float, ...]:
        self.compared = [*getattr(self, "compared", []), (model, reference, bound)]
        return super().errors(model, reference, bound)


@pytest.mark.slow
def test_competitors_are_right_without_vnni(tmp_path: Path) -> None:
    """Signed weights of the full range are wrong there, which shows that the emulated processor has no VNNI."""
    avx2.qemu()
    check = Kept(N, (ROWS,), 1)
    made = Made(plan.Case(N, N, plan.COMPETITORS, tuple(plan.chosen(LAYERS)[1])), tmp_path, check)
    quantize_dynamic(tmp_path / "dense.onnx", tmp_path / "full.onnx", weight_type=QuantType.QInt8)
    models = {str(index): model for index, (model, _, _) in enumerate(check.compared)}

    found, variant = avx2.answers({**models, "full": Model(tmp_path / "full.onnx", native="off")}, check.x, tmp_path)

    assert variant == ("avx2" if native.library_path() else "None")
    assert len(check.compared) == len(made.competitors) >= len(plan.COMPETITORS) + 1 + len(LAYERS)
    for (model, reference, bound), outputs in zip(check.compared, found.values(), strict=False):
        for y in outputs:
            assert nmse(y, reference[: len(y)]) <= bound, model
    assert nmse(found["full"][1], check.compared[0][1]) > 1e-2
