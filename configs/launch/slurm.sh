#!/bin/bash
# N nodes of 8 H100: sbatch --nodes 2 configs/launch/slurm.sh --config sv4d-train [--section.key value …]
# Two nodes at batch 1 per GPU are SV4D's effective batch of 16. Resubmitting the same line resumes.
#SBATCH --job-name viewtime
#SBATCH --ntasks-per-node 1
#SBATCH --gpus-per-node 8
#SBATCH --cpus-per-task 96
#SBATCH --time 24:00:00
#SBATCH --signal USR1@180
#SBATCH --requeue
#SBATCH --output runs/slurm-%j.log
set -euo pipefail
ZERO=${ZERO:-2}  # DeepSpeed ZeRO stage: 1, 2 or 3
head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=8
# SIGUSR1 comes 3 minutes before the limit, to every task of the step: torchrun does not hand it on, so each node's
# shell sends SIGTERM to its launcher, which does; the loop then saves and exits.
srun --kill-on-bad-exit=1 bash -c '
  accelerate launch --config_file "configs/launch/gpu8-zero'"$ZERO"'.yaml" \
    --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * 8))" --machine_rank "$SLURM_NODEID" \
    --main_process_ip "'"$head_node"'" --main_process_port 29500 --deepspeed_multinode_launcher standard \
    train/train.py "$@" &
  launcher=$!
  trap "kill -TERM $launcher" USR1 TERM
  while kill -0 $launcher 2>/dev/null; do wait $launcher && exit 0; status=$?; done
  exit ${status:-1}
' launch "$@"
