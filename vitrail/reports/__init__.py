"""What a run or an evaluation looks like: plots as PNG files and one HTML page that needs nothing else."""
