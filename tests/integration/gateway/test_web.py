import base64
import json
from typing import Any

import httpx
import numpy as np
import pytest

from services.cli.load import DEMO, load_pictures, load_texts
from tests.stack import Stack, wait_until

PHOTO = (DEMO / "visitor.jpg").read_bytes()


@pytest.fixture(scope="module")
def web(stack: Stack) -> Any:
    load_pictures(stack.gateway, DEMO / "pictures")
    load_texts(stack.gateway, DEMO / "memes.jsonl")
    with httpx.Client(base_url=f"http://{stack.http_address}", timeout=60) as client:
        yield client


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_a_photo_finds_its_twin(web: httpx.Client, metric: str) -> None:
    headers = {"Content-Type": "image/jpeg"}
    reply = web.post(
        "/v1/twins", params={"metric": metric, "limit": 2}, content=PHOTO, headers=headers
    )
    assert reply.status_code == 200
    best, _ = reply.json()["twins"]
    assert best["title"] == "Cat With A Deadline"
    picture = web.get(f"/v1/twins/{best['id']}/picture")
    assert picture.headers["content-type"] == "image/png"
    assert picture.content == (DEMO / "pictures" / f"{best['title']}.png").read_bytes()


def test_a_form_and_a_text_find_twins(web: httpx.Client) -> None:
    form = web.post("/v1/twins", files={"image": PHOTO}, data={"metric": "l2", "limit": "1"})
    assert [twin["title"] for twin in form.json()["twins"]] == ["Cat With A Deadline"]
    text = web.post("/v1/twins", json={"text": "a magician", "limit": 1})
    assert [twin["title"] for twin in text.json()["twins"]] == ["Wizard Cone"]


def test_a_question_is_answered_and_then_cached(web: httpx.Client) -> None:
    question = {"collection": "memes", "question": "Who drew Nyan Cat?"}
    fresh = web.post("/v1/ask", json=question, headers={"Cache-Control": "no-cache"})
    assert fresh.headers["x-memetwin-cache"] == "miss"
    assert "Christopher Torres" in fresh.json()["answer"]

    def is_cached() -> bool:
        reply = web.post("/v1/ask", json=question)
        return str(reply.headers["x-memetwin-cache"]) == "hit-exact"

    wait_until(is_cached, 10)
    cached = web.post("/v1/ask", json=question)
    assert int(cached.headers["age"]) >= 0
    assert cached.json()["answer"] == fresh.json()["answer"]
    headers = {"Cache-Control": "no-cache, no-store"}
    passed = web.post("/v1/ask", json=question, headers=headers)
    assert passed.headers["x-memetwin-cache"] == "bypass"


def test_an_answer_comes_as_events(web: httpx.Client) -> None:
    question = {"collection": "memes", "question": "Who drew Nyan Cat?"}
    headers = {"Cache-Control": "no-cache", "Accept": "text/event-stream"}
    reply = web.post("/v1/ask", json=question, headers=headers)
    assert reply.headers["content-type"].startswith("text/event-stream")
    texts = reply.text.split("\n\n")[:-1]
    events = [dict(line.split(": ", 1) for line in text.split("\n")) for text in texts]
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[-1]) == ("retrieval", "final")
    answer = "".join(json.loads(one["data"]) for one in events if one["event"] == "delta")
    final = json.loads(events[-1]["data"])
    assert "Christopher Torres" in answer
    assert answer == final["answer"]
    cited = [json.loads(one["data"]) for one in events if one["event"] == "citation"]
    assert cited == final["citations"]
    bad = web.post("/v1/ask", json=question | {"collection": "none"}, headers=headers)
    assert (bad.status_code, bad.json()["error"]["reason"]) == (404, "COLLECTION_NOT_FOUND")


def test_the_page_and_its_parts_are_served_safely(web: httpx.Client) -> None:
    page = web.get("/")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for part in ("twin.js", "page.css", "icon.svg"):
        assert f"/pages/{part}" in page.text
        assert web.get(f"/pages/{part}").status_code == 200
    assert web.get("/pages/../application.py").status_code == 404


def test_the_layers_of_the_network_end_near_the_vector_of_a_photo(web: httpx.Client) -> None:
    vector = np.array(web.post("/v1/twins/vector", content=PHOTO).json()["vector"])
    view = web.post("/v1/twins/layers?channels=4", content=PHOTO).json()
    assert len(base64.b64decode(view["pixels"])) == 3 * view["side"] ** 2
    first, last = view["layers"][0], view["layers"][-1]
    assert (first["kind"], first["shape"], first["channels"]) == ("convolution", [32, 48, 48], 4)
    assert len(base64.b64decode(first["values"])) == 4 * 48 * 48
    assert len(base64.b64decode(first["weights"])) == 4 * 4 * 3 * first["kernel"] ** 2
    # The vector is the mean of the photo's and of the mirrored photo's.
    codes = np.frombuffer(base64.b64decode(last["values"]), np.int8)
    output = codes * last["scale"]
    assert output.shape == vector.shape
    assert output @ vector / np.linalg.norm(output) / np.linalg.norm(vector) > 0.9


def counts(web: httpx.Client) -> list[Any]:
    stats = web.get("/v1/cache/stats").json()
    return [stats[name] for name in ("exact", "semantic", "misses")]


def test_two_prompts_are_compared_and_nothing_is_stored(web: httpx.Client) -> None:
    prompts = {"one": "Flights from Paris to London", "other": "Flights from London to Paris"}
    before = counts(web)
    pair = web.post("/v1/cache/pairs", json=prompts).json()
    assert pair["similarity"] > 0.95
    assert (pair["contradicts"], pair["difference"], pair["is_hit"]) == (True, "order", False)
    assert counts(web) == before


def test_passages_are_retrieved_without_an_answer(web: httpx.Client) -> None:
    question = {"collection": "memes", "question": "a gorilla", "limit": 2}
    best, _ = web.post("/v1/retrieve", json=question).json()["passages"]
    assert best["document_id"] == "harambe"
    assert best["similarity"] > 0.4


def test_probes_and_metrics(web: httpx.Client) -> None:
    assert web.get("/healthz").json() == {"status": "alive"}
    assert web.get("/readyz").json() == {"status": "ready"}
    assert "memetwin_rpc_total" in web.get("/metrics").text


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "reason"),
    [
        ("/v1/twins", b"no picture", {}, 400, "NOT_A_PICTURE"),
        ("/v1/twins", b"", {}, 400, "EMPTY_PICTURE"),
        ("/v1/twins/vector", b"", {}, 400, "EMPTY_PICTURE"),
        ("/v1/twins/layers", b"no picture", {}, 400, "NOT_A_PICTURE"),
        ("/v1/twins/layers?channels=x", PHOTO, {}, 400, "BAD_CHANNELS"),
        ("/v1/twins/layers?channels=65", PHOTO, {}, 400, "BAD_CHANNELS"),
        ("/v1/cache/pairs", b'{"one": "x"}', {}, 400, "EMPTY_PROMPT"),
        ("/v1/cache/pairs", b'{"one": 1, "other": "x"}', {}, 400, "BAD_PROMPT"),
        ("/v1/retrieve", b'{"collection": "memes"}', {}, 400, "EMPTY_QUESTION"),
        ("/v1/twins?metric=x", PHOTO, {}, 400, "UNKNOWN_METRIC"),
        ("/v1/twins?limit=x", PHOTO, {}, 400, "BAD_LIMIT"),
        ("/v1/twins", b"x" * (21 * 2**20), {}, 413, "BODY_TOO_LARGE"),
        ("/v1/ask", b"{", {}, 400, "BAD_JSON"),
        ("/v1/ask", b"[]", {}, 400, "BAD_JSON"),
        (
            "/v1/ask",
            json.dumps({"collection": "memes", "question": "x", "model": "gpt"}).encode(),
            {},
            400,
            "NO_LANGUAGE_MODEL",
        ),
        ("/v1/ask", json.dumps({"no": 1}).encode(), {}, 400, "BAD_JSON"),
        ("/v1/ask", json.dumps({"collection": "memes"}).encode(), {}, 400, "EMPTY_QUESTION"),
        (
            "/v1/ask",
            json.dumps({"collection": "none", "question": "x"}).encode(),
            {},
            404,
            "COLLECTION_NOT_FOUND",
        ),
    ],
)
def test_bad_calls_get_a_reason(
    web: httpx.Client, path: str, body: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    reply = web.post(path, content=body, headers=headers)
    assert (reply.status_code, reply.json()["error"]["reason"]) == (status, reason)


def test_a_twin_that_is_not_there(web: httpx.Client) -> None:
    reply = web.get("/v1/twins/none/picture")
    assert (reply.status_code, reply.json()["error"]["reason"]) == (404, "TWIN_NOT_FOUND")
