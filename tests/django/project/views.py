"""What the site shows."""

import itertools
import os

from django.core.cache import cache
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import render

from tests.django.shelf.models import Book

rendered = itertools.count(1)


def count(request):
    """Count over all processes."""
    return HttpResponse(str(cache.incr("count", default=0)))


def page(request):
    """Say who rendered this, and how often it did."""
    response = HttpResponse(f"{os.getpid()}-{next(rendered)}")
    response["X-Rendered"] = "yes"
    response.set_cookie("flavour", "plain")
    return response


def visits(request):
    """Count in the session."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session["visits"]))


def titles():
    """Be lazy: nothing is asked for unless the fragment is rendered."""
    next(rendered)
    yield from Book.objects.order_by("title").values_list("title", flat=True)


def fragment(request, user):
    """Show a template of which a part is cached for each user."""
    return render(request, "fragment.html", {"titles": titles(), "user": user})


def books(request):
    """List what is cached, or else in the database."""
    found = cache.get_or_set("books", lambda: Book.objects.order_by("title"), 60)
    return JsonResponse([book.title for book in found], safe=False)


def media(request, name):
    """Let the web server send a file of the cache."""
    try:
        with cache.read(name) as reader:
            response = HttpResponse()
            response["X-Accel-Redirect"] = reader.name
            response["Content-Type"] = "text/plain"
            return response
    except KeyError:
        raise Http404 from None
