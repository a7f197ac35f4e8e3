"""HTTP and WebSocket: listeners, feeds, access, limits, API, metrics. No torch."""
