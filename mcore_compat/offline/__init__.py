"""Bundles: cells carried to a machine without a network, run there, their results brought back.

Here: `packing` and `contents` say what is in a bundle, `download` and `archive` make it;
`collection` takes back what came of it after `verification` of each `node_result`. What runs there
is in `node/`.
"""
