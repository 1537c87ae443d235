"""Books, to have something in a database."""

from django.db import models


class Book(models.Model):
    title = models.CharField(max_length=100)
    pages = models.IntegerField(default=0)

    class Meta:
        app_label = "shelf"

    def __str__(self):
        return self.title
