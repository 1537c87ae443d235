"""A process of a site: asks it for pages with the test client, and prints what it got as JSON.

    python -m tests.django.worker ROUNDS SESSION

SESSION is the key of a session that all processes share.
"""

from __future__ import annotations

import json
import sys

import django


def main() -> None:
    django.setup()
    from django.conf import settings
    from django.core.cache import cache
    from django.test import Client

    client = Client()
    client.cookies[settings.SESSION_COOKIE_NAME] = sys.argv[2]
    print("ready", flush=True)
    sys.stdin.readline()
    counts = [int(client.get("/count/").content) for _ in range(int(sys.argv[1]))]
    pages = {client.get("/page/").content.decode() for _ in range(10)}
    thing = cache.get("book")
    print(
        json.dumps(
            {
                "counts": counts,
                "pages": sorted(pages),
                "visits": int(client.get("/visits/").content),
                "book": None if thing is None else thing.title,
            }
        )
    )


if __name__ == "__main__":
    main()
