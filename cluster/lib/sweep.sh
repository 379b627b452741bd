# In: the state folder of a cluster, alive, half alive or dead.  Out: a machine as it was before that cluster.
# Rule: `down`, and `up` after a killed cluster, walk this one way, so it is walked often; each step may find nothing to do.
# shellcheck shell=bash

# the kernel settings that kubelet, kube-proxy and the bridge may change
sysctls() { printf '%s\n' vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes net.ipv4.ip_forward net.ipv4.conf.all.route_localnet net.bridge.bridge-nf-call-iptables net.bridge.bridge-nf-call-ip6tables net.netfilter.nf_conntrack_max net.netfilter.nf_conntrack_tcp_timeout_established net.netfilter.nf_conntrack_tcp_timeout_close_wait; }

remember_sysctls() {
  local name
  for name in $(sysctls); do sysctl -e "$name" 2>/dev/null || true; done >"$RUN/sysctls"
}

restore_sysctls() { # STATE'S RUN FOLDER: only what differs is written
  local name value
  [ -e "$1/sysctls" ] || return 0
  while IFS='=' read -r name value; do
    name=${name% } value=${value# }
    [ "$(sysctl -n "$name" 2>/dev/null)" = "$value" ] || sysctl -qw "$name=$value" || true
  done <"$1/sysctls"
}

# containerd 1 writes a shim's socket into `address`, containerd 2 into `bootstrap.json`
remove_sockets_of_shims() {
  local socket
  { grep -oh 'unix://[^"]*' "$1"/containerd-state/io.containerd.runtime.v2.task/*/*/{address,bootstrap.json} 2>/dev/null || true; } |
    while read -r socket; do rm -f "${socket#unix://}"; done
  rmdir /run/containerd/s /run/containerd 2>/dev/null || true
}

unmount_below() {
  local mount
  awk -v below="$1/" 'index($2, below) == 1 { print $2 }' /proc/self/mounts | sort -r | while read -r mount; do
    umount -l "$(printf '%b' "$mount")" || true
  done
  ! awk -v below="$1/" 'index($2, below) == 1 { found = 1 } END { exit !found }' /proc/self/mounts ||
    die "something below $1 is still mounted, so the folder is left as it is: see 'grep $1 /proc/mounts'."
}

remove_network() {
  local link
  if ip link show "$BRIDGE" >/dev/null 2>&1; then
    for link in $(ip -o link show master "$BRIDGE" | sed 's/^[0-9]*: \([^@:]*\).*/\1/'); do ip link del "$link" 2>/dev/null || true; done
    ip link del "$BRIDGE"
  fi
  nft delete table ip kube-proxy 2>/dev/null || true
  nft delete table ip6 kube-proxy 2>/dev/null || true
}

# kubelet, containerd and CNI leave notes in places that cannot be chosen
remove_notes() {
  local note sandbox
  for note in /var/log/containers/*; do
    case $(readlink "$note" || true) in "$1"/*) rm -f "$note" ;; esac
  done
  for sandbox in "$1"/containerd/io.containerd.grpc.v1.cri/sandboxes/*; do
    rm -f /var/lib/cni/results/*-"$(basename "$sandbox")"-*
  done
  rm -f /var/lib/kubelet/device-plugins/kubelet.sock
  [ -s /etc/cni/net.d/cni.lock ] || rm -f /etc/cni/net.d/cni.lock
  rmdir -p /var/log/containers /var/lib/cni/results /var/lib/kubelet/device-plugins /etc/cni/net.d 2>/dev/null || true
}

sweep() { # STATE'S RUN FOLDER
  end_owned
  remove_sockets_of_shims "$1"
  remove_notes "$1"
  unmount_below "$1"
  remove_network
  remove_cgroups
  restore_sysctls "$1"
  rm -rf --one-file-system "$1"
  rm -f "$OWNER"
}
