"""Pictures: any input as RGB pixels, and the tiles that the network sees."""
