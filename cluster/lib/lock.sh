# In: LOCK and OWNER of this machine.  Out: the right to change the cluster, or a sentence that says who has it.
# Rule: the lock is held while `up` or `down` works; who owns a cluster that runs is told by OWNER and by its processes.
# shellcheck shell=bash

# take_lock [SECONDS]: for how long to wait for who has it
take_lock() {
  exec 9>>"$LOCK"
  flock -n 9 || { [ -n "${1:-}" ] && say "Waiting for another ($(cat "$LOCK" 2>/dev/null)) to end" && flock -w "$1" 9; } ||
    die "another cluster-up or cluster-down is at work on this machine ($(cat "$LOCK" 2>/dev/null)): wait for it to end, then try again."
  printf '%s, pid %s, since %s\n' "$(basename "$0")" $$ "$(date +%T)" >"$LOCK"
}

# RUN folder of the cluster that owns this machine's bridge, ports and cgroup; ours when there is none
owning_run() { sed -n 's/^run=//p' "$OWNER" 2>/dev/null | grep . || echo "$RUN"; }

owner_says() { sed -n "s/^$1=//p" "$OWNER" 2>/dev/null; }

write_owner() {
  printf 'run=%s\nby=%s\nsince=%s\n' "$RUN" "${SUDO_USER:-$(id -un)}, pid $$, from $TREE" "$(date '+%F %T')" >"$OWNER"
}

# none | up | broken: a cluster that lost a component is broken, and nobody's
condition() {
  local run
  run=$(owning_run)
  if [ ! -e "$OWNER" ] && [ ! -d "$run" ] && [ -z "$(owned_pids)" ]; then echo none
  elif [ -e "$run/ready" ] && [ -n "$(owned_pids)" ] && [ -z "$(dead "$run")" ]; then echo up
  else echo broken; fi
}
