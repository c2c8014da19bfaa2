"""What becomes of the frames of a stream: videos, a live page, JSON lines, CSV and maps."""
