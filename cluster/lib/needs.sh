# In: this machine.  Out: nothing, or a sentence that says what is missing and what to do.  Rule: looks only; installs
# Debian packages when it is root on a Debian, for nothing else here can be had by itself.
# shellcheck shell=bash

INSTEAD="or set KUBECONFIG to a cluster that you have (kind, k3d, a real one)"
PACKAGES=(containerd runc containernetworking-plugins buildah mmdebstrap nftables iproute2 openssl curl gcc libc6-dev)

needs_linux() { [ "$(uname -s)" = Linux ] || die "a cluster of our own needs Linux, and this is $(uname -s): use a Linux machine, $INSTEAD."; }

needs_root() { [ "$(id -u)" -eq 0 ] || die "a cluster of our own needs root (it makes a bridge, mounts and cgroups), and this is $(id -un 2>/dev/null || id -u): use sudo, $INSTEAD."; }

# CAP_NET_ADMIN is bit 12, CAP_SYS_ADMIN bit 21; root in an ordinary container has neither
needs_rights() {
  local held
  held=$((16#$(awk '/^CapEff/ { print $2 }' /proc/self/status)))
  (((held >> 12 & 1) && (held >> 21 & 1))) || die "this root may not make bridges and mounts (an unprivileged container?): use a machine of your own or a privileged container, $INSTEAD."
}

needs_disk() { # GIGABYTES, for what
  mkdir -p "$STATE"
  local free
  free=$(df --output=avail -BG "$STATE" | tail -n 1 | tr -dc 0-9)
  [ "$free" -ge "$1" ] || die "$2 needs about $1 GB in $STATE, and $free GB are free: make room, or set XDG_CACHE_HOME to a larger disk."
}

# containerd's sockets lie below it, and the kernel allows a socket 107 characters
needs_short_path() { [ ${#SOCKET} -le 100 ] || die "$SOCKET is too long a path for a socket (${#SOCKET} characters, 100 at most): set XDG_CACHE_HOME to a shorter folder."; }

needs_packages() {
  local missing=() command
  for command in containerd ctr runc buildah mmdebstrap nft ip openssl curl gcc; do
    command -v "$command" >/dev/null || missing+=("$command")
  done
  [ -x "$CNI_BIN/bridge" ] && [ -x "$CNI_BIN/host-local" ] || missing+=("$CNI_BIN/bridge")
  [ ${#missing[@]} -eq 0 ] && return
  command -v apt-get >/dev/null || die "missing: ${missing[*]}. Install them (Debian calls the packages ${PACKAGES[*]}), $INSTEAD."
  mkdir -p "$LOGS"
  progress "installing Debian packages (missing: ${missing[*]})" "$LOGS/packages.log" install_packages
}

install_packages() {
  # dpkg would start containerd as a service; this machine is not asked to run one
  local policy=/usr/sbin/policy-rc.d mine=
  [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; mine=1; }
  local code=0
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${PACKAGES[@]}"; } || code=$?
  [ -z "$mine" ] || rm -f "$policy"
  return $code
}

# sudo's PATH often lacks Go's usual place
GO=${GO:-$(command -v go || echo /usr/local/go/bin/go)}

needs_go() { # MODULE FOLDER: go itself tells whether it is new enough for go.mod
  local wanted said
  wanted=$(awk '$1 == "go" { print $2 }' "$1/go.mod")
  command -v "$GO" >/dev/null || die "the cluster's programs are compiled with Go $wanted or newer, and there is no Go here: install it (https://go.dev/dl), $INSTEAD."
  said=$(cd "$1" && "$GO" version 2>&1) || die "the cluster's programs are compiled with Go $wanted or newer: $said. Install a newer Go (https://go.dev/dl), $INSTEAD."
}

needs_free_ports() {
  local port
  for port in "${PORTS[@]}"; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      die "port $port of this machine is taken ($(holder "$port")), and the cluster needs it: stop what holds it, $INSTEAD."
    fi
  done
}

holder() { ss -Hltnp "sport = :$1" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/by \1, pid \2/p' | head -n 1; }

needs_free_network() {
  local taken
  taken=$(ip -o -4 addr show to "$CLUSTER_CIDR" | awk '{ print $2 " has " $4; exit }')
  [ -z "$taken" ] || die "the cluster uses the addresses $CLUSTER_CIDR, but $taken on this machine: another cluster? Stop it, $INSTEAD."
}
