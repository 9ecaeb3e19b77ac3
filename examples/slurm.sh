#!/bin/bash
# Training on SLURM: one torchrun a node, one process a device. SLURM's SIGTERM ends a job with its state saved, and the
# same job, queued again, goes on from there.
#   sbatch examples/slurm.sh imagenet.yaml /shared/runs/imagenet
#SBATCH --job-name=vitrail
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail

RECIPE=$1
OUT=$2
HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

srun --kill-on-bad-exit=1 torchrun \
  --nnodes="$SLURM_JOB_NUM_NODES" \
  --nproc-per-node="$SLURM_GPUS_ON_NODE" \
  --rdzv-id="$SLURM_JOB_ID" \
  --rdzv-backend=c10d \
  --rdzv-endpoint="$HEAD:29500" \
  -m vitrail train "$RECIPE" --out "$OUT" --resume
