"""A small site. Where its data lie comes from the environment; tests override the rest."""

import os

DATA = os.environ.get("SHELF_DATA", "/nonexistent")

SECRET_KEY = "the secret of a site that exists for tests only"
DEBUG = False
ALLOWED_HOSTS = ["*"]
# The time zone and the logging of the process that runs the tests stay as they are.
TIME_ZONE = None
USE_TZ = False
LOGGING_CONFIG = None
USE_I18N = False
ROOT_URLCONF = "tests.django.project.urls"
INSTALLED_APPS = ["django.contrib.sessions", "tests.django.shelf"]
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]
SESSION_ENGINE = "django.contrib.sessions.backends.cache"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(DATA, "db.sqlite3")}
}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "loaders": [
                (
                    "django.template.loaders.locmem.Loader",
                    {
                        "fragment.html": (
                            "{% load cache %}{% cache 3600 'titles' user %}"
                            "{% for title in titles %}<b>{{ title }}</b>{% endfor %}{% endcache %}"
                        )
                    },
                )
            ]
        },
    }
]
CACHES = {
    "default": {"BACKEND": "diskcache.DjangoCache", "LOCATION": os.path.join(DATA, "cache")},
}
