"""Parts of the suite that are run by themselves: several ranks, and the GPU tier.

run → evidence → report; the checks are in `suite/ranks/` and `suite/gpu/`. A part has a digest of
its own, and its evidence lies beside the main evidence, so that neither makes the other stale.
"""
