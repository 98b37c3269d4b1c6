"""The two programs that run a body in tests: the reference evaluator of onnx, and onnxruntime."""

import pytest

from edgefc.testing import run_onnxruntime, run_reference

EVALUATORS = [pytest.param(run_reference, marks=pytest.mark.slow), run_onnxruntime]
"""For parametrize(). The reference evaluator is slow, so the everyday tests use it only where a test names it."""

both = pytest.mark.parametrize("run", EVALUATORS)
