"""How fast this machine plays and learns, against the published arrangement and against what its hardware allows."""
