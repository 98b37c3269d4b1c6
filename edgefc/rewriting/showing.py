"""Prints a FileReport: a table of the weights, those that stay, and the change of the outputs."""

from edgefc.rewriting.report import FileReport, LayerChange
from edgefc.screen import out
from edgefc.tables import first_rows, print_table


def show(report: FileReport, *, every: bool = False) -> None:
    """Print the report.

    Args:
        every: print all rows of a long table.
    """
    columns = ["weight", "operator", "becomes", "numbers", "bytes", "then", "output error"]
    rows, more = first_rows([_row(layer) for layer in report.layers if layer.replaced], every)
    print_table(columns, rows, left=3)
    out(*([more] if more else []), "")
    stays, more = first_rows([[_stays(layer)] for layer in report.layers if not layer.replaced], every)
    out(*(row[0] for row in stays), *([more] if more else []))
    out(
        *(
            f"{layer.name}: fitted without calibration data, because {layer.note}."
            for layer in report.layers
            if layer.note
        )
    )
    for change in report.outputs:
        cosine = "" if change.worst_cosine is None else f", smallest cosine {change.worst_cosine:.5f}"
        differing = f", {change.differing:.2%} of the values differ" if change.differing else ""
        out(
            f"output {change.name} on {change.samples} held-out samples: normalised mean squared error "
            f"{change.nmse:.1e}, largest difference {change.largest_difference:.3g}{cosine}{differing}"
        )
    out(*report.notes)
    if report.lowest_onnxruntime:
        out(f"needs onnxruntime {report.lowest_onnxruntime} or later")
    out(report.sentence())


def _row(layer: LayerChange) -> list[str]:
    error = "-" if layer.output_error is None else f"{layer.output_error:.3g}"
    name = layer.name if len(layer.names) == 1 else f"{layer.name} and {len(layer.names) - 1} more"
    sizes = (layer.numbers, layer.bytes_before, layer.bytes_after)
    return [name, layer.op, layer.configuration, *(f"{size:,}" for size in sizes), error]


def _stays(layer: LayerChange) -> str:
    return f"stays: {layer.name}: {layer.reason}"
