"""The HTTP application: counting over HTTP, and a page that shows heads, interval and zones together."""
