#!/usr/bin/env python
"""Send images to docs/scripts/server.py from several clients at once, and print requests a second and latencies."""

import argparse
import http.client
import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", help="a folder of images")
    parser.add_argument("--host", default="127.0.0.1:8000")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--requests", type=int, default=200, help="by all clients together")
    args = parser.parse_args(argv)
    bodies = [path.read_bytes() for path in sorted(Path(args.images).iterdir())[:200]]
    failed = False
    for clients in args.clients:
        shares = [list(islice(cycle(bodies), i, args.requests, clients)) for i in range(clients)]
        start = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            found = [one for of in pool.map(lambda s: send(args.host, s), shares) for one in of]
        seconds = time.perf_counter() - start
        times = sorted(1000 * elapsed for _, elapsed in found)
        status = Counter(status for status, _ in found)
        failed |= set(status) != {200}
        print(
            f"{clients:3} clients: {len(found) / seconds:6.1f} requests a second, median "
            f"{statistics.median(times):.0f} ms, 99 % {times[int(0.99 * (len(times) - 1))]:.0f} ms, "
            f"status {dict(status)}"
        )
    return int(failed)


def send(host: str, bodies: list[bytes]) -> list[tuple[int, float]]:
    """The status and the seconds of each request of one client, over one connection."""
    connection, found = http.client.HTTPConnection(host), []
    for body in bodies:
        start = time.perf_counter()
        connection.request("POST", "/predict", body)
        response = connection.getresponse()
        response.read()
        found.append((response.status, time.perf_counter() - start))
    connection.close()
    return found


if __name__ == "__main__":
    raise SystemExit(main())
