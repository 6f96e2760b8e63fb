"""Cells and builds as jobs: of this machine, or of Slurm through submitit."""
