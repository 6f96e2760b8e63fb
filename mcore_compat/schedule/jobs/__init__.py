"""Where cells run beside this process: one GPU each on one machine (`slots`), or as jobs of Slurm
or of this machine through submitit (`command`, `drive`)."""
