"""The memory tier: what a process keeps of a cache, never stale. See `diskcache.coherence`."""
