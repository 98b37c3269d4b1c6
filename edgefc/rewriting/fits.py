"""Fits what replaces the weights of a decision, and puts it into a model.

fitted() reads the model and changes nothing. put() changes the model. The fit belongs to no model, so the same fit can
be put into several copies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgefc.errors import UsageError
from edgefc.fitting.error import output_error
from edgefc.fitting.fitted import Fitted
from edgefc.fitting.moments import Moments
from edgefc.fitting.solve import fit, fit_table
from edgefc.plan.configurations import Configuration, Int8
from edgefc.rewriting.constants import Array, Root, attribute, tensor_of
from edgefc.rewriting.deciding import STORED, Decision
from edgefc.rewriting.editing import Editor
from edgefc.rewriting.finding import TABLE, Place, is_direct
from edgefc.rewriting.moments import Statistics
from edgefc.rewriting.nodes import replace_product
from edgefc.rewriting.products import Product, product_of
from edgefc.rewriting.site import Stores
from edgefc.rewriting.storage import Stored, correct_bias, in_half, in_int8, store
from edgefc.rewriting.tables import replace_table


@dataclass(frozen=True, eq=False)
class New:
    """What replaces the weights of a decision.

    Attributes:
        fitted   the layer or table; None if the stored tensors get another form
        stored   the new forms of the stored tensors, in the order of tensors_of()
        error    as output_error in LayerChange
        samples  the number of vectors in the moments
    """

    error: float
    samples: int
    fitted: Fitted | None = None
    stored: tuple[Stored, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """What is known of a model before it is replaced.

    Attributes:
        statistics  of the inputs of layers
        fits        by the index of the first place of a decision, and the configuration
        functions   how the model was read: see read()
    """

    statistics: Statistics
    fits: Mapping[int, Mapping[Configuration, New]]
    functions: bool


def tensors_of(places: Sequence[Place]) -> list[Root]:
    """The stored tensors of all places, each once."""
    return list({id(root.value): root for place in places for root in place.roots}.values())


def fitted(decision: Decision, at: Sequence[int], statistics: Statistics, seed: int) -> New:
    """Fits what a decision asks for.

    Args:
        at: the index of each place of the decision among the places of find().

    Raises:
        UsageError: no fit serves the weight.
        ModelError: an operator between a stored tensor and its node has invalid inputs.
    """
    if decision.way == STORED:
        return _stored(decision, statistics.moments.get(at[0]) if takes_moments(decision) else None)
    if decision.places[0].kind == TABLE:
        return _table(decision, at, statistics, seed)
    weight = weight_of(products_of(decision.places))
    moments = _merged([statistics.moments[each] for each in at if each in statistics.moments])
    made = fit(decision.configuration, weight, np.zeros(len(weight)), moments, seed)
    covariance = None if moments is None else moments.covariance
    return New(output_error(weight, made.dense(), covariance), 0 if moments is None else moments.count, made)


def put(decision: Decision, new: New, edit: Editor, stores: Stores) -> None:
    """Replaces the nodes or the stored tensors of a decision.

    Raises:
        UsageError: an .onnx file has no form for the fit. The model is as it was.
    """
    if new.fitted is None:
        for root, each in zip(tensors_of(decision.places), new.stored, strict=True):
            store(root, each, edit)
            if each.correction is not None:
                correct_bias(decision.places[0], each.correction, edit)
    elif decision.places[0].kind == TABLE:
        for place in decision.places:
            replace_table(place, new.fitted, stores)
    else:
        for product in products_of(decision.places):
            replace_product(product, new.fitted, stores)


def products_of(places: Sequence[Place]) -> list[Product]:
    """The products that read the weight.

    Raises:
        UsageError: a Gemm adds something else than a constant vector.
    """
    return [product_of(place) for place in places]


def weight_of(products: Sequence[Product]) -> Array:
    """The weight (m, n) that all products have.

    Raises:
        UsageError: they scale it differently.
    """
    weight = products[0].weight()
    if any(not np.array_equal(weight, product.weight()) for product in products[1:]):
        raise UsageError("several nodes scale its weight differently")
    return weight


def takes_moments(decision: Decision) -> bool:
    """Whether the moments of the inputs make a difference."""
    if decision.way == STORED:
        return isinstance(decision.configuration, Int8) and is_plain_convolution(decision.places)
    return decision.way is not None


def is_plain_convolution(places: Sequence[Place]) -> bool:
    """Whether one Conv without groups reads the weight as it is."""
    place = places[0]
    plain = place.node.op_type == "Conv" and attribute(place.node, "group", 1) == 1 and is_direct(place)
    return len(places) == 1 and plain


def _stored(decision: Decision, moments: Moments | None) -> New:
    roots, configuration = tensors_of(decision.places), decision.configuration
    if isinstance(configuration, Int8):
        new = tuple(in_int8(root, decision.places, configuration.group, moments) for root in roots)
    else:
        new = tuple(in_half(root) for root in roots)
    return New(_error(roots, new, moments), 0 if moments is None else moments.count, stored=new)


def _table(decision: Decision, at: Sequence[int], statistics: Statistics, seed: int) -> New:
    table = decision.places[0].array().astype(np.float64)
    known = {id(statistics.counts[each]): statistics.counts[each] for each in at if each in statistics.counts}
    counts = sum((each.counts for each in known.values()), np.zeros(len(table), np.int64))
    made = fit_table(decision.configuration, table, counts if known else None, seed)
    return New(output_error(table.T, made.dense().T, None), int(counts.sum()), made)


def _error(roots: Sequence[Root], new: Sequence[Stored], moments: Moments | None) -> float:
    """As output_error in LayerChange, of weights in another form."""
    pairs = [
        (tensor_of(root.value).numpy().astype(np.float64), each.values().astype(np.float64))
        for root, each in zip(roots, new, strict=True)
    ]
    rows = [(old.reshape(len(old), -1), values.reshape(len(old), -1)) for old, values in pairs]
    if len(rows) == 1:
        return output_error(*rows[0], None if moments is None else moments.covariance)
    error = sum(float(np.square(old - values).sum()) for old, values in rows)
    power = sum(float(np.square(old).sum()) for old, _ in rows)
    return (error / power) ** 0.5 if power else 0.0


def _merged(found: Sequence[Moments]) -> Moments | None:
    """The moments of all products that share a weight. Those of the same input are one object."""
    distinct = list({id(each): each for each in found}.values())
    if not distinct:
        return None
    total = distinct[0]
    for each in distinct[1:]:
        total = total.merge(each)
    return total
