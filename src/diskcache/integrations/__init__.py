"""Where frameworks meet this library: a module named for one needs it installed."""
