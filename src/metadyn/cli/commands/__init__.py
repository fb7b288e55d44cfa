"""The commands of `metadyn`, a module each.

A module `name` has a function `name`, whose arguments are the command's and whose docstring is its
help, and may have an EPILOG that stands below it. The function calls the verb of that name in
`metadyn` (`read_model` for `metadyn model`) and prints what came of it.
"""
