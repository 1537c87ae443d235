"""Addresses of the site."""

from django.urls import path
from django.views.decorators.cache import cache_page

from tests.django.project import views

urlpatterns = [
    path("count/", views.count),
    path("page/", cache_page(3600)(views.page)),
    path("plain/", views.page),
    path("visits/", views.visits),
    path("fragment/<str:user>/", views.fragment),
    path("books/", views.books),
    path("media/<str:name>", views.media),
]
