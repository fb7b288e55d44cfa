"""Files that lie: what is done to a good file (`kinds`), what then reads it (`verbs`), and where it
is watched (`ward`)."""
