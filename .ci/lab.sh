# The cluster of ../shared/lab, where that is present: it is made in the background, of the time that nothing else
# wants (what is tested meanwhile are crashes and time-outs), and taken down again if it was not there before. Sourced by
# run. SECONDS counts from the start.
lab=../shared/lab/lab
readonly CLUSTER_WITHIN_S=2700  # until Kubernetes is there
readonly ADDONS_WITHIN_S=2400   # until the parts below are there: the tests of what is missing are left out
readonly PARTS='monitoring scaling' # after kube, in this order, as far as there is time
readonly EXTENDED_WITHIN_S=2800 # until a part of the extended suite or another server's begins: it is left out otherwise
readonly VALKEY_WITHIN_S=300    # Debian's Valkey is taken out of an image in this time, or left out
readonly EVERYTHING='the tests of the images, and every end-to-end test'

valkey=.venv/valkey/valkey-server # what `make test-valkey` runs on where none is on PATH

lab_work='' lab_pid='' lab_was_up=''
not_run='' # what was left out; the last line of all says so

begin_lab() {
  if [ ! -x "$lab" ]; then
    echo ".ci/run: ../shared/lab is not here: images and charts will not be tried on a cluster (make e2e does)"
    not_run=$EVERYTHING
    return
  fi
  if [ "$(id -u)" -ne 0 ]; then
    echo ".ci/run: ../shared/lab needs root: images and charts will not be tried on a cluster (make e2e does)"
    not_run=$EVERYTHING
    return
  fi
  lab_work=$(mktemp -d)
  if [[ $("$lab" status) == *' running'* ]]; then lab_was_up=1; fi
  # A session of its own: its daemons leave it, its compilers go with it.
  # shellcheck disable=SC2016 # expanded by the shell inside
  setsid chrt --idle 0 bash -c '
    for part in kube $2; do
      "$0" up "$part" || exit 1
      touch "$1/$part"
    done' "$lab" "$lab_work" "$PARTS" >"$lab_work/log" 2>&1 </dev/null &
  lab_pid=$!
}

# What starts now sees no container engine, even if one comes up in the midst of it.
without_lab() {
  if [ -n "$lab_work" ] && [ -z "$lab_was_up" ]; then
    DOCKER_HOST=unix:///dev/null "$@"
  else
    "$@"
  fi
}

# has PART SECONDS: wait for it, until so many seconds after the start; false if it is not there then.
has() {
  while [ ! -e "$lab_work/$1" ]; do
    if ! kill -0 "$lab_pid" 2>/dev/null || [ "$SECONDS" -ge "$2" ]; then
      [ -e "$lab_work/$1" ] && break
      return 1
    fi
    sleep 2
  done
}

on_the_lab() {
  [ -n "$lab_work" ] || return 0
  if ! has kube "$CLUSTER_WITHIN_S"; then
    tail -n 20 "$lab_work/log"
    not_run=$EVERYTHING
    echo ".ci/run: ../shared/lab has no cluster after $((SECONDS / 60)) minutes; see above"
    return 0
  fi
  local part
  for part in $PARTS; do
    has "$part" "$ADDONS_WITHIN_S" || not_run+="${not_run:+, }$part"
  done
  if [ -n "$not_run" ]; then
    tail -n 5 "$lab_work/log"
    not_run="the end-to-end tests of $not_run"
    echo ".ci/run: after $((SECONDS / 60)) minutes the cluster is not ready for $not_run; see above"
    stop_making
  fi
  # What was made of idle time now runs as everything else does.
  ps -eo pid=,cls= | awk '$2 == "IDL" {print $1}' | xargs -r -n 1 chrt --all-tasks --other --pid 0 2>/dev/null || true
  eval "$("$lab" env)"
  for image in redis:8 postgres:17; do
    docker tag "$image" "$LAB_REGISTRY/$image"
    docker push --quiet "$LAB_REGISTRY/$image"
  done
  make test-images DOCKER_BUILD_FLAGS='--network host'
  timeout "$VALKEY_WITHIN_S" make "$valkey" DOCKER_BUILD_FLAGS='--network host' || true
  make e2e REGISTRY="$LAB_REGISTRY" REDIS_REGISTRY="$LAB_REGISTRY" DOCKER_BUILD_FLAGS='--network host' \
    LOSE_NODE="$lab lose lab2" RESTORE_NODE="$lab up nodes"
  # What comes next takes time for granted, which the cluster uses all the while.
  [ -n "$lab_was_up" ] || "$lab" down
}

# What `make test-all` has besides `make test`, in parts, as far as there is time.
extended() {
  local part left_out=''
  for part in charts docs integration protocol story system lab web; do
    if [ "$SECONDS" -ge "$EXTENDED_WITHIN_S" ]; then
      left_out+=" tests/$part"
    else
      without_lab make test-extended PART="tests/$part"
    fi
  done
  [ -z "$left_out" ] || not_run+="${not_run:+; }the extended tests of$left_out"
}

# The integration tests on servers that `make test` has not used, as far as there is time.
other_servers() {
  local server left_out=''
  for server in valkey wheel; do
    if [ "$SECONDS" -ge "$EXTENDED_WITHIN_S" ] || { [ "$server" = valkey ] && ! has_valkey; }; then
      left_out+=" test-$server"
    else
      without_lab make "test-$server"
    fi
  done
  [ -z "$left_out" ] || not_run+="${not_run:+; }make$left_out"
}

has_valkey() { [ -x "$valkey" ] || command -v valkey-server >/dev/null; }

stop_making() { kill -- "-$lab_pid" 2>/dev/null || true; }

end_lab() {
  local status=$?
  if [ -n "$lab_work" ]; then
    stop_making
    if [ -z "$lab_was_up" ]; then "$lab" down || true; fi
    rm -rf "$lab_work"
  fi
  if [ "$status" -eq 0 ] && [ -n "$not_run" ]; then
    echo ".ci/run: what ran has passed. NOT RUN: $not_run."
  fi
}
