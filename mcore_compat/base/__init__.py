"""Files, processes, errors, progress: nothing specific to megatron-core or ModelOpt."""
