"""Browser: the Runner that measures in a page. A new worker answers each question, as a new process does elsewhere.

The page can load, run and time a model (page/worker.js). Everything else happens in Python: the choice of inputs, and
the interpretation and validation of answers.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from edgefc.devices.browser import answers, facts, onnxruntime_web
from edgefc.devices.browser.feeds import Offered, feeds, offer_model, packed
from edgefc.devices.browser.opened import Opened
from edgefc.devices.browser.options import check_native, session_options
from edgefc.devices.browser.refusals import refusal
from edgefc.errors import DeviceError, UsageError
from edgefc.runtime.inputs import Wanted, check_named, drawn_error, fed
from edgefc.runtime.probes import child
from edgefc.runtime.probes.null_model import null_model
from edgefc.runtime.signature import Array, TensorInfo, check_feeds

NO_PEAK = "a browser reports no peak memory; the values that it reports are in the record's heap"
MOST_THREADS = 64
_PAGE_MEMORY_S = 20.0  # how long the page waits for the browser's memory measurement

Plain = dict[str, Any]


class Browser:
    """A Runner for one profile call. It owns the page from construction to close().

    browser = Browser(Opened(), "web")
    browser.run("model.onnx", {"x": x}, threads=2)["y"]
    """

    def __init__(self, opened: Opened, name: str) -> None:
        self.opened, self.name = opened, name
        self.asked = 0
        self._models: dict[str, Offered] = {}
        self._ports: dict[str, tuple[TensorInfo, ...]] = {}
        self._feeds: dict[tuple[str, str], Plain] = {}
        self._null = opened.server.offer(null_model())

    def environment(self) -> Plain:
        return facts.environment(self.opened.facts)

    def device(self) -> Plain:
        return facts.device(self.name, self.opened.facts, onnxruntime_web.runtime_bytes())

    def place(self, path: str) -> str:
        """Leave files where they are. The page downloads them when a question needs them."""
        return path

    def ask(self, probe: str, question: Plain, *, about: str, limit_s: float = child.LIMIT_S) -> Any:
        question = {"threads": 1, "preset": "latency", "native": "auto", **question}
        for model in question.get("models") or [question["model"]]:
            wanted = {"activation_dtype": "float32", **question, **model}
            check_native(wanted["native"], wanted["activation_dtype"], model["path"])
        if probe == "trial":
            return self._check(question, limit_s)
        if probe == "steady":
            return self._steady(question, about, limit_s)
        models = [self._fed(question["model"]["path"], question, limit_s)]
        if probe == "load":
            answer, took = self._put("load", question, models, about, limit_s)
            return answers.load_of(answer, took)
        if probe == "memory":
            answer, _ = self._put("memory", question, models, about, limit_s)
            return {"missing": NO_PEAK, "heap": answers.heap_of(answer)}
        raise DeviceError(f"a browser cannot run the probe {probe!r}. Choose another device.")

    def run(
        self, path: str, arrays: Mapping[str, Any], *, threads: int = 1, preset: str = "latency",
        limit_s: float = child.LIMIT_S,
    ) -> dict[str, Array]:  # fmt: skip
        """Run a model once with one array per input, and return all outputs by name.

        Raises:
            UsageError: the arrays do not fit the model.
            DeviceError: the browser cannot load or run the model.
        """
        question: Plain = {"threads": threads, "preset": preset}
        checked = check_feeds(arrays, self._signature(path, question, limit_s))
        return self.run_all([(path, checked)], threads=threads, preset=preset, limit_s=limit_s)[0]

    def run_all(
        self, models: Sequence[tuple[str, Mapping[str, Array]]], *, threads: int = 1, preset: str = "latency",
        limit_s: float = child.LIMIT_S,
    ) -> list[dict[str, Array]]:  # fmt: skip
        """Run each model once with its arrays, all in one worker. The arrays are not checked against the inputs."""
        asked = [{**self._offered(path).question, **self._packed(arrays, path)} for path, arrays in models]
        question, about = {"threads": threads, "preset": preset}, ", ".join(path for path, _ in models)
        answer, _ = self._put("run", question, asked, about, limit_s)
        return answers.outputs_of(answer, [path for path, _ in models])

    def show(self, columns: list[str], rows: list[list[str]], notes: list[str]) -> None:
        """Show a table on the page."""
        self.opened.ask({"verb": "show", "columns": columns, "rows": rows, "notes": notes}, about="", limit_s=60.0)

    def close(self) -> None:
        self.opened.close()

    def _check(self, question: Plain, limit_s: float) -> list[list[Plain]]:
        paths = [model["path"] for model in question["models"]]
        signatures = {path: self._signature(path, question, limit_s) for path in paths}
        check_named(Wanted.of(question), [port for ports in signatures.values() for port in ports])
        return [
            [self._tried(path, signatures[path], Wanted.of(question, batch)) for path in paths]
            for batch in question["batches"]
        ]

    def _tried(self, path: str, ports: Sequence[TensorInfo], wanted: Wanted) -> Plain:
        arrays, batch = feeds(ports, wanted, path)
        return {"batch": batch, "inputs": fed(arrays)}

    def _steady(self, question: Plain, about: str, limit_s: float) -> Plain:
        models = [self._fed(model["path"], question, limit_s) for model in question["models"]]
        plan = {name: question[name] for name in ("time_ns", "rounds", "samples")}
        answer, took = self._put("steady", {**question, "plan": plan}, models, about, limit_s)
        return answers.steady_of(answer, len(models), question["rounds"], took)

    def _put(self, verb: str, question: Plain, models: list[Plain], about: str, limit_s: float) -> tuple[Any, int]:
        """The page's answer, not validated, and the nanoseconds until it arrived."""
        threads = question["threads"]
        check_threads(threads, self.opened.facts)
        task = {
            "verb": verb, "models": models, "null_model": self._null, "threads": threads,
            "options": session_options(question["preset"], threads), "plan": question.get("plan"),
            "page_memory_s": _PAGE_MEMORY_S if threads == 1 else 0, "done": self.asked,
        }  # fmt: skip
        start = time.monotonic_ns()
        reply = self.opened.ask(task, about=about, limit_s=limit_s)
        self.asked += 1
        if "answer" not in reply:
            refused = refusal(about, str(reply.get("stage")), str(reply.get("error"))[:2000])
            drawn = reply.get("stage") == "run" and "batch" in question and question["inputs"] is None
            raise DeviceError(drawn_error(str(refused))) if drawn else refused
        if reply.get("workers") != threads - 1:
            raise DeviceError(f"the page did not run {about} with the requested {threads} threads. Reload the page.")
        return reply["answer"], time.monotonic_ns() - start

    def _offered(self, path: str) -> Offered:
        if path not in self._models:
            self._models[path] = offer_model(self.opened.server, path)
        return self._models[path]

    def _signature(self, path: str, question: Plain, limit_s: float) -> tuple[TensorInfo, ...]:
        if path not in self._ports:
            one = {**question, "threads": 1, "plan": None}
            answer, _ = self._put("ports", one, [self._offered(path).question], path, limit_s)
            self._ports[path] = tuple(fact.port() for fact in answers.read(answers.Ports, answer).inputs)
        return self._ports[path]

    def _fed(self, path: str, question: Plain, limit_s: float) -> Plain:
        """The files of the model and its feeds, for the page. The feeds are drawn and packed once."""
        wanted = Wanted.of(question)
        key = path, repr(wanted)
        if key not in self._feeds:
            ports = self._signature(path, question, limit_s)
            self._feeds[key] = self._packed(feeds(ports, wanted, path)[0], path)
        return {**self._offered(path).question, **self._feeds[key]}

    def _packed(self, arrays: Mapping[str, Array], path: str) -> Plain:
        index, content = packed(arrays, path)
        return {"index": index, "feeds": self.opened.server.offer(content)}


def check_threads(threads: int, facts: answers.Facts) -> None:
    """
    Raises:
        UsageError: the page cannot use that many threads.
    """
    if threads > 1 and not facts.isolated:
        raise UsageError(
            f"threads is {threads}, and this page has only one thread: browsers allow threads only for pages from "
            f"https or localhost. Leave --threads at 1, or forward the port to the device (adb reverse)."
        )
    if threads > MOST_THREADS:
        raise UsageError(f"threads is {threads}, and the limit of a page is {MOST_THREADS}. Give fewer.")


def headless(name: str) -> Browser:
    """Start a headless Chromium on this machine. It ends when the Browser is closed."""
    return Browser(Opened(), name)
