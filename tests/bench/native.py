"""Native kernels against what else a layer can be: dense, int8 with dynamic activations, int4 weights; in one run.

    python tests/bench/native.py
    python tests/bench/native.py --n 4096 --batch 1,16 --distribution rademacher --time 3

int8 is quantize_dynamic, int4 MatMulNBits in blocks of 128 with accuracy level 4, both by onnxruntime.quantization.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from side_by_side import arguments, conditions, doubts, medians_us
from torch import nn
from tqdm import tqdm

import edgefc
from edgefc.export import export
from edgefc.files import write_text
from edgefc.generator import CODEBOOKS
from edgefc.runtime import profile
from edgefc.tables import print_table

DEFAULT = ["rademacher", "gaussian", "ternary"]


def main() -> None:
    parser = arguments(__doc__, n="1024,4096", batch="1,16,64")
    parser.add_argument("--distribution", choices=list(CODEBOOKS), nargs="+", default=DEFAULT)
    args = parser.parse_args()
    rows, records = [], []
    for n in tqdm(args.n, unit="width", disable=None):
        record = measure(n, args)
        records.append(record)
        for batch in args.batch:
            dense, *others = medians_us(record, batch)
            ratios = (f"{other:.1f} ({dense / other:.2f}x)" for other in others)
            rows.append([f"{n}", f"{batch}", f"{dense:.1f}", *ratios])
    print_table(("n", "batch", "dense us", "int8", "int4", *args.distribution, "circulant"), rows, left=0)
    print(conditions(records[0]))
    print(f"native kernels: {records[0].cells[0].native}")
    print(doubts(records))
    if args.json:
        write_text(args.json, "[" + ",\n".join(record.to_json() for record in records) + "]\n")


def measure(n, args):
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.onnx" for name in ("dense", "int8", "int4")]
        plain_matmul(n, paths[0])
        quantize_dynamic(paths[0], paths[1], weight_type=QuantType.QInt8)
        quantizer = MatMulNBitsQuantizer(onnx.load(paths[0]), block_size=128, is_symmetric=True, accuracy_level=4)
        quantizer.process()
        quantizer.model.save_model_to_file(str(paths[2]))
        layers = {name: edgefc.PRPLinear(n, n, distribution=name) for name in args.distribution}
        for name, layer in {**layers, "circulant": edgefc.CirculantLinear(n, n)}.items():
            paths.append(Path(folder) / f"{name}.onnx")
            export(layer, torch.randn(2, n), paths[-1], verify=False)
        return profile(
            paths, batch=args.batch, threads=args.threads, min_time_s=args.time, memory=False, launches=1, native="on"
        )


def plain_matmul(n: int, path: Path) -> None:
    """A dense layer as MatMul and Add: quantisers do not know Gemm."""
    linear = nn.Linear(n, n)
    weights = {"w": linear.weight.detach().T.contiguous().numpy(), "b": linear.bias.detach().numpy()}
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", n]) for name in ("x", "y")]
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], ["t"]), onnx.helper.make_node("Add", ["t", "b"], ["y"])]
    stored = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = onnx.helper.make_graph(nodes, "dense", ends[:1], ends[1:], stored)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path)


if __name__ == "__main__":
    sys.exit(main())
