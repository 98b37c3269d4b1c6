"""Count the arithmetic and data of one run of a model, per step. The model is run once on this machine for that.

onnxruntime reports every executed node and its arrays after it has inlined functions, folded constants and fused nodes.
So the counts describe the graph that a device would run as well.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgefc import temporary
from edgefc.devices.estimating.layers import layers
from edgefc.devices.estimating.products import PRODUCTS, product
from edgefc.devices.estimating.touched import VIEWS, Array, read, size, written
from edgefc.errors import ModelError
from edgefc.modelfile.admission import admit
from edgefc.modelfile.weights import weight_files
from edgefc.runtime import graph
from edgefc.runtime.inputs import Ranges, Shapes, Wanted
from edgefc.runtime.probes import child
from edgefc.runtime.probes.contracts import Executed, WorkAnswer, WorkQuestion

Kind = Literal["product", "element", "function", "move", "view"]

_MOVES = {"Transpose", "Concat", "Slice", "Gather", "Split", "Expand", "Pad", "Tile", "Cast", "ScatterND", "GatherND",
          "ReorderInput", "ReorderOutput", "GatherElements", "Where", "ScatterElements", "Compress", "OneHot",
          "GatherBlockQuantized"}  # fmt: skip
_FUNCTIONS = {"Exp", "Log", "Erf", "Gelu", "FastGelu", "BiasGelu", "QuickGelu", "Tanh", "Sigmoid", "Softmax", "Sin",
              "Cos", "Sqrt", "Pow", "Softplus", "Elu", "Selu", "LayerNormalization", "Div", "Mod"}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One executed node. A product is `count` products of (rows, inner) by (inner, columns). Sizes are in bytes.

    activation_bytes    bytes read and written, without weights
    live_bytes          full size of inputs and outputs, without weights: memory in use during the step
    weight_bytes        bytes of weights read
    fresh_bytes         the part of weight_bytes that no earlier step read (a Loop reads the same weights repeatedly)
    held_bytes          full size of the weights that no earlier step uses: memory in use at all times
    """

    layer: str
    op: str
    kind: Kind
    count: int
    rows: int
    columns: int
    inner: int
    activation_bytes: int
    live_bytes: int
    weight_bytes: int
    fresh_bytes: int
    held_bytes: int

    @property
    def flop(self) -> int:
        return 2 * self.count * self.rows * self.columns * self.inner


@dataclass(frozen=True)
class Work:
    """One run at one batch size. file_bytes is the size of the .onnx file and its external data."""

    file: str
    file_bytes: int
    batch: int
    steps: tuple[Step, ...]

    @property
    def weight_bytes(self) -> int:
        """The weight bytes that a run reads, each counted once: the size that a cache needs."""
        return sum(step.fresh_bytes for step in self.steps)

    @property
    def held_bytes(self) -> int:
        """The bytes of all weights of the run in memory."""
        return sum(step.held_bytes for step in self.steps)

    @property
    def live_bytes(self) -> int:
        """The largest live_bytes of a step."""
        return max((step.live_bytes for step in self.steps), default=0)


def work_of(
    path: str | Path,
    batch: int | None = None,
    inputs: str | None = None,
    *,
    shapes: Shapes | None = None,
    ranges: Ranges | None = None,
) -> Work:
    """Run a model once in a child process and count its steps. The arguments are those of profile().

    Raises:
        UsageError: the file does not exist, or the inputs do not fit the model.
        ModelError: onnxruntime cannot load or run the model, or crashes.
    """
    file = Path(path)
    admit(file)
    wanted = Wanted(batch, inputs, shapes, ranges)
    with temporary.folder("edgefc-work-") as folder:  # of this process: the child may be killed
        return _work(file, child.ask(WorkQuestion(str(file), wanted, str(folder)), about=str(file)))


def _work(file: Path, answer: WorkAnswer) -> Work:
    """Counts the steps in the probe's answer."""
    try:
        model = graph.read(file)
    except ValueError as error:  # onnxruntime accepts some irregular messages that no exporter writes
        raise ModelError(f"cannot count the operations of {file}: {error}. Export it again.") from None
    seen = _Seen()
    named = zip(layers(answer.nodes, model), answer.nodes, strict=True)
    steps = tuple(_step(layer, node, seen) for layer, node in named)
    total = file.stat().st_size + sum(each.stat().st_size for each in weight_files(file))
    return Work(file.name, total, answer.batch, steps)


class _Seen:
    """The bytes of each weight that earlier steps have read and hold."""

    def __init__(self) -> None:
        self._read: dict[str, int] = {}
        self._held: set[str] = set()

    def fresh(self, key: str, touched: int, whole: int) -> int:
        before = self._read.get(key, 0)
        self._read[key] = min(before + touched, whole)
        return self._read[key] - before

    def held(self, key: str, whole: int) -> int:
        first = key not in self._held
        self._held.add(key)
        return whole if first else 0


def _step(layer: str, node: Executed, seen: _Seen) -> Step:
    op = node.op
    inputs: list[Array] = [(each.dtype, list(each.shape)) for each in node.inputs]
    outputs: list[Array] = [(each.dtype, list(each.shape)) for each in node.outputs]
    is_product = op in PRODUCTS and inputs and outputs
    count, rows, columns, inner = product(op, inputs, outputs) if is_product else (0, 0, 0, 0)
    moved = live = written(op, outputs)  # 0 for a view, whose output shares the memory of its input
    weights = fresh = held = 0
    for taken, array, touched in zip(node.inputs, inputs, read(op, inputs, outputs), strict=True):
        if taken.weight is None:
            moved, live = moved + touched, live + size(array)
            continue
        key = f"{taken.weight} packed for {node.name}" if taken.packed else taken.weight
        weights += touched
        fresh += seen.fresh(key, touched, size(array))
        held += seen.held(key, size(array))
    return Step(layer, op, _kind(op), count, rows, columns, inner, moved, live, weights, fresh, held)


def _kind(op: str) -> Kind:
    if op in PRODUCTS:
        return "product"
    if op in VIEWS:
        return "view"
    if op in _MOVES:
        return "move"
    return "function" if op in _FUNCTIONS else "element"
