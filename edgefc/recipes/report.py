"""Results as a table with notes, printed or as markdown."""

from statistics import mean

from edgefc.recipes.results import ArmPart, Results
from edgefc.screen import out
from edgefc.tables import markdown_table, print_table


def columns(results: Results) -> tuple[str, ...]:
    """The headings with units. Stored numbers are a column only if they differ from the parameters."""
    stored = ("numbers stored",) if _stores_more(results) else ()
    more = results.arms[0].runs[0].more
    better = f"{results.metric.heading}, {results.metric.better} is better (mean ± sd)"
    return ("arm", "parameters", *stored, "times fewer", better, *more, "CPU s per training")


def rows(results: Results) -> list[tuple[str, ...]]:
    """One row per arm."""
    most = results.arms[0].parameters
    return [
        (
            arm.name,
            f"{arm.parameters:,}",
            *((f"{arm.numbers_stored:,}",) if _stores_more(results) else ()),
            f"{most / arm.parameters:.3g}" if arm.parameters else "-",
            spread(results, arm),
            *(f"{mean(run.more[name] for run in arm.runs):.4g}" for name in results.arms[0].runs[0].more),
            f"{arm.seconds:.2g}" if arm.seconds < 10 else f"{arm.seconds:.0f}",
        )
        for arm in results.arms
    ]


def spread(results: Results, arm: ArmPart) -> str:
    """The mean and the sample standard deviation, as text."""
    text = results.metric.text
    return text(arm.mean) + ("" if arm.sd is None else f" ± {text(arm.sd)}")


def show(results: Results) -> None:
    """Print the table and its notes on stdout."""
    out(results.question, "")
    print_table(columns(results), rows(results))
    out("", *results.sentences)


def markdown(results: Results) -> str:
    """The question, the table and the notes."""
    notes = "\n".join(f"- {sentence}" for sentence in results.sentences)
    return f"{results.question}\n\n{markdown_table(columns(results), rows(results))}\n\n{notes}\n".replace("*", "\\*")


def _stores_more(results: Results) -> bool:
    return any(arm.numbers_stored != arm.parameters for arm in results.arms)
