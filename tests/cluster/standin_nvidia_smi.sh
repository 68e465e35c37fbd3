#!/bin/bash
# Stands in for nvidia-smi of a node with one GPU that draws 250 W.
case $1 in
  --help-query-gpu)
    printf '"%s"\n' index uuid name utilization.gpu utilization.memory memory.used memory.free \
      power.draw temperature.gpu clocks.sm clocks.mem clocks_event_reasons.active
    exit
    ;;
  --query-gpu=name,driver_version)
    echo 'NVIDIA A100-SXM4-40GB, 535.104.05'
    exit
    ;;
esac
while :; do
  echo '0, GPU-a, NVIDIA A100-SXM4-40GB, 87, 41, 30000, 10000, 250.00, 61, 1410, 1215, 0x0000000000000000'
  sleep 1
done
