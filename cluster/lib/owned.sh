# In: what a cluster of ours started on this machine.  Out: its processes started, told, and ended.
# Rule: a process is ours when the kernel says that it is in our cgroup, and for no other reason: not by its name, not by
# a pid in a file. Every process that we start joins it first, and pods live below it, so nothing escapes and a reused pid
# is never ours.
# shellcheck shell=bash disable=SC2153

# every hierarchy of this machine: one with cgroup v2, one per controller with v1, and the empty v2 one that v1 may have
# beside it (runc enters it)
hierarchies() { awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/self/mounts; }

# the one hierarchy that we count in
anchor() { [ -e /sys/fs/cgroup/cgroup.controllers ] && echo "/sys/fs/cgroup/$CGROUP" || echo "/sys/fs/cgroup/pids/$CGROUP"; }

make_cgroups() {
  local root
  for root in $(hierarchies); do
    mkdir -p "$root/$CGROUP"
    # a v1 cpuset is born empty, and nothing may run in it
    if [ -e "$root/cpuset.cpus" ] && [ -e "$root/tasks" ]; then
      cat "$root/cpuset.cpus" >"$root/$CGROUP/cpuset.cpus"
      cat "$root/cpuset.mems" >"$root/$CGROUP/cpuset.mems"
    fi
  done
  mkdir -p "$(anchor)/system"
  pass_controllers_down
}

# with cgroup v2, kubelet wants in its own root every controller that the machine has
pass_controllers_down() {
  local controllers controller folder
  [ -e /sys/fs/cgroup/cgroup.controllers ] || return 0
  read -ra controllers </sys/fs/cgroup/cgroup.controllers
  for folder in /sys/fs/cgroup "/sys/fs/cgroup/$CGROUP"; do
    for controller in "${controllers[@]}"; do
      echo "+$controller" 2>/dev/null >"$folder/cgroup.subtree_control" || true
    done
  done
}

owned_pids() {
  local top
  top=$(anchor)
  [ ! -d "$top" ] || find "$top" -name cgroup.procs -exec cat {} + 2>/dev/null || true
}

# start NAME COMMAND...: in the background, in our cgroup, with a log of its own and without our lock
start() {
  local name=$1
  shift
  (
    echo "$BASHPID" >"$(anchor)/system/cgroup.procs"
    echo "$BASHPID" >"$PIDS/$name"
    exec setsid "$@" >"$LOG/$name.log" 2>&1 </dev/null 9>&-
  ) &
}

# dead: the names of the components that were started and no longer run
dead() {
  local file
  for file in "$1"/pids/*; do
    [ -e "$file" ] || continue
    owned_pids | grep -qx "$(cat "$file")" || basename "$file"
  done
}

# With cgroup v1 a frozen process does not even end by SIGKILL, and runc freezes a container to end it: when runc is killed
# in that moment, nobody thaws it.
thaw_owned() {
  local root
  for root in $(hierarchies); do
    [ ! -d "$root/$CGROUP" ] || find "$root/$CGROUP" -name freezer.state -exec sh -c 'for s; do echo THAWED >"$s"; done' - {} + 2>/dev/null || true
  done
}

end_owned() {
  local tries pids
  for ((tries = 0; tries < 200; tries++)); do
    mapfile -t pids < <(owned_pids)
    [ ${#pids[@]} -gt 0 ] || return 0
    thaw_owned
    kill -KILL "${pids[@]}" 2>/dev/null || true
    sleep 0.05
  done
  die "these processes of the cluster do not end (waiting for a device?): ${pids[*]}"
}

remove_cgroups() {
  local root tries
  for root in $(hierarchies); do
    for ((tries = 0; tries < 100; tries++)); do
      [ -d "$root/$CGROUP" ] || break
      find "$root/$CGROUP" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.05
    done
  done
}
