# shellcheck shell=bash
# Which of a node's cores and GPUs each of its replicas gets: equal shares of what the job has there, none of
# them in two. Sourced after threads.sh.
#
# A share of cores is of whole cores, with those of their hardware threads that the job may use, and lies in one
# NUMA domain, unless there are fewer replicas than domains. So no two replicas compute in one core as long as
# there are enough.

# share_cores COUNT: sets CORE_SHARES to COUNT lists of CPUs, as taskset takes them; to nothing if the job has a
# number of cores, but may run on others, too: there each job would take the same. Sets SHARERS to how many
# replicas divide among them the cores that each may run on.
# shellcheck disable=SC2034 # who sources this reads them
share_cores() {
  local bound most
  CORE_SHARES=() SHARERS=$1
  bound=$(bound_cores)
  most=$(smallest "$bound" "$(quota_cores)" "$(granted_cores)")
  if [ "$most" -lt "$bound" ]; then
    say "replicas are not bound to cores: this job has $most, but runs on $bound, which are others', too"
  elif command -v taskset >/dev/null; then
    mapfile -t CORE_SHARES < <(core_shares "$1")
    [ "${#CORE_SHARES[@]}" -lt "$1" ] || SHARERS=1
  else
    say "replicas are not bound to cores: there is no taskset on $HOST"
  fi
}

# core_shares COUNT [SYSTEM [CPUS]]: COUNT lines, each the CPUs of a replica, of CPUS or those that this process
# may run on; nothing if the system does not tell of cores. With fewer cores than replicas some have the same.
core_shares() {
  local count=$1 system=${2-/sys/devices/system} allowed=${3-}
  [ -n "$allowed" ] || allowed=$(allowed_cpus)
  cpus_by_core "$system" "$allowed" | sort -n -k 1,1 -k 2,2 -k 3,3 | awk -v count="$count" '
    NR == 1 || $1 != domain { domain = $1; core = ""; first[++domains] = cores + 1 }
    $2 != core { core = $2; cores++; size[domains]++ }
    { cpu[cores, ++threads[cores]] = $3 }

    # CPUs of a number of cores in ranges, all first threads before all second ones.
    function list(from, number, thread, i, now, start, before, all, any) {
      for (thread = 1; thread == 1 || any; thread++) {
        any = 0
        for (i = from; i < from + number; i++) {
          if (thread > threads[i]) continue
          any = 1
          now = cpu[i, thread]
          if (start != "" && now == before + 1) { before = now; continue }
          all = joined(all, start, before)
          start = before = now
        }
      }
      return joined(all, start, before)
    }

    function joined(all, start, end) {
      if (start == "") return all
      return all (all == "" ? "" : ",") start (end == start ? "" : "-" end)
    }

    # Shares of a number of cores, which differ by one at most.
    function cut(from, number, parts, part, start) {
      for (part = 0; part < parts; part++) {
        start = int(number * part / parts)
        print list(from + start, int(number * (part + 1) / parts) - start)
      }
    }

    END {
      if (cores == 0) exit
      if (cores < count) {
        for (i = 0; i < count; i++) print list(i % cores + 1, 1)
      } else if (count < domains) {
        cut(1, cores, count)
      } else {
        # Each replica goes where its share is the largest.
        for (i = 0; i < count; i++) {
          best = 1
          for (d = 2; d <= domains; d++)
            if (size[d] / (there[d] + 1) > size[best] / (there[best] + 1)) best = d
          there[best]++
        }
        for (d = 1; d <= domains; d++) cut(first[d], size[d], there[d])
      }
    }'
}

# cpus_by_core SYSTEM CPUS: a line "NUMA-domain core CPU" for each of them that is on.
cpus_by_core() {
  local folder cpu siblings
  local -A domains=()
  for folder in "$1"/node/node[0-9]*; do
    [ -r "$folder/cpulist" ] || continue
    for cpu in $(cpus_in "$(<"$folder/cpulist")"); do domains[$cpu]=${folder##*node}; done
  done
  for cpu in $(cpus_in "$2"); do
    { read -r siblings <"$1/cpu/cpu$cpu/topology/thread_siblings_list"; } 2>/dev/null || continue
    echo "${domains[$cpu]-0} ${siblings%%[,-]*} $cpu"
  done
}

# --- GPUs ----------------------------------------------------------------------------------------

# share_gpus COUNT EACH VENDOR: sets GPU_SHARES to COUNT lists of EACH devices.
share_gpus() {
  local devices=() i own
  GPU_SHARES=()
  [ "$2" -gt 0 ] || return 0
  mapfile -t devices < <(job_gpus "$3")
  [ "${#devices[@]}" -ge $(($1 * $2)) ] ||
    fail "$1 replica(s) of $2 GPU(s) are to run on $HOST, but the job has ${#devices[@]} there, as the scheduler's variables say, or the driver; ask for as many (\"gpus\"), or for fewer replicas (\"replicas_per_node\")"
  for ((i = 0; i < $1; i++)); do
    own=("${devices[@]:i*$2:$2}")
    GPU_SHARES+=("$(
      IFS=,
      echo "${own[*]}"
    )")
  done
}

# job_gpus VENDOR: the GPUs that this job has on this node, one a line, as the variable of gpu_variable takes them.
# What the scheduler says goes before what the driver knows; JOB_GPUS is by the numbers of the whole node.
job_gpus() {
  local variable list
  for variable in "$(gpu_variable "$1")" GPU_DEVICE_ORDINAL JOB_GPUS; do
    list=${!variable-}
    if [[ $list =~ ^[A-Za-z0-9_,/:.-]+$ && $list != NoDevFiles ]]; then
      tr , '\n' <<<"$list"
      return
    fi
  done
  if [ "$1" = amd ]; then amd_gpus; else nvidia_gpus; fi
}

gpu_variable() { if [ "$1" = amd ]; then echo ROCR_VISIBLE_DEVICES; else echo CUDA_VISIBLE_DEVICES; fi; }

# By nvidia-smi, as note_gpus: no Python of ours need be where a job script runs.
nvidia_gpus() { nvidia-smi -L 2>/dev/null | sed -n 's/^GPU .*(UUID: \(GPU-[^)]*\)).*/\1/p'; }

# amd_gpus [SYSTEM]: the kernel knows CPUs by the identity 0, and others in the order of ROCr's numbers.
amd_gpus() {
  local count
  count=$(cat "${1-/sys}"/class/kfd/kfd/topology/nodes/*/gpu_id 2>/dev/null | grep -cv '^0$')
  seq 0 $((count - 1))
}

# only_gpus VENDOR DEVICES COMMAND...: runs it with these alone. Of the other variables some would choose among
# them once more.
only_gpus() {
  local name variable changes=()
  variable=$(gpu_variable "$1")
  for name in CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES GPU_DEVICE_ORDINAL; do
    [ "$name" = "$variable" ] || changes+=(-u "$name")
  done
  # By the bus, as the driver and exporters number them: CUDA puts the fastest first.
  [ "$1" != nvidia ] || changes+=(CUDA_DEVICE_ORDER=PCI_BUS_ID)
  env "${changes[@]}" "$variable=$2" "${@:3}"
}
