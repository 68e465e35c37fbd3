# shellcheck shell=bash
# How many threads Ollama takes, and how it is told that and other parameters. Sourced after service.sh.
#
# By itself it takes as many as the machine has cores, whatever its job was given, and they spin: on one
# core of two it does not answer. No variable says it another number: a model does (`num_thread`), or a
# request. Requests are the users'. The models are every deployment's, which may have other cores; so a
# replica gets a view of them, in which the same models have other parameters (that one, and what the recipe
# says of loading and sampling):
#   ollama_models/.view.ID     what it reads: a link to .view.ID.d, or, while it fetches, to all models
#   ollama_models/.view.ID.d   manifests of its own; blobs are links to those of all, and parameters
# Weights are neither copied nor read for it. What is fetched goes to all models, and so does, when this
# job ends, what somebody has pulled, made or copied through the running replica. What he deletes is
# deleted in its view alone: others use it. A model of a folder that others keep ($STORE) is in the view
# by links, too, and nowhere else.

# thread_count ASKED REPLICAS: what the recipe asks for; else the cores, divided among the host's replicas.
thread_count() {
  if [ -n "$1" ]; then
    echo "$1"
    return
  fi
  local cores
  cores=$(smallest "$(bound_cores)" "$(quota_cores)" "$(granted_cores)")
  at_least_one $((cores / $2))
}

# smallest NUMBERS...: of those that are numbers.
smallest() {
  local number least=
  # shellcheck disable=SC2048 # a word may have several, in lines
  for number in $*; do
    if [[ $number =~ ^[1-9][0-9]*$ ]] && [ "$number" -lt "${least:-$((number + 1))}" ]; then least=$number; fi
  done
  echo "$least"
}

at_least_one() { echo $(($1 < 1 ? 1 : $1)); }

# bound_cores [SYSTEM]: cores that this process may run on (taskset, a scheduler's binding, cpusets). Two hardware
# threads of one core are one, as for Ollama: both would spin for the same unit.
bound_cores() {
  local system=${1-/sys/devices/system/cpu} cpu siblings
  local -A cores=()
  for cpu in $(cpus_in "$(allowed_cpus)"); do
    { read -r siblings <"$system/cpu$cpu/topology/thread_siblings_list"; } 2>/dev/null || continue # it is off
    cores[$siblings]=1
  done
  if [ "${#cores[@]}" -gt 0 ]; then
    echo "${#cores[@]}"
  else
    env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc
  fi
}

# allowed_cpus: those that this process may run on, as 0-2,5 or so.
allowed_cpus() {
  local name list
  while read -r name list; do
    if [ "$name" = Cpus_allowed_list: ]; then echo "$list"; fi
  done </proc/self/status
}

# cpus_in LIST: of 0-2,5 prints 0 1 2 5.
cpus_in() {
  local range cpu
  for range in ${1//,/ }; do
    for ((cpu = ${range%-*}; cpu <= ${range#*-}; cpu++)); do echo "$cpu"; done
  done
}

# quota_cores [CGROUPS [MEMBERSHIP]]: whole cores that the CPU time of this process's control groups is
# worth, the parents' too, at least one; nothing if no group has a limit.
quota_cores() {
  local root=${1-/sys/fs/cgroup} line path controllers quotas
  mapfile -t quotas < <(
    while IFS= read -r line; do
      controllers=${line#*:}
      path=${controllers#*:}
      case ,${controllers%%:*}, in
        ,,) quotas_up "$path" "$root" "$root/unified" ;;
        *,cpu,*) quotas_up "$path" "$root/cpu" "$root/cpu,cpuacct" ;;
      esac
    done <"${2-/proc/self/cgroup}"
  )
  smallest ${quotas[@]+"${quotas[@]}"}
}

# quotas_up PATH MOUNT...: those of the group and of its parents. In a container's own mount a path of the
# host's may be missing; its root is there.
quotas_up() {
  local path=${1%/} mount
  shift
  while :; do
    for mount in "$@"; do group_quota "$mount$path"; done
    [ -n "$path" ] || return 0
    path=${path%/*}
  done
}

group_quota() {
  local quota='' period=''
  if [ -r "$1/cpu.max" ]; then
    read -r quota period <"$1/cpu.max"
  elif [ -r "$1/cpu.cfs_quota_us" ]; then
    quota=$(<"$1/cpu.cfs_quota_us") period=$(<"$1/cpu.cfs_period_us")
  fi
  if [[ $quota =~ ^[0-9]+$ && $period =~ ^[1-9][0-9]*$ ]]; then at_least_one $((quota / period)); fi
}

# --- the view ------------------------------------------------------------------------------------

# begin_view: sets VIEW, which shows the models in $MODELS: by show_own_models with $NUM_THREAD, and with $PARAMETERS,
# members of a JSON object, if there are any; and those of $STORE that STORED names, which are not in $MODELS.
begin_view() {
  VIEW=$MODELS/.view.$JOB_ID
  TEMPORARY+=("$VIEW" "$VIEW".{d,new})
  # shellcheck disable=SC2034 # service.sh calls it
  AT_END+=(keep_new_models)
}

# keep_new_models: of the view's models those that all models never had are added to them.
keep_new_models() {
  local path
  while IFS= read -r path; do
    if [ ! -e "$MODELS/manifests/$path" ] && ! grep -qxF "$path" "$VIEW.d/shown"; then keep_model "$path"; fi
  done < <(cd "$VIEW.d/manifests" 2>/dev/null && find . -mindepth 4 -maxdepth 4 -type f)
}

# keep_model PATH: its blobs first, so that a manifest never stands without them. A copy of one that was
# there is that one, without our parameters.
keep_model() {
  local source="$VIEW.d/manifests/$1" target="$MODELS/manifests/$1" blob known
  for known in ${STORED[@]+"${STORED[@]}"}; do
    if cmp -s "$source" "$VIEW.d/manifests/$known"; then source=$STORE/manifests/$known; fi
  done
  while IFS= read -r known; do
    if cmp -s "$source" "$VIEW.d/manifests/$known"; then source=$MODELS/manifests/$known; fi
  done < <(cd "$MODELS/manifests" 2>/dev/null && find . -mindepth 4 -maxdepth 4 -type f)
  mkdir -p "$MODELS/blobs"
  while IFS= read -r blob; do
    blob=${blob/:/-}
    if [ -e "$MODELS/blobs/$blob" ]; then
      continue
    elif [ -L "$VIEW.d/blobs/$blob" ] && [ -e "$STORE/blobs/$blob" ]; then
      ln -sfn "$(readlink -f "$STORE/blobs/$blob")" "$MODELS/blobs/$blob"
    elif [ -f "$VIEW.d/blobs/$blob" ]; then
      mv -f "$VIEW.d/blobs/$blob" "$MODELS/blobs/$blob"
    fi
  done < <(grep -oE 'sha256:[0-9a-f]{64}' "$source" | sort -u)
  mkdir -p "${target%/*}" && cp "$source" "$target.$JOB_ID" && mv -f "$target.$JOB_ID" "$target"
  say "kept ${1#./}, which was made while this ran"
}

show_all_models() { point_view .; }

show_own_models() {
  if [ -e "$VIEW.d" ]; then # what it has shown before is made anew
    show_all_models
    rm -rf "$VIEW.d"
  fi
  { mkdir -p "$VIEW.d/blobs" "$VIEW.d/manifests" && : >"$VIEW.d/shown"; } || fail "cannot make $VIEW.d"
  local path
  while IFS= read -r path; do own_manifest "$MODELS" "$path"; done < <(
    cd "$MODELS/manifests" 2>/dev/null && find . -mindepth 4 -maxdepth 4 -type f
  )
  for path in ${STORED[@]+"${STORED[@]}"}; do
    [ -e "$VIEW.d/manifests/$path" ] || own_manifest "$STORE" "./$path" ||
      say "WARNING: $(uname -n) cannot read $path and its blobs in the model store $STORE, so it is fetched"
  done
  point_view "${VIEW##*/}.d"
}

# forget_view: in an imported model's manifest Ollama notes by which way it came to the blob. That way
# ends with this job, and would give the same model another digest in each.
forget_view() {
  find "$MODELS/manifests" -mindepth 4 -maxdepth 4 -type f -exec grep -lF "/${VIEW##*/}/blobs/" {} + |
    while IFS= read -r path; do sed -i "s|/${VIEW##*/}/blobs/|/blobs/|g" "$path"; done
}

# point_view FOLDER: Ollama looks at the link for each request.
point_view() {
  if ! { ln -sfn "$1" "$VIEW.new" && mv -fT "$VIEW.new" "$VIEW"; }; then fail "cannot make the link $VIEW"; fi
}

# own_manifest FOLDER PATH: the view's copy of a manifest, with our parameters. None if a blob is missing:
# somebody fetches it, or has deleted it.
own_manifest() {
  local text rest
  local -A blobs=()
  { text=$(<"$1/manifests/$2"); } 2>/dev/null || return
  rest=$text
  while [[ $rest =~ sha256:([0-9a-f]{64})(.*) ]]; do
    blobs[sha256-${BASH_REMATCH[1]}]=1 rest=${BASH_REMATCH[2]}
  done
  link_blobs "$1" "${!blobs[@]}" || return
  [ -d "$VIEW.d/manifests/${2%/*}" ] || mkdir -p "$VIEW.d/manifests/${2%/*}"
  with_parameters "$text" >"$VIEW.d/manifests/$2"
  echo "$2" >>"$VIEW.d/shown"
}

# link_blobs FOLDER BLOB...: those of a store by where they are in truth, which is all that a container sees of it.
link_blobs() {
  local blob folder=$1
  shift
  for blob in "$@"; do [ -r "$folder/blobs/$blob" ] || return; done
  if [ "$folder" = "$MODELS" ]; then
    [ $# -eq 0 ] || ln -sf "${@/#/../../blobs/}" "$VIEW.d/blobs/"
    return
  fi
  for blob in "$@"; do ln -sf "$(readlink -f "$folder/blobs/$blob")" "$VIEW.d/blobs/$blob"; done
}

# view_weights PATH: sets BLOBS to those of a model of the view that are loaded into memory, and BYTES to their size.
view_weights() {
  local rest
  local of='\{[^{}]*"application/vnd\.ollama\.image\.(model|projector|adapter)"[^{}]*\}(.*)'
  BLOBS=() BYTES=0
  { rest=$(<"$VIEW.d/manifests/$1"); } 2>/dev/null || return 0
  while [[ $rest =~ $of ]]; do
    set -- "${BASH_REMATCH[0]%"${BASH_REMATCH[2]}"}"
    rest=${BASH_REMATCH[2]}
    [[ $1 =~ sha256:([0-9a-f]{64}) ]] && BLOBS+=("sha256-${BASH_REMATCH[1]}")
    [[ $1 =~ \"size\"[[:space:]]*:[[:space:]]*([0-9]+) ]] && BYTES=$((BYTES + BASH_REMATCH[1]))
  done
}

# note_view PATH SOURCE: where a model of the view is read from. SOURCE: how it came here in this job, if it did.
note_view() {
  local BLOBS BYTES source=$2
  if [ -z "$source" ]; then
    source=own
    [ -e "$MODELS/manifests/$1" ] || source=store
  fi
  loading source "$source"
  view_weights "$1"
  [ "${#BLOBS[@]}" -gt 0 ] || return 0
  loading path "$(readlink -f "$VIEW.d/blobs/${BLOBS[0]}")"
  loading bytes "$BYTES"
}

# stage_view WHAT PATH: weights of a model of the view are read from the node's own disk.
stage_view() {
  local BLOBS BYTES blob
  view_weights "$2"
  [ "${#BLOBS[@]}" -gt 0 ] || fail "this Ollama keeps $1 in a way unknown here, so that it cannot be copied to the node's own disk: leave staging out"
  stage "$1" "$VIEW.d/blobs" "${BLOBS[@]}"
  for blob in "${BLOBS[@]}"; do ln -sfn "$STAGED/$blob" "$VIEW.d/blobs/$blob"; done
}

# with_parameters MANIFEST: with a layer of parameters in which ours are. Of two keys of the same name the last
# one counts.
with_parameters() {
  local manifest=$1 layer old='' new ending
  if [[ $manifest =~ \{[^{}]*\"application/vnd\.ollama\.image\.params\"[^{}]*\} ]]; then
    layer=${BASH_REMATCH[0]}
    [[ $layer =~ sha256:([0-9a-f]{64}) ]] && old=$(<"$VIEW.d/blobs/sha256-${BASH_REMATCH[1]}")
    new=$(layer_of "$(with_our_keys "$old")")
    printf '%s\n' "${manifest/"$layer"/$new}"
  elif [[ $manifest =~ \"layers\"[[:space:]]*:[[:space:]]*\[[[:space:]]*\{ ]]; then
    ending=${BASH_REMATCH[0]}
    new="${ending%\{}$(layer_of "$(with_our_keys '')"),{"
    printf '%s\n' "${manifest/"$ending"/$new}"
  else
    printf '%s\n' "$manifest" # of a model that runs elsewhere
  fi
}

# with_our_keys JSON_OBJECT
with_our_keys() {
  local keys="\"num_thread\":$NUM_THREAD${PARAMETERS:+,$PARAMETERS}}" rest
  rest=${1%"${1##*\}}"} # without what follows the last brace
  rest=${rest%\}}
  if [[ $rest =~ ^[[:space:]]*\{?[[:space:]]*$ ]]; then rest='{'; else rest+=,; fi
  printf '%s\n' "$rest$keys"
}

# layer_of PARAMETERS: writes the blob, and prints the layer's place in a manifest.
layer_of() {
  local LC_ALL=C digest # C: the length in bytes
  digest=$(printf %s "$1" | sha256sum)
  digest=${digest%% *}
  [ ! -L "$VIEW.d/blobs/sha256-$digest" ] || rm -f "$VIEW.d/blobs/sha256-$digest" # else it would be written through
  printf %s "$1" >"$VIEW.d/blobs/sha256-$digest"
  printf '{"mediaType":"application/vnd.ollama.image.params","digest":"sha256:%s","size":%d}' "$digest" "${#1}"
}
