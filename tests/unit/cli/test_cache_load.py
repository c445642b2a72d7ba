import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from services.cli import cache_load
from services.cli.__main__ import main
from tests.unit.cli.test_ingestion import RpcError


class FakeService:
    """Answers each entry with a receipt; each call fails after some messages, as planned."""

    def __init__(self, *plan: tuple[int, grpc.StatusCode]) -> None:
        self._plan = iter(plan)
        self.calls: list[list[str]] = []
        self.scope = cache_pb2.Scope()
        self.entries: dict[str, cache_pb2.CuratedEntry] = {}

    def LoadEntries(  # noqa: N802
        self, requests: Iterable[cache_pb2.LoadEntriesRequest], **options: Any
    ) -> Iterator[cache_pb2.LoadEntriesResponse]:
        stop, code = next(self._plan, (-1, grpc.StatusCode.OK))
        prompts: list[str] = []
        self.calls.append(prompts)
        for number, request in enumerate(requests):
            prompts += [entry.prompt for entry in request.entries]
            if number == stop:
                raise RpcError(code)
            self.scope = request.scope
            yield cache_pb2.LoadEntriesResponse(receipts=map(self._receipt, request.entries))

    def _receipt(self, entry: cache_pb2.CuratedEntry) -> cache_pb2.LoadReceipt:
        if "bad" in entry.prompt:
            return cache_pb2.LoadReceipt(
                status=cache_pb2.LOAD_STATUS_REFUSED, reason="BAD", message="It is bad."
            )
        self.entries[entry.prompt] = entry
        return cache_pb2.LoadReceipt(status=cache_pb2.LOAD_STATUS_CREATED)


class Load:
    """Runs the command over a fake service."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch, self._folder = monkeypatch, folder
        monkeypatch.setattr(cache_load, "RETRY_DELAY", 0)
        monkeypatch.setattr(cache_load, "BATCH_SIZE", 2)

    def __call__(self, service: FakeService, *lines: str, options: tuple[str, ...] = ()) -> Result:
        self._monkeypatch.setattr(cache_pb2_grpc, "CacheServiceStub", lambda channel: service)
        file = self._folder / "faq.jsonl"
        file.write_text("\n".join(lines))
        return CliRunner().invoke(main, ["cache", "load", str(file), *options])


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    return Load(monkeypatch, tmp_path)


def line(prompt: str, **fields: Any) -> str:
    return json.dumps({"prompt": prompt, "response": "Yes."} | fields)


def test_entries_are_sent_with_their_scope_and_the_defaults(load: Load) -> None:
    service = FakeService()
    options = ("--namespace", "faq", "--user", "u", "--tenant", "t", "--model", "m", "--ttl", "5")
    done = load(service, line("a"), line("b", model="n", ttl=9), line("c"), options=options)
    assert done.exit_code == 0, done.output
    assert "entries: 3 created, 0 replaced, 0 unchanged, 0 refused in" in done.output
    assert service.scope == cache_pb2.Scope(tenant="t", user="u", namespace="faq")
    assert [(one.model, one.ttl) for one in service.entries.values()] == [
        ("m", 5),
        ("n", 9),
        ("m", 5),
    ]


def test_refused_lines_are_named_in_the_order_of_the_file(load: Load) -> None:
    done = load(FakeService(), line("a"), "{", line("bad"), "", line("c"), "[]")
    assert done.exit_code == 1
    assert "2 created, 0 replaced, 0 unchanged, 3 refused" in done.output
    problems = [part for part in done.output.splitlines() if "refused: line" in part]
    assert [part.split(":")[1].strip() for part in problems] == ["line 2", "line 3", "line 6"]
    assert "line 3: It is bad. (BAD)" in done.output


def test_only_the_first_problems_are_shown(load: Load) -> None:
    done = load(FakeService(), *["{"] * 13)
    assert "13 refused" in done.output
    assert done.output.count("refused: line") == cache_load.SHOWN_PROBLEMS
    assert "and 3 more" in done.output


def test_a_broken_stream_resumes_with_the_first_entry_that_is_not_confirmed(load: Load) -> None:
    unavailable = grpc.StatusCode.UNAVAILABLE
    service = FakeService((1, unavailable), (0, unavailable))
    done = load(service, *map(line, "abcdefg"))
    assert done.exit_code == 0, done.output
    assert "7 created" in done.output
    assert list(service.entries) == list("abcdefg")
    assert service.calls == [list("abcd"), list("cd"), list("cdefg")]


def test_other_errors_end_the_load_after_its_summary(load: Load) -> None:
    done = load(FakeService((1, grpc.StatusCode.PERMISSION_DENIED)), *map(line, "abcd"))
    assert isinstance(done.exception, RpcError)
    assert "2 created" in done.output
    gone = load(FakeService(*[(0, grpc.StatusCode.UNAVAILABLE)] * 7), line("a"))
    assert isinstance(gone.exception, RpcError)


def test_a_file_that_cannot_be_read_ends_the_load_after_its_summary(
    load: Load, tmp_path: Path
) -> None:
    service = FakeService()
    file = tmp_path / "faq.csv"
    file.write_text('question,answer\na,Yes.\nb,Yes.\nc,"Yes.\n')
    load(service)
    done = CliRunner().invoke(main, ["cache", "load", str(file)])
    assert done.exit_code == 1
    assert "2 created" in done.output
    assert "Line 4 is not valid CSV" in done.output
