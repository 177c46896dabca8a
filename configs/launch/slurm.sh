#!/bin/bash
# N nodes of 8 H100: sbatch --nodes 2 configs/launch/slurm.sh --config sv4d-train [--section.key value …]
# Two nodes at batch 1 per GPU are SV4D's effective batch of 16. Resubmitting the same line resumes.
# LAUNCH=gpu8-zero2 names the launch file, GPUS=8 its processes a node. More time to save: sbatch --signal USR1@600 …
# Ends with 138 when slurm's warning ended it: every process has saved, or the log says why not.
#SBATCH --job-name viewtime
#SBATCH --ntasks-per-node 1
#SBATCH --gpus-per-node 8
#SBATCH --cpus-per-task 96
#SBATCH --time 24:00:00
#SBATCH --signal USR1@180
#SBATCH --requeue
#SBATCH --output runs/slurm-%j.log
set -euo pipefail
export LAUNCH=${LAUNCH:-gpu8-zero2} GPUS=${GPUS:-8} OMP_NUM_THREADS=${OMP_NUM_THREADS:-8}
HEAD_NODE=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export HEAD_NODE
# The warning comes to every process of the step. The launcher would die of it, and of a SIGTERM kill its workers after
# 30 seconds: it must not see the first. The node's shell hands it to the workers once more, for a slurm that tells the
# task's first process alone.
srun --kill-on-bad-exit=1 bash -c '
  (trap "" USR1; exec accelerate launch --config_file "configs/launch/$LAUNCH.yaml" \
    --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * GPUS))" --machine_rank "$SLURM_NODEID" \
    --main_process_ip "$HEAD_NODE" --main_process_port "${MASTER_PORT:-29500}" \
    --deepspeed_multinode_launcher standard train/train.py "$@") &
  launcher=$! warned=false
  trap "warned=true; pkill -USR1 -P $launcher -f train/train.py" USR1
  trap "kill -TERM $launcher" TERM
  status=0
  wait $launcher || status=$?
  while kill -0 $launcher 2>/dev/null; do status=0; wait $launcher || status=$?; done
  if $warned && [ $status -ne 0 ]; then exit 138; fi
  exit $status
' launch "$@"
