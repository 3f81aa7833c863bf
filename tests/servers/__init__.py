"""Small real HTTP servers: one that is told what to say, one that scores, one that breaks."""
