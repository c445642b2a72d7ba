"""The twin page in Chromium: from a photo to its twin, and a map of 10,000 twins while it moves."""

import contextlib
import json
import os
import random
import statistics
from typing import Any

from services.cli.load import DEMO, load_pictures
from tests.bench.own_redis import redis_url
from tests.browser import opened
from tests.stack import Stack, wait_until_ready

TWINS, PHOTOS = 10_000, 20
_FIND = """async (bytes) => {
    const file = new File([new Uint8Array(bytes)], "photo.jpg", { type: "image/jpeg" });
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(file);
    const twin = document.querySelector("#twin");
    const shown = new Promise((done) => twin.addEventListener("load", done, { once: true }));
    const began = performance.now();
    dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
    await shown;
    return performance.now() - began;
}"""
_PAN = """async () => {
    const canvas = document.querySelector("#map");
    canvas.scrollIntoView();
    let longest = 0;
    new PerformanceObserver((list) => {
        for (const task of list.getEntries()) longest = Math.max(longest, task.duration);
    }).observe({ entryTypes: ["longtask"] });
    const next = () => new Promise(requestAnimationFrame);
    const send = (kind, x) => canvas.dispatchEvent(new PointerEvent(kind, {
        pointerId: 1, clientX: 400 + x, clientY: canvas.getBoundingClientRect().y + 150,
        bubbles: true,
    }));
    canvas.setPointerCapture = () => {};
    for (let step = 0; step < 20; step++) await next();
    send("pointerdown", 0);
    const frames = [];
    let last = await next();
    for (let step = 0; step < 300; step++) {
        send("pointermove", 200 * Math.sin(step / 20));
        const now = await next();
        frames.push(now - last);
        last = now;
    }
    send("pointerup", 0);
    return { frames, longest };
}"""


def points() -> str:
    """Return the reply with a map of many twins."""
    rng = random.Random(7)
    twins = [
        {"id": str(n), "title": str(n), "x": rng.uniform(-1, 1), "y": rng.uniform(-1, 1)}
        for n in range(TWINS)
    ]
    return json.dumps({"twins": twins, "typical_similarity": 0.0})


def measure(page: Any) -> None:
    """Print both tables."""
    photo = list((DEMO / "visitor.jpg").read_bytes())
    page.evaluate(_FIND, photo)
    times = sorted(page.evaluate(_FIND, photo) for _ in range(PHOTOS))
    print("| from a photo to its twin, ms | p50 | worst |")
    print("|---|---|---|")
    print(f"| {PHOTOS} photos, one browser | {statistics.median(times):.0f} | {times[-1]:.0f} |\n")
    page.route("**/v1/twins/map", lambda route: route.fulfill(body=points()))
    page.reload(wait_until="networkidle")
    found = page.evaluate(_PAN)
    frames = sorted(found["frames"])
    print("| map while it moves, ms | median frame | p95 | longest task over 50 ms |")
    print("|---|---|---|---|")
    p95 = frames[len(frames) * 95 // 100]
    longest = f"{found['longest']:.0f}" if found["longest"] else "none"
    print(f"| {TWINS:,} twins | {statistics.median(frames):.1f} | {p95:.1f} | {longest} |")


def main() -> None:
    """Run a stack and a browser on this machine."""
    with redis_url(os.environ.get("MEMETWIN_TEST_REDIS_URL")) as url, contextlib.ExitStack() as end:
        stack = Stack(url, "bench-page:")
        end.callback(stack.close)
        wait_until_ready(stack)
        load_pictures(stack.gateway, DEMO / "pictures")
        measure(end.enter_context(opened(f"http://{stack.http_address}/")))


if __name__ == "__main__":
    main()
