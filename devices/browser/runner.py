"""Browser: the Runner that measures in a page. A new worker answers each question, as a new process does elsewhere.

The page can load, run and time a model (page/worker.js). Everything else happens in Python: the choice of inputs, and
the interpretation and validation of answers.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from edgefc.devices.browser import facts, onnxruntime_web
from edgefc.devices.browser.answers import Facts, PageInputs, page_answers
from edgefc.devices.browser.feeds import feeds, offer_model, packed
from edgefc.devices.browser.opened import Opened
from edgefc.devices.browser.options import check_native, session_options
from edgefc.devices.browser.refusals import refusal
from edgefc.errors import DeviceError, EdgefcError, UsageError
from edgefc.runtime.inputs import Wanted, check_named, run_error
from edgefc.runtime.options import SessionOptions
from edgefc.runtime.probes import child
from edgefc.runtime.probes.contracts import (
    LoadQuestion,
    MemoryQuestion,
    ModelToRun,
    Plan,
    Question,
    RunAnswer,
    RunQuestion,
    SteadyQuestion,
    Trial,
    TrialAnswer,
    TrialQuestion,
)
from edgefc.runtime.probes.null_model import null_model
from edgefc.runtime.probes.trial import array_infos
from edgefc.runtime.profiling.parts import Device, Environment
from edgefc.runtime.signature import Array, TensorInfo, check_feeds

MOST_THREADS = 64
_PAGE_MEMORY_S = 20.0  # how long the page waits for the browser's memory measurement

ONE_THREAD = SessionOptions()
_LONGEST = 2000  # characters of an error's text
_PAGE = page_answers()

A = TypeVar("A")
Plain = dict[str, Any]
_ToPage = LoadQuestion | MemoryQuestion | SteadyQuestion | RunQuestion


class Browser:
    """A Runner for one profile call. It owns the page from construction to close().

    browser = Browser(Opened(), "web")
    browser.run("model.onnx", {"x": x}, options=SessionOptions(threads=2))["y"]
    """

    def __init__(self, opened: Opened, name: str) -> None:
        self.opened, self.name = opened, name
        self.asked = 0
        self._models: dict[str, Plain] = {}
        self._infos: dict[str, tuple[TensorInfo, ...]] = {}
        self._feeds: dict[tuple[str, str], Plain] = {}
        self._null = opened.server.offer(null_model())

    def environment(self) -> Environment:
        return facts.environment(self.opened.facts)

    def device(self) -> Device:
        return facts.device(self.name, self.opened.facts, onnxruntime_web.runtime_bytes())

    def place(self, path: str) -> str:
        """Leave files where they are. The page downloads them when a question needs them."""
        return path

    def ask(self, question: Question[A], *, about: str, limit_s: float = child.LIMIT_S) -> A:
        answer: A = self._answer(question, about, limit_s)
        return answer

    def run(
        self, path: str, arrays: Mapping[str, Any], *, options: SessionOptions = ONE_THREAD,
        limit_s: float = child.LIMIT_S,
    ) -> dict[str, Array]:  # fmt: skip
        """Run a model once with one array per input, and return all outputs by name.

        Raises:
            UsageError: the arrays do not fit the model.
            DeviceError: the browser cannot load or run the model.
        """
        checked = check_feeds(arrays, self._signature(ModelToRun(path, options), limit_s))
        return self.run_all([(path, checked)], options=options, limit_s=limit_s)[0]

    def run_all(
        self, models: Sequence[tuple[str, Mapping[str, Array]]], *, options: SessionOptions = ONE_THREAD,
        limit_s: float = child.LIMIT_S,
    ) -> list[dict[str, Array]]:  # fmt: skip
        """The outputs of each model for its arrays, all in one worker, without checking their inputs first."""
        fed = [{**self._offered(path), **self._packed(arrays, path)} for path, arrays in models]
        given = Wanted(path="arrays in memory")  # so that no inputs are generated
        question = RunQuestion(tuple(ModelToRun(path, options) for path, _ in models), given)
        answer: RunAnswer = self._put(question, options, fed, ", ".join(path for path, _ in models), limit_s)
        return [{output.name: _PAGE.array(output) for output in ran.outputs} for ran in answer.models]

    def show(self, columns: list[str], rows: list[list[str]], notes: list[str]) -> None:
        """Show a table on the page."""
        self.opened.ask({"verb": "show", "columns": columns, "rows": rows, "notes": notes}, about="", limit_s=60.0)

    def close(self) -> None:
        self.opened.close()

    def _answer(self, question: Question[Any], about: str, limit_s: float) -> Any:
        if isinstance(question, (LoadQuestion, MemoryQuestion)):
            models: tuple[ModelToRun, ...] = (question.model,)
        elif isinstance(question, (TrialQuestion, SteadyQuestion)):
            models = question.models
        else:
            raise DeviceError(f"a browser does not answer {question.probe!r}. Use the same edgefc for both.")
        for model in models:
            check_native(model.options, model.path)
        if isinstance(question, TrialQuestion):
            return self._trial(question, limit_s)
        fed = [self._fed(model, question.wanted, limit_s) for model in models]
        return self._put(question, models[0].options, fed, about, limit_s)

    def _trial(self, question: TrialQuestion, limit_s: float) -> TrialAnswer:
        """The inputs of the models, which are not run here. Their first run is the next question."""
        signatures = {model.path: self._signature(model, limit_s) for model in question.models}
        check_named(question.wanted, [info for infos in signatures.values() for info in infos])
        return TrialAnswer(tuple(
            tuple(
                _trial(signatures[model.path], replace(question.wanted, batch=batch), model.path)
                for model in question.models
            )
            for batch in question.batches
        ))  # fmt: skip

    def _put(self, question: _ToPage, options: SessionOptions, models: list[Plain], about: str, limit_s: float) -> Any:
        """The page's answer. `models` are the files and feeds as they are sent to the page."""
        plan = question.plan if isinstance(question, SteadyQuestion) else None
        start = time.monotonic_ns()
        reply = self._reply(question.probe, options, models, about, limit_s, plan)
        if "answer" not in reply:
            raise _refusal(question, about, reply)
        checked: Question[Any] = question
        return _PAGE.answer(checked, reply["answer"], time.monotonic_ns() - start)

    def _reply(
        self,
        verb: str,
        options: SessionOptions,
        models: list[Plain],
        about: str,
        limit_s: float,
        plan: Plan | None = None,
    ) -> Plain:
        threads = options.threads
        check_threads(threads, self.opened.facts)
        task = {
            "verb": verb, "models": models, "null_model": self._null, "threads": threads,
            "options": session_options(options), "page_memory_s": _PAGE_MEMORY_S if threads == 1 else 0,
            "done": self.asked, "plan": plan,
        }  # fmt: skip
        reply = self.opened.ask(task, about=about, limit_s=limit_s)
        self.asked += 1
        if "answer" in reply and reply.get("workers") != threads - 1:
            raise DeviceError(f"the page did not run {about} with the requested {threads} threads. Reload it.")
        return reply

    def _offered(self, path: str) -> Plain:
        if path not in self._models:
            self._models[path] = offer_model(self.opened.server, path)
        return self._models[path]

    def _signature(self, model: ModelToRun, limit_s: float) -> tuple[TensorInfo, ...]:
        path = model.path
        if path not in self._infos:
            reply = self._reply("inputs", replace(model.options, threads=1), [self._offered(path)], path, limit_s)
            if "answer" not in reply:
                raise refusal(path, str(reply.get("stage")), str(reply.get("error"))[:_LONGEST])
            self._infos[path] = tuple(each.tensor_info() for each in _PAGE.read(PageInputs, reply["answer"]).inputs)
        return self._infos[path]

    def _fed(self, model: ModelToRun, wanted: Wanted, limit_s: float) -> Plain:
        """The model and its feeds as they are sent to the page. They are generated and packed once."""
        key = model.path, repr(wanted)
        if key not in self._feeds:
            infos = self._signature(model, limit_s)
            self._feeds[key] = self._packed(feeds(infos, wanted, model.path)[0], model.path)
        return {**self._offered(model.path), **self._feeds[key]}

    def _packed(self, arrays: Mapping[str, Array], path: str) -> Plain:
        index, content = packed(arrays, path)
        return {"index": index, "feeds": self.opened.server.offer(content)}


def _trial(infos: Sequence[TensorInfo], wanted: Wanted, path: str) -> Trial:
    arrays, batch = feeds(infos, wanted, path)
    return Trial(batch, array_infos(arrays))


def _refusal(question: _ToPage, about: str, reply: Plain) -> EdgefcError:
    """The error of the page. It names the model that failed, if the page reports which of several it was."""
    stage, failed = str(reply.get("stage")), reply.get("model")
    if isinstance(question, RunQuestion) and isinstance(failed, int) and 0 <= failed < len(question.models):
        about = question.models[failed].path
    refused = refusal(about, stage, str(reply.get("error"))[:_LONGEST])
    return run_error(refused, question.wanted) if stage == "run" else refused


def check_threads(threads: int, facts: Facts) -> None:
    """Raise UsageError if the page cannot use that many threads."""
    if threads > 1 and not facts.isolated:
        raise UsageError(
            f"threads is {threads}, and this page has only one thread: browsers allow threads only for pages from "
            f"https or localhost. Use --threads 1, or forward the port to the device (adb reverse)."
        )
    if threads > MOST_THREADS:
        raise UsageError(f"threads is {threads}, and the limit of a page is {MOST_THREADS}. Give fewer.")


def headless(name: str) -> Browser:
    """Start a headless Chromium on this machine. It ends when the Browser is closed."""
    return Browser(Opened(), name)
