"""Bundles: run cells on a machine without a network and bring their results back.

`packing` and `contents` determine the files of a bundle, `download` and `archive` make it.
`collection` imports its results after `verification` of each `node_result`. The code that runs on
the other machine is in `node/`.
"""
