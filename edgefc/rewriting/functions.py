"""Adds edgefc:: nodes to a model, with their local functions."""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgefc.errors import UsageError
from edgefc.export.building.body import DOMAIN, DOMAIN_VERSION
from edgefc.export.operator import Operator
from edgefc.export.registry import operators
from edgefc.rewriting.reading import OPSETS, opset_of


class Functions:
    """The local functions of one model.

    Args:
        defined: False leaves the functions out, for a model that is not run.
    """

    def __init__(self, model: ir.Model, *, defined: bool = True) -> None:
        self._model, self._defined = model, defined
        lowest, highest = OPSETS
        self._opset = max(lowest, min(opset_of(model), highest))

    def use(self, op: str, attributes: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Makes sure that the model has the function of an operator.

        Returns:
            The domain of the operator, and the attributes of a node with those that the exporter adds.

        Raises:
            UsageError: there is no such operator.
        """
        if op not in operators():
            raise UsageError(f"there is no operator {op}")
        operator = operators()[op]
        if self._defined:
            self._define(operator)
        return DOMAIN, {**attributes, **operator.prepare(dict(attributes))}

    def _define(self, operator: Operator) -> None:
        function = operator.function(self._opset)
        key = function.identifier()
        if key not in self._model.functions:
            self._model.functions[key] = function
        self._model.graph.opset_imports[DOMAIN] = DOMAIN_VERSION
        for domain, version in function.opset_imports.items():
            self._model.graph.opset_imports.setdefault(domain, version)
